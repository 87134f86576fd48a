/* SPDX-License-Identifier: MIT */
/* The scoped guard. */
#include "test_guard.h"

int main(void)
{
    Suite *suite = suite_create("guard");

    add_guards(suite);
    add_scopes(suite);
    add_threads(suite);
    add_handlers(suite);
    add_fork(suite);
    add_copies(suite);
    add_nesting(suite);
    return run_suite(suite);
}
