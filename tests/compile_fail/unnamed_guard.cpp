// g++: -
// clang++: ignoring temporary .* 'nodiscard'
#include "example.hpp"

void test()
{
#ifdef MISTAKE
    pkeyguard::guard(vault, PKEYGUARD_READ_WRITE);
#else
    pkeyguard::guard guard(vault, PKEYGUARD_READ_WRITE);
#endif
    use(1);
}
