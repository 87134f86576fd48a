/* SPDX-License-Identifier: MIT */
/* test_processes.h - what the files of this suite share: keys, and a thread that is inside a call
 */
#ifndef TEST_PROCESSES_H
#define TEST_PROCESSES_H

#include "children.h"
#include "failing.h"
#include "support.h"
#include "worker.h"

/* More virtual keys than pkeys. Where there is no PKU they are software keys. */
enum { KEYS = 20 };
extern struct pkeyguard_key *keys[KEYS];
extern struct pkeyguard_region *regions[KEYS];

/* Makes the keys with these flags, PKEYGUARD_KEY_SOFTWARE or PKEYGUARD_KEY_VIRTUAL. */
void make_keys(unsigned flags);

/* A thread beside the test's own. tear_down() ends it. */
extern struct worker other;
void set_up_other(void);
void tear_down_other(void);

/* Opens and closes every key but one, -1 for none. Returns 0, or what the first failure returned.
 */
int open_every_key(int except);

/* True if the calling thread can read, or write, this region's first byte. */
bool reads(const struct pkeyguard_region *region);
bool writes(const struct pkeyguard_region *region);

/*
 * Lets the other thread call work(argument), and returns when it is inside a system call's hook:
 * stop_here() of before_call() or after_call(). finish_other() lets it go on and waits until it has
 * done the work.
 */
void stop_here(void *address, unsigned long length);
void run_other_until_stop(void (*work)(void *argument), void *argument);
void finish_other(void);

/* The files of the suite. */
void add_locks(Suite *suite);
void add_memory(Suite *suite);
void add_first_calls(Suite *suite);

/* What the program does that first_calls.c spawns: itself, with this argument. */
#define SPAWNED "spawned"
int run_spawned(void);

#endif
