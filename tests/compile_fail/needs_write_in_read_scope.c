// clang: calling function 'rotate' requires holding (region|mutex) 'vault' exclusively
// clang++: calling function 'rotate' requires holding (region|mutex) 'vault' exclusively
#include "example.h"

void test(void);
void test(void)
{
#ifdef MISTAKE
    pkeyguard_scoped_read (int, number, vault)
#else
    pkeyguard_scoped_write (int, number, vault)
#endif
        rotate();
}
