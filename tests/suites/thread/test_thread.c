/* SPDX-License-Identifier: MIT */
/* A thread's rights across jumps, coroutine switches and thread creation. */
#include "test_thread.h"

int main(void)
{
    Suite *suite = suite_create("thread");

    add_jumps(suite);
    add_resets(suite);
    add_coroutines(suite);
    add_virtual_keys(suite);
    add_concurrency(suite);
    add_gates(suite);
    return run_suite(suite);
}
