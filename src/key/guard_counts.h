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
};

/* True if there is any guard. */
bool guard_counts_any(const struct guard_counts *counts) NEEDS_LIBRARY_LOCK;

/* The widest rights of the guards that widen; the narrowest of those that restrict. */
enum pkeyguard_rights guard_counts_widest(const struct guard_counts *counts) NEEDS_LIBRARY_LOCK;
enum pkeyguard_rights guard_counts_limit(const struct guard_counts *counts) NEEDS_LIBRARY_LOCK;

/* Counts a guard, for the process and for the calling thread. -ENOMEM: nothing is counted. */
int guard_counts_add(struct guard_counts *counts, enum pkeyguard_rights rights,
                     enum guard_mode mode) NEEDS_LIBRARY_LOCK;

/* Takes a guard off both. False: no such guard is open. */
bool guard_counts_remove(struct guard_counts *counts, enum pkeyguard_rights rights,
                         enum guard_mode mode) NEEDS_LIBRARY_LOCK;

/* In a fork child: keeps only the guards of this thread. */
void guard_counts_keep_own(struct guard_counts *counts) NEEDS_LIBRARY_LOCK;

#endif
