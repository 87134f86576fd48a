/* SPDX-License-Identifier: MIT */
/*
 * own_counts.h - the software guards of the calling thread, or of the coroutine that runs in it
 *
 * Most of it changes under the library's lock (guard_counts.c). But a guard that is nested in
 * another one of this thread on the same pages or key, and that asks for no more rights, only
 * changes how many there are: no page rights change, and no other thread counts it. That needs no
 * lock. The code that does it is in kept_calls.c.
 *
 * A signal handler can interrupt that code at any instruction, take the lock, and change the entry.
 * So the code adds its guard first, and then looks whether the entry still is the one that it was.
 * If it is not, the code subtracts the guard again. An entry from which the last guard may have
 * been subtracted is settled under the lock (mprotect_settle()). To settle an entry that is settled
 * already does nothing.
 */
#ifndef OWN_COUNTS_H
#define OWN_COUNTS_H

#include <stdbool.h>

#include "key/guard_counts.h"

/* The calling thread's guards on one target that belong to one level. */
struct own_count {
    /*
     * The target's pages, or its key, while a further guard on it that reads, or one that writes,
     * needs no lock; else NULL. They are NULL while the thread changes the entry under the lock.
     */
    const void *nests_readers, *nests_writers;

    /*
     * The guards that widen. The thread itself changes these without the lock, each by one
     * instruction.
     */
    uint32_t readers, writers;

    /*
     * Under the lock. The target is valid only while a guard of this entry, open or suspended,
     * keeps it alive; target.counts is NULL in an entry that is not used.
     */
    struct guard_target target;
    struct guard_counts counted; /* what the target's counts have of this entry */
    unsigned level;
    unsigned suspended_for; /* the level that suspended its guards; 0: they are not suspended */

    /*
     * True if the target counts each of the guards: this is not one of the few, or another thread
     * has released some of them.
     */
    bool counts_each;
};

enum { FEW = 8 };

/*
 * A thread has few entries, so the code searches them one by one. Guards are nested without the
 * lock only in the first FEW, which stay where they are.
 *
 * If there are more, they are in pages that do not come from malloc, because a signal handler that
 * interrupted malloc may acquire a guard. The pages are unmapped when the last of them is unused,
 * so a thread that ends leaves none.
 */
struct own_counts {
    /* Of the few, in bytes: where the one is that was used last, and where the last one ends that
     * is used. */
    size_t latest, end;
    struct own_count few[FEW];
    unsigned level;         /* the level of new guards */
    struct own_count *more; /* NULL: there are no pages */
    size_t count, room;     /* of more */
};

/* A fork child looks at those of the thread that forked (process.h). */
extern __thread struct own_counts own_counts
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

#endif
