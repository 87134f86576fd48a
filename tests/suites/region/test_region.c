/* SPDX-License-Identifier: MIT */
/* The region allocator. */
#include "test_region.h"

int main(void)
{
    Suite *suite = suite_create("region");

    add_basics(suite);
    add_page_rights(suite);
    add_guard_pages(suite);
    add_flags(suite);
    add_seals(suite);
    add_adoption(suite);
    add_lookup(suite);
    add_huge_pages(suite);
    add_end_aligned(suite);
    add_checks(suite);
    return run_suite(suite);
}
