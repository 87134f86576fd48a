// gcc: ignoring return value of 'pkeyguard_restrict'
// g++: ignoring return value of 'int pkeyguard_restrict
// clang: ignoring return value of function declared with 'warn_unused_result'
// clang++: ignoring return value of function declared with 'warn_unused_result'
#include "example.h"

void test(void);
void test(void)
{
    struct pkeyguard_guard guard;

#ifndef MISTAKE
    if (pkeyguard_restrict(vault, PKEYGUARD_NO_ACCESS, &guard) != 0)
        return;
#else
    pkeyguard_restrict(vault, PKEYGUARD_NO_ACCESS, &guard);
#endif
    pkeyguard_release(&guard);
}
