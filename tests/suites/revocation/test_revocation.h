/* SPDX-License-Identifier: MIT */
/* test_revocation.h - the keys and threads that this suite's tests use, and its files */
#ifndef TEST_REVOCATION_H
#define TEST_REVOCATION_H

#include "support.h"
#include "worker.h"

/* Keys take every pkey that the CPU has; each key is open by default. */
enum { PKEYS = 15, VICTIM = 7 };
extern struct pkeyguard_key *keys[PKEYS];

/* Threads that have every key open. */
extern struct worker workers[2];

/* Before most tests: takes every pkey, starts the workers, and destroys keys[VICTIM]. */
void set_up_workers(void);
void tear_down_workers(void);

/* Creates keys[VICTIM] anew, for which there is no pkey but that of the destroyed key. */
int create_key(void);

/* The pkey of the destroyed key does not go to a new key yet. */
void assert_pkey_waits(void);

/* It does: the new key's region is open in the calling thread, and closed in so many workers. */
void assert_pkey_reused(int count);

/* A new key is closed in the workers, and the reporter grants them its default when they use it. */
void assert_default_is_granted(void);

/*
 * can_write_on() is true if the worker can write to the region; assert_denied_on() checks that it
 * gets the fault of the region's key.
 */
bool can_write_on(struct worker *worker, const struct pkeyguard_region *region);
void assert_denied_on(struct worker *worker, const struct pkeyguard_region *region);

/* Work for a worker. */
void do_reset(void *unused);
void do_register(void *unused);
void do_raise(void *unused); /* SIGUSR1 */

/*
 * Before the tests with a signal: lets the library use SIGURG, then as set_up_workers(). The
 * library asks threads until they have all closed the pkey, however long that takes.
 */
void set_up_signal(void);

/* The library gives up after it has asked the threads some times: the pkey waits. */
void assert_revocation_fails(void);

/* The files of the suite. */
void add_resets(Suite *suite);
void add_signals(Suite *suite);
void add_signal_choice(Suite *suite);
void add_races(Suite *suite);
void add_everywhere(Suite *suite);

#endif
