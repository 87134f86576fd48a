// gcc: assignment of read-only location
// g++: assignment of read-only location
// clang: read-only variable is not assignable
// clang++: read-only variable is not assignable
#include "example.h"

void test(void);
void test(void)
{
#ifdef MISTAKE
    pkeyguard_scoped_read (int, number, vault)
#else
    pkeyguard_scoped_write (int, number, vault)
#endif
        *number = 1;
}
