// gcc: assignment of read-only location
// g++: assignment of read-only location
// clang: read-only variable is not assignable
// clang++: read-only variable is not assignable
#include "example.h"

void test(void *pointer, size_t length);
void test(void *pointer, size_t length)
{
#ifdef MISTAKE
    pkeyguard_scoped_read_bytes (bytes, vault, pointer, length)
#else
    pkeyguard_scoped_write_bytes (bytes, vault, pointer, length)
#endif
        bytes[0] = 1;
}
