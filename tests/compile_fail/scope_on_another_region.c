// clang: writing the value pointed to by 'secret' requires holding (region|mutex) 'vault' exclusively
// clang++: writing the value pointed to by 'secret' requires holding (region|mutex) 'vault' exclusively
#include "example.h"

void test(void);
void test(void)
{
#ifdef MISTAKE
    pkeyguard_scoped_write (int, number, other_vault)
#else
    pkeyguard_scoped_write (int, number, vault)
#endif
        *secret = 1;
}
