// clang++: writing the value pointed to by 'secret' requires holding (region|mutex) 'second->vault' exclusively
#include "example.h"

void test(struct session *first, struct session *second);
void test(struct session *first, struct session *second)
{
    pkeyguard_scoped_write (int, number, first->vault) {
        *first->secret = 1;
#ifdef MISTAKE
        *second->secret = 1;
#else
        (void)second;
#endif
    }
}
