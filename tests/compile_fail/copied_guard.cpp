// g++: use of deleted function
// clang++: call to implicitly-deleted copy constructor
#include "example.hpp"

void test()
{
    pkeyguard::guard guard(vault, PKEYGUARD_READ_ONLY);
#ifdef MISTAKE
    pkeyguard::guard other = guard;
#else
    pkeyguard::guard other = std::move(guard);
#endif
}
