/* SPDX-License-Identifier: MIT */
/* pkeyguard_protect_records() */
#include "test_records.h"

int main(void)
{
    Suite *suite = suite_create("records");

    add_access(suite);
    add_forks(suite);
    add_failures(suite);
    return run_suite(suite);
}
