// gcc: incompatible pointer type
// g++: cannot convert 'pkeyguard_key\*' to 'pkeyguard_region\*'
// clang: incompatible pointer types
// clang++: no matching function|cannot initialize a parameter
#include "example.h"

void test(void);
void test(void)
{
#ifdef MISTAKE
    pkeyguard_scoped_read (int, number, key)
#else
    pkeyguard_scoped_read (int, number, vault)
#endif
        use(*number);
}
