/* SPDX-License-Identifier: MIT */
/* Calls from another file: with link-time optimization the functions are inlined here. */
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
    struct vault vault; /* the compiler must not know it */
    int sum = 0;

    (void)argv;
    if (read(STDIN_FILENO, &vault, sizeof(vault)) != sizeof(vault))
        return 1;
#define CALL(name) sum += call_##name(&vault, argc);
    FUNCTIONS(CALL)
    return sum;
}
