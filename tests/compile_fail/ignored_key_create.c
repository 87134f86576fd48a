// gcc: ignoring return value of 'pkeyguard_key_create'
// g++: ignoring return value of 'int pkeyguard_key_create
// clang: ignoring return value of function declared with 'warn_unused_result'
// clang++: ignoring return value of function declared with 'warn_unused_result'
#include "example.h"

void test(void);
void test(void)
{
#ifdef MISTAKE
    pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key);
#else
    use(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key));
#endif
}
