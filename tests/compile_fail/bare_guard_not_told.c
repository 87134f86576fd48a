// clang: writing the value pointed to by 'secret' requires holding (region|mutex) 'vault' exclusively
// clang++: writing the value pointed to by 'secret' requires holding (region|mutex) 'vault' exclusively
#include "example.h"

void test(void);
void test(void)
{
    struct pkeyguard_guard guard;

    if (pkeyguard_acquire(vault, PKEYGUARD_READ_WRITE, &guard) != 0)
        return;
#ifndef MISTAKE
    pkeyguard_assume_write(vault);
#endif
    *secret = 1;
    pkeyguard_release(&guard);
}
