// gcc: use of uninitialized value|is used uninitialized
// g++: is used uninitialized
#include "example.h"

void test(void);
void test(void)
{
    struct pkeyguard_guard guard;

#ifndef MISTAKE
    if (pkeyguard_acquire(vault, PKEYGUARD_READ_ONLY, &guard) != 0)
        return;
#endif
    pkeyguard_release(&guard);
}
