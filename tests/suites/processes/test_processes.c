/* SPDX-License-Identifier: MIT */
/* Child processes, made with and without fork handlers. */
#include <string.h>

#include "test_processes.h"

int main(int count, char **arguments)
{
    Suite *suite;

    if (count == 2 && strcmp(arguments[1], SPAWNED) == 0)
        return run_spawned();
    suite = suite_create("processes");
    add_locks(suite);
    add_memory(suite);
    add_first_calls(suite);
    return run_suite(suite);
}
