// gcc: 'number' undeclared
// g++: 'number' was not declared in this scope
// clang: use of undeclared identifier 'number'
// clang++: use of undeclared identifier 'number'
#include "example.h"

void test(void);
void test(void)
{
    pkeyguard_scoped_write (int, number, vault) {
        *number = 1;
    }
#ifdef MISTAKE
    use(*number);
#endif
}
