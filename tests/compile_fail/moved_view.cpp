// g++: use of deleted function
// clang++: call to deleted constructor
#include "example.hpp"

static void look(const pkeyguard::read_scope<secret> &view)
{
    use(view->number);
}

#ifdef MISTAKE
static void keep(pkeyguard::read_scope<secret> view)
{
    look(view);
}
#endif

void test()
{
    pkeyguard::read_scope<secret> view(vault);

#ifdef MISTAKE
    keep(std::move(view));
#else
    look(view);
#endif
}
