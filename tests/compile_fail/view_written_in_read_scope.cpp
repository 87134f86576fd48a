// g++: assignment of member .* in read-only object
// clang++: cannot assign to return value because function .* returns a const value
#include "example.hpp"

void test()
{
#ifdef MISTAKE
    pkeyguard::read_scope<secret> view(vault);
#else
    pkeyguard::write_scope<secret> view(vault);
#endif
    view->number = 1;
}
