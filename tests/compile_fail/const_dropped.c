// gcc: initialization discards 'const' qualifier
// g++: invalid conversion from 'const int\*' to 'int\*'
// clang: discards qualifiers
// clang++: cannot initialize a variable of type 'int \*'
#include "example.h"

void test(void);
void test(void)
{
    pkeyguard_scoped_read (int, number, vault) {
#ifdef MISTAKE
        int *writable = number;
#else
        const int *writable = number;
#endif
        use(*writable);
    }
}
