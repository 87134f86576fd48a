/* SPDX-License-Identifier: MIT */
/* test_thread.h - helpers for the files of this suite */
#ifndef TEST_THREAD_H
#define TEST_THREAD_H

#include "one_region.h"

/* Beside one_region.h's key, which is closed by default, a key that is readable by default. */
extern struct pkeyguard_key *shared_key;
extern struct pkeyguard_region *shared;

/* Before and after the tests; `key` is virtual with the second function. */
void set_up_keys(void);
void set_up_virtual_key(void);
void tear_down_keys(void);

/*
 * The calling thread has these rights, or the defaults. For the defaults accesses are checked, too.
 */
void assert_rights(enum pkeyguard_rights of_key, enum pkeyguard_rights of_shared_key);
void assert_defaults(void);

/* Acquires a guard that writes. */
void open_key(struct pkeyguard_key *to_open, struct pkeyguard_guard *ret_guard);

void run_in_thread(void *(*function)(void *), void *argument);

/* The files of the suite. */
void add_jumps(Suite *suite);
void add_resets(Suite *suite);
void add_coroutines(Suite *suite);
void add_virtual_keys(Suite *suite);
void add_concurrency(Suite *suite);
void add_gates(Suite *suite);

#endif
