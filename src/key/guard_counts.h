/* SPDX-License-Identifier: MIT */
/*
 * guard_counts.h - how many software guards are open
 *
 * A key and each of its regions count the guards that the whole process has open on them. Each
 * thread counts its own beside that, because a fork child keeps those and no others.
 */
#ifndef GUARD_COUNTS_H
#define GUARD_COUNTS_H

#include <stdbool.h>

#include <pkeyguard/key.h>

#include "base/lock.h"

/* A guard widens to at least, or narrows to at most, its rights. */
enum guard_mode { GUARD_WIDENS, GUARD_RESTRICTS };

/* Of a key or region; under the library's lock. */
struct guard_counts {
    unsigned readers, writers;    /* guards that widen */
    unsigned to_read, to_nothing; /* guards that restrict */
    unsigned suspended;           /* threads that have guards here which count for nothing now */
};

struct pkeyguard_key;
struct pages;

/* What guards are on: pages of a key, or for NULL the whole key. */
struct guard_target {
    struct pkeyguard_key *key;
    struct pages *pages;
    struct guard_counts *counts; /* theirs */
};

/* True if there is any guard. */
bool guard_counts_any(const struct guard_counts *counts) NEEDS_LIBRARY_LOCK;

/* The widest rights of the guards that widen; the narrowest of those that restrict. */
enum pkeyguard_rights guard_counts_widest(const struct guard_counts *counts) NEEDS_LIBRARY_LOCK;
enum pkeyguard_rights guard_counts_limit(const struct guard_counts *counts) NEEDS_LIBRARY_LOCK;

/* Counts a guard, for the process and for the calling thread. -ENOMEM: nothing is counted. */
int guard_counts_add(const struct guard_target *target, enum pkeyguard_rights rights,
                     enum guard_mode mode) NEEDS_LIBRARY_LOCK;

/* Takes a guard off both. False: no such guard is open. */
bool guard_counts_remove(struct guard_counts *counts, enum pkeyguard_rights rights,
                         enum guard_mode mode) NEEDS_LIBRARY_LOCK;

/*
 * The calling thread's guards have levels: a call gate, and a call that a fault may end, raise the
 * level of those to come. `apply` is called for each target whose counts have changed.
 *
 * suspend: raises the level. The guards so far count for nothing until the level is resumed.
 * resume: back to the level below. What was suspended for this level counts again.
 * raise: raises the level, and suspends nothing.
 * keep: back to this level. The guards of higher levels are of this one now.
 * lower: back to this level. The guards of higher levels are gone, and those that were suspended
 * for a higher level count again.
 */
typedef void guard_counts_apply(const struct guard_target *target);
void guard_counts_suspend(guard_counts_apply *apply) NEEDS_LIBRARY_LOCK;
void guard_counts_resume(guard_counts_apply *apply) NEEDS_LIBRARY_LOCK;
unsigned guard_counts_raise_level(void) NEEDS_LIBRARY_LOCK;
void guard_counts_keep_at_level(unsigned level) NEEDS_LIBRARY_LOCK;
void guard_counts_lower_level(unsigned level, guard_counts_apply *apply) NEEDS_LIBRARY_LOCK;

/* In a fork child: keeps only the guards of this thread. */
void guard_counts_keep_own(struct guard_counts *counts) NEEDS_LIBRARY_LOCK;

#endif
