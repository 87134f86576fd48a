/* SPDX-License-Identifier: MIT */
/* test_virtual.h - the virtual keys that this suite's tests use, and the files of the suite */
#ifndef TEST_VIRTUAL_H
#define TEST_VIRTUAL_H

#include <stdint.h>

#include "support.h"
#include "worker.h"

/* The pool has 14 of the CPU's 15 pkeys: it leaves one to the kernel. KEYS are more than that. */
enum { KEYS = 20, POOL = 14, MANY = 3000 };

/* Virtual keys, a region of each, and a guard for each region. */
extern struct pkeyguard_key *keys[MANY];
extern struct pkeyguard_region *regions[MANY];
extern struct pkeyguard_guard guards[MANY];

void make_keys(int count);
void destroy_keys(int count);

/* Before and after most tests: KEYS keys. */
void set_up_keys(void);
void tear_down_keys(void);

/* Acquires guards[i] on regions[i]; and releases it again. */
int acquire(int i, enum pkeyguard_rights rights);
void open_and_close(int i);

/* Acquires guards on as many keys as the pool has pkeys; releases them. */
void pin_pool(void);
void unpin_pool(void);

/* Opens and closes every key but this one, -1 for none: that evicts whatever can be evicted. */
void evict_everything(int except);

/* True if the pages of the key's regions carry a pkey. */
bool is_bound(int i);

/* The calling thread can neither read nor write the key's region, by its pkey or by PROT_NONE. */
void assert_closed(int i);
void assert_all_closed(void);

/* Work for a worker; i is the number of a key. */
void do_register(void *unused);
void do_acquire(void *i);
void do_release(void *i);
void do_open_and_close(void *i);

/* True if the worker can read this byte. */
bool can_read_on(struct worker *worker, const void *address);

/* The worker, which is not registered, keeps keys from being evicted: -EAGAIN. */
void assert_blocks_eviction(struct worker *worker);

/* The files of the suite. */
void add_basics(Suite *suite);
void add_sharing(Suite *suite);
void add_threads(Suite *suite);
void add_races(Suite *suite);
void add_hits(Suite *suite);
void add_waiting(Suite *suite);
void add_timed(Suite *suite);
void add_foreign_threads(Suite *suite);
void add_handlers(Suite *suite);
void add_fork(Suite *suite);
void add_failures(Suite *suite);

#endif
