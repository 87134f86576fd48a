/* SPDX-License-Identifier: MIT */
/* test_guard.h - helpers for the files of this suite */
#ifndef TEST_GUARD_H
#define TEST_GUARD_H

#include "one_region.h"

/* A guard that must be acquired. */
struct pkeyguard_guard acquire(struct pkeyguard_region *from, enum pkeyguard_rights rights);

/* The calling thread has these rights on the region, no fewer and no more. */
void assert_open_for(enum pkeyguard_rights rights, const struct pkeyguard_region *of);

/* The files of the suite. */
void add_guards(Suite *suite);
void add_scopes(Suite *suite);
void add_threads(Suite *suite);
void add_handlers(Suite *suite);
void add_fork(Suite *suite);
void add_nesting(Suite *suite);
void add_copies(Suite *suite);

#endif
