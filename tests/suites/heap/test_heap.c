/* SPDX-License-Identifier: MIT */
/* The heap. */
#include "test_heap.h"

int main(void)
{
    Suite *suite = suite_create("heap");

    add_access(suite);
    add_objects(suite);
    add_heaps(suite);
    add_failures(suite);
    add_metadata(suite);
    add_quarantine(suite);
    add_threads(suite);
    add_fork(suite);
    add_owners(suite);
    add_parts(suite);
    return run_suite(suite);
}
