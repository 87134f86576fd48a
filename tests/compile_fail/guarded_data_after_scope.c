// clang: writing the value pointed to by 'secret' requires holding (region|mutex) 'vault' exclusively
// clang++: writing the value pointed to by 'secret' requires holding (region|mutex) 'vault' exclusively
#include "example.h"

void test(void);
void test(void)
{
    pkeyguard_scoped_write (int, number, vault) {
        *secret = 1;
    }
#ifdef MISTAKE
    *secret = 2;
#endif
}
