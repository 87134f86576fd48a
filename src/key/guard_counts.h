/* SPDX-License-Identifier: MIT */
/*
 * guard_counts.h - how many software guards are open
 *
 * A key and each of its regions count the threads that have guards on them. Each thread counts its
 * own guards (own_counts.h).
 */
#ifndef GUARD_COUNTS_H
#define GUARD_COUNTS_H

#include <stdbool.h>

#include <pkeyguard/key.h>

#include "base/lock.h"

/*
 * A guard that widens gives at least its rights. A guard that restricts leaves at most its rights.
 */
enum guard_mode { GUARD_WIDENS, GUARD_RESTRICTS };

/*
 * The guards on one key or one region. Under the library's lock.
 *
 * The guards of one thread that widen count as one, which has the widest rights among them.
 */
struct guard_counts {
    unsigned readers, writers;    /* guards that widen */
    unsigned to_read, to_nothing; /* guards that restrict */
    unsigned suspended;           /* threads whose guards here are suspended */
};

struct pkeyguard_key;
struct pages;

/* What a guard is on: some pages of a key, or the whole key if pages is NULL. */
struct guard_target {
    struct pkeyguard_key *key;
    struct pages *pages;
    struct guard_counts *counts; /* the counts of these pages, or of the key */
};

/* True if any guard is counted. */
bool guard_counts_any(const struct guard_counts *counts) NEEDS_LIBRARY_LOCK;

/* Returns the widest rights of the guards that widen, and the narrowest of those that restrict. */
enum pkeyguard_rights guard_counts_widest(const struct guard_counts *counts) NEEDS_LIBRARY_LOCK;
enum pkeyguard_rights guard_counts_limit(const struct guard_counts *counts) NEEDS_LIBRARY_LOCK;

/* Counts a guard, for the process and for the calling thread. On -ENOMEM nothing is counted. */
int guard_counts_add(const struct guard_target *target, enum pkeyguard_rights rights,
                     enum guard_mode mode) NEEDS_LIBRARY_LOCK;

/* Removes a guard from both counts. Returns false if there is no such guard. */
bool guard_counts_remove(struct guard_counts *counts, enum pkeyguard_rights rights,
                         enum guard_mode mode) NEEDS_LIBRARY_LOCK;

/*
 * Follows these two, once the page rights are what the counts say: from now on the calling thread
 * nests guards on this target without the lock.
 */
void guard_counts_let_nest(const struct guard_target *target) NEEDS_LIBRARY_LOCK;

/*
 * Counts what an entry of the calling thread has by now. It is one of the few (own_counts.h).
 * False: there is nothing to count. Else *ret_target is its target, whose counts may have changed.
 */
struct own_count;
bool guard_counts_settle(struct own_count *mine,
                         struct guard_target *ret_target) NEEDS_LIBRARY_LOCK;

/*
 * For a release by another thread, which is misuse. nesting() returns the rights in which the
 * calling thread's guards on this target nest. If the target has less than these, another thread
 * has released a guard: then count_each() counts the calling thread's guards there one by one.
 */
enum pkeyguard_rights guard_counts_nesting(const struct guard_target *target) NEEDS_LIBRARY_LOCK;
void guard_counts_count_each(const struct guard_target *target) NEEDS_LIBRARY_LOCK;

/*
 * True if the calling thread has a guard, in one of these counts, that widens to writing and is not
 * suspended. Needs no lock, because only the thread itself changes what it counts of its own.
 */
bool guard_counts_own_writer(const struct guard_counts *counts, const struct guard_counts *others);

/*
 * The calling thread's guards have levels. A call gate and a call that a fault may end raise the
 * level for the guards that follow. Each function calls `apply` for every target whose counts it
 * changed.
 *
 * level: the present one.
 * suspend: raises the level; the guards of all lower levels stop counting.
 * resume: returns to this level; the guards that a higher level suspended count again, and the
 * guards of higher levels now belong to it. A jump may have skipped the end of higher levels.
 * raise: raises the level and suspends nothing.
 * keep: returns to this level; the guards of higher levels now belong to it.
 * lower: returns to this level; the guards of higher levels are dropped, and the guards that a
 * higher level suspended count again.
 */
typedef void guard_counts_apply(const struct guard_target *target);
unsigned guard_counts_level(void); /* needs no lock, as above */
void guard_counts_suspend(guard_counts_apply *apply) NEEDS_LIBRARY_LOCK;
void guard_counts_resume(unsigned level, guard_counts_apply *apply) NEEDS_LIBRARY_LOCK;
unsigned guard_counts_raise_level(void) NEEDS_LIBRARY_LOCK;
void guard_counts_keep_at_level(unsigned level) NEEDS_LIBRARY_LOCK;
void guard_counts_lower_level(unsigned level, guard_counts_apply *apply) NEEDS_LIBRARY_LOCK;

/*
 * A coroutine takes its guards, with their levels, to the thread where it goes on. The function
 * stores those of the coroutine that stops, and makes those stored under the number `to` the
 * thread's. *ret_from: the number for the coroutine that stops. 0: no guards. -ENOMEM: nothing has
 * changed.
 */
int guard_counts_switch(uint64_t to, uint64_t *ret_from) NEEDS_LIBRARY_LOCK;
bool guard_counts_any_own(void); /* needs no lock, as above */

/*
 * Runs in a fork child: drops all guards but those of the thread that forked, or all of them if
 * that thread is not known.
 */
void guard_counts_keep_forking_threads(struct guard_counts *counts) NEEDS_LIBRARY_LOCK;

#endif
