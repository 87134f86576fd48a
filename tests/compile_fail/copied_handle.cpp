// g++: use of deleted function
// clang++: call to implicitly-deleted copy constructor
#include "example.hpp"

void test()
{
    pkeyguard::region region(nullptr, sizeof(secret));
#ifdef MISTAKE
    pkeyguard::region other = region;
#else
    pkeyguard::region other = std::move(region);
#endif
}
