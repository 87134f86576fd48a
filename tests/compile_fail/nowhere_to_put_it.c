// gcc: argument 3 null where non-null expected
// g++: argument 3 null where non-null expected
// clang: null passed to a callee that requires a non-null argument
// clang++: null passed to a callee that requires a non-null argument
#include "example.h"

void test(void);
void test(void)
{
#ifdef MISTAKE
    use(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, NULL));
#else
    use(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key));
#endif
}
