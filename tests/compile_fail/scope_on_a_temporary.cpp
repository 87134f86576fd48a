// g++: use of deleted function
// clang++: invokes a deleted function
#include "example.hpp"

void test()
{
#ifdef MISTAKE
    pkeyguard::write_scope<secret> view(pkeyguard::region(nullptr, sizeof(secret)));
#else
    pkeyguard::region region(nullptr, sizeof(secret));
    pkeyguard::write_scope<secret> view(region);
#endif
    view->number = 1;
}
