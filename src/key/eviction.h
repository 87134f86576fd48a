/* SPDX-License-Identifier: MIT */
/*
 * eviction.h - the policy that chooses which virtual key loses its pkey first
 *
 * A key's score rises each time it is bound and each time it is used. All scores are halved after
 * every AGE bindings. The key with the lowest score loses its pkey. Among keys with equal scores
 * the least recently used one loses its pkey. A key keeps its score when it loses its pkey, so a
 * key that comes back often gains on the others.
 *
 * The policy only orders the pool. virtual_pool.c decides whether a pkey may be taken; that
 * decision does not depend on the order.
 */
#ifndef EVICTION_H
#define EVICTION_H

#include "base/lock.h"
#include "pkru/bits.h"

/* A key's score while it has no pkey. All zeros for a new key. */
struct eviction_history {
    unsigned score;
    unsigned age; /* eviction.age when the score was stored */
};

struct eviction {
    /*
     * The order: a list of the pool's pkeys, in which each has the numbers of its neighbours. It
     * begins and ends at 0, which is no pkey of the pool.
     */
    struct {
        uint8_t next, previous;
    } places[PKEYS];
    unsigned scores[PKEYS]; /* the score of the key that has the pkey; 0: no key has it */
    unsigned bindings;      /* the number of bindings so far */
    unsigned age;           /* how many times all scores were halved */
};

extern struct eviction eviction UNDER_LIBRARY_LOCK __attribute__((visibility("hidden")));

/* Returns those pkeys of this set, `count` at most, that are to be evicted first. */
pkru_bits eviction_first_few(pkru_bits pkeys, int count) NEEDS_LIBRARY_LOCK;

/* A pkey joins or leaves the pool. No key has the pkey. */
void eviction_add(int pkey) NEEDS_LIBRARY_LOCK;
void eviction_remove(int pkey) NEEDS_LIBRARY_LOCK;

/* In a fork child, where another thread may have been changing the order: every pkey of the pool is
 * in it once, and the others are in the order that they had. */
void eviction_mend(void) NEEDS_LIBRARY_LOCK;

/* A key gets or loses the pkey. It gets it for a guard: that use then moves it to its place. */
void eviction_note_binding(int pkey, const struct eviction_history *key) NEEDS_LIBRARY_LOCK;
void eviction_note_loss(int pkey, struct eviction_history *ret_key) NEEDS_LIBRARY_LOCK;

/* Reads from the threads' records which pkeys they have opened since the last call. */
void eviction_note_uses(void) NEEDS_LIBRARY_LOCK;

#endif
