// gcc: assignment of member .* in read-only object
// g++: assignment of member .* in read-only object
// clang: cannot assign to variable 'session' with const-qualified type
// clang++: cannot assign to variable 'session' with const-qualified type
#include "example.h"

void test(void);
void test(void)
{
#ifdef MISTAKE
    pkeyguard_auto_read(struct session, session, vault);
#else
    pkeyguard_auto_write(struct session, session, vault);
#endif

    session->secret = 0;
}
