// gcc: ignoring return value of 'pkeyguard_region_destroy'
// g++: ignoring return value of 'int pkeyguard_region_destroy
// clang: ignoring return value of function declared with 'warn_unused_result'
// clang++: ignoring return value of function declared with 'warn_unused_result'
#include "example.h"

void test(void);
void test(void)
{
#ifdef MISTAKE
    pkeyguard_region_destroy(vault);
#else
    use(pkeyguard_region_destroy(vault));
#endif
}
