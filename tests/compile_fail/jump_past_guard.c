// gcc: jump skips variable initialization
// g++: jump to label 'inside'
// clang: cannot jump from this goto statement to its label
// clang++: cannot jump from this goto statement to its label
#include "example.h"

void test(void);
void test(void)
{
#ifdef MISTAKE
    goto inside;
#endif
    pkeyguard_scoped_write (int, number, vault) {
        goto inside;
    inside:
        *number = 1;
    }
}
