// g++: -
// clang++: (reference to|address of) stack memory associated with local variable 'view' returned
#include "example.hpp"

#ifdef MISTAKE
static secret &open()
#else
static int open()
#endif
{
    pkeyguard::write_scope<secret> view(vault);

#ifdef MISTAKE
    return *view;
#else
    return view->number;
#endif
}

void test()
{
#ifdef MISTAKE
    use(open().number);
#else
    use(open());
#endif
}
