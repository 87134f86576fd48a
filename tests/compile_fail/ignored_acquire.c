// gcc: ignoring return value of 'pkeyguard_acquire'
// g++: ignoring return value of 'int pkeyguard_acquire
// clang: ignoring return value of function declared with 'warn_unused_result'
// clang++: ignoring return value of function declared with 'warn_unused_result'
#include "example.h"

void test(void);
void test(void)
{
    struct pkeyguard_guard guard;

#ifndef MISTAKE
    if (pkeyguard_acquire(vault, PKEYGUARD_READ_ONLY, &guard) != 0)
        return;
#else
    pkeyguard_acquire(vault, PKEYGUARD_READ_ONLY, &guard);
#endif
    pkeyguard_release(&guard);
}
