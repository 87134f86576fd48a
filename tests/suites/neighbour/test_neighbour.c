/* SPDX-License-Identifier: MIT */
/* The library and another user of pkeys in one process: neither disturbs the other. */
#include "test_neighbour.h"

int main(void)
{
    Suite *suite = suite_create("neighbour");

    add_rights(suite);
    add_pkeys(suite);
    add_threads(suite);
    return run_suite(suite);
}
