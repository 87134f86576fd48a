// clang: reading the value pointed to by 'secret' requires holding (region|mutex) 'vault'
// clang++: reading the value pointed to by 'secret' requires holding (region|mutex) 'vault'
#include "example.h"

void test(void);
void test(void)
{
#ifndef MISTAKE
    pkeyguard_scoped_read (int, number, vault)
#endif
        use(*secret);
}
