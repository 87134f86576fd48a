/* SPDX-License-Identifier: MIT */
/* Explaining faults. */
#include "test_fault.h"

int main(void)
{
    Suite *suite = suite_create("fault");

    add_decode(suite);
    add_format(suite);
    add_reporter(suite);
    add_granting(suite);
    add_tried_calls(suite);
    add_records(suite);
    return run_suite(suite);
}
