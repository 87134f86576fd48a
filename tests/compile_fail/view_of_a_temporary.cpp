// g++: use of deleted function
// clang++: overload resolution selected deleted operator
#include "example.hpp"

void test()
{
#ifdef MISTAKE
    secret &escaped = *pkeyguard::write_scope<secret>(vault);
#else
    pkeyguard::write_scope<secret> view(vault);
    secret &escaped = *view;
#endif
    escaped.number = 1;
}
