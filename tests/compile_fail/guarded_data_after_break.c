// clang: reading the value pointed to by 'secret' requires holding (region|mutex) 'vault'
// clang++: reading the value pointed to by 'secret' requires holding (region|mutex) 'vault'
#include "example.h"

void test(int early);
void test(int early)
{
    pkeyguard_scoped_read (int, number, vault) {
        if (early)
            break;
        use(*secret);
    }
#ifdef MISTAKE
    use(*secret);
#endif
}
