// g++: assignment of member .* in read-only object
// clang++: cannot assign to return value because function .* returns a const value
#include "example.hpp"

#ifdef MISTAKE
static void rotate(const pkeyguard::write_scope<secret> &view)
#else
static void rotate(pkeyguard::write_scope<secret> &view)
#endif
{
    view->number = 1;
}

void test()
{
    pkeyguard::write_scope<secret> view(vault);

    rotate(view);
}
