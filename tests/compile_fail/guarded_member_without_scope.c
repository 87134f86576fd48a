// clang: writing the value pointed to by 'secret' requires holding (region|mutex) '(&session::)?vault' exclusively
// clang-14: -
// clang++: writing the value pointed to by 'secret' requires holding (region|mutex) 'session->vault' exclusively
#include "example.h"

void test(struct session *session);
void test(struct session *session)
{
#ifdef MISTAKE
    pkeyguard_scoped_write (int, number, vault)
#else
    pkeyguard_scoped_write (int, number, session->vault)
#endif
        *session->secret = 1;
}
