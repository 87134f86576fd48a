// clang: calling function 'inspect' requires holding (region|mutex) 'vault'
// clang++: calling function 'inspect' requires holding (region|mutex) 'vault'
#include "example.h"

void test(void);
void test(void)
{
#ifndef MISTAKE
    pkeyguard_scoped_read (int, number, vault)
#endif
        inspect();
}
