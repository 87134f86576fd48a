/* SPDX-License-Identifier: MIT */
/* Virtual keys: many keys share a few pkeys. */
#include "test_virtual.h"

int main(void)
{
    Suite *suite = suite_create("virtual");

    add_basics(suite);
    add_sharing(suite);
    add_threads(suite);
    add_races(suite);
    add_hits(suite);
    add_waiting(suite);
    add_timed(suite);
    add_foreign_threads(suite);
    add_handlers(suite);
    add_fork(suite);
    add_failures(suite);
    return run_suite(suite);
}
