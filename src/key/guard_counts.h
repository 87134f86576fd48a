/* SPDX-License-Identifier: MIT */
/*
 * guard_counts.h - the account of open software guards
 *
 * A key and each of its regions count the guards that the whole process holds on them. Each thread
 * counts its own beside that, because a fork child keeps those and no others. Everything here is
 * called with the library's lock held.
 */
#ifndef GUARD_COUNTS_H
#define GUARD_COUNTS_H

#include <stdbool.h>

#include <pkeyguard/key.h>

/* A guard widens to at least, or narrows to at most, its rights. */
enum guard_mode { GUARD_WIDENS, GUARD_RESTRICTS };

/* How many open guards of each kind. */
struct guard_counts {
    unsigned readers, writers;    /* guards that widen */
    unsigned to_read, to_nothing; /* guards that restrict */
};

bool guard_counts_any(const struct guard_counts *held);
enum pkeyguard_rights guard_counts_widest(const struct guard_counts *held);
enum pkeyguard_rights guard_counts_limit(const struct guard_counts *held);

/* Counts a guard, for the process and for the calling thread. -ENOMEM: nothing is counted. */
int guard_counts_add(struct guard_counts *held, enum pkeyguard_rights rights, enum guard_mode mode);

/* Takes it back. False: no such guard is open. */
bool guard_counts_remove(struct guard_counts *held, enum pkeyguard_rights rights,
                         enum guard_mode mode);

/* In a fork child: only what this thread holds. */
void guard_counts_keep_own(struct guard_counts *held);

#endif
