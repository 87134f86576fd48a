// g++: no matching function for call to .*scope
// clang++: no matching constructor for initialization of
#include "example.hpp"

void test(const pkeyguard::key &key)
{
#ifdef MISTAKE
    pkeyguard::write_scope<secret> view(key);
#else
    pkeyguard::guard guard(key, PKEYGUARD_READ_WRITE);
    pkeyguard::write_scope<secret> view(vault);
#endif
    view->number = 1;
}
