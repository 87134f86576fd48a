/* SPDX-License-Identifier: MIT */
/* test_failures.h - the files of this suite */
#ifndef TEST_FAILURES_H
#define TEST_FAILURES_H

#include "failing.h"
#include "support.h"

void add_fail_closed(Suite *suite);
void add_first_use(Suite *suite);
void add_held_lock(Suite *suite);

#endif
