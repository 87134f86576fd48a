// clang: reading the value pointed to by 'secret' requires holding (region|mutex) 'vault'
// clang++: reading the value pointed to by 'secret' requires holding (region|mutex) 'vault'
#include "example.h"

void test(void);
void test(void)
{
    pkeyguard_try_scoped_write (int, number, vault) {
        *secret = 1;
    } else {
#ifdef MISTAKE
        use(*secret);
#endif
        use(errno);
    }
}
