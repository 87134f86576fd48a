// gcc: ignoring return value of 'pkeyguard_region_create'
// g++: ignoring return value of 'int pkeyguard_region_create
// clang: ignoring return value of function declared with 'warn_unused_result'
// clang++: ignoring return value of function declared with 'warn_unused_result'
#include "example.h"

void test(void);
void test(void)
{
#ifdef MISTAKE
    pkeyguard_region_create(key, 1, PROT_READ, 0, &vault);
#else
    use(pkeyguard_region_create(key, 1, PROT_READ, 0, &vault));
#endif
}
