/* SPDX-License-Identifier: MIT */
/* Calls the functions of guarded.c. With link-time optimization they are inlined here. */
#include "guarded.h"

#include <unistd.h>

#define DEFINE_CALLER(name)                                                                      \
    __attribute__((noinline, used)) static int call_##name(const struct vault *vault, int value) \
    {                                                                                            \
        return name(vault, value) + 1;                                                           \
    }
FUNCTIONS(DEFINE_CALLER)

int main(int argc, char *argv[])
{
    struct vault vault; /* read from a file, so that the compiler does not know its content */
    int sum = 0;

    (void)argv;
    if (read(STDIN_FILENO, &vault, sizeof(vault)) != sizeof(vault))
        return 1;
#define CALL(name) sum += call_##name(&vault, argc);
    FUNCTIONS(CALL)
    return sum;
}
