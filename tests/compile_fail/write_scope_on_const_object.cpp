// g++: invalid conversion from .const secret\*. to
// clang++: no matching constructor for initialization of
#include "example.hpp"

void test(const secret *object)
{
#ifdef MISTAKE
    pkeyguard::write_scope<secret> view(vault, object);
#else
    pkeyguard::read_scope<secret> view(vault, object);
#endif
    use(view->number);
}
