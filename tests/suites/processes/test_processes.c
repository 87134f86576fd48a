/* SPDX-License-Identifier: MIT */
/* Child processes, made with and without fork handlers. */
#include "test_processes.h"

int main(void)
{
    Suite *suite = suite_create("processes");

    add_locks(suite);
    add_memory(suite);
    return run_suite(suite);
}
