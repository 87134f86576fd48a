/* SPDX-License-Identifier: MIT */
/*
 * eviction.h - the policy of virtual keys: which pkey of the pool is taken from its key first
 *
 * A key's score rises with each binding and each use, and halves every AGE bindings of the pool.
 * The key with the lowest score loses its pkey; among equals, the least recently used one. A key
 * keeps its score when it loses its pkey, so one that comes back often stays.
 *
 * The policy only orders the pool. virtual_pool.c finds out whether a pkey may be taken, and that
 * does not depend on the order.
 */
#ifndef EVICTION_H
#define EVICTION_H

#include "base/list.h"
#include "base/lock.h"
#include "pkru/bits.h"

/* A key's score while it has no pkey. Zeroed, it is that of a new key. */
struct eviction_history {
    unsigned score;
    unsigned age; /* eviction.age at that time */
};

struct eviction {
    struct list order;         /* the pool's places; the pkey to take first comes first */
    struct list places[PKEYS]; /* of each pkey, in the order once it is in the pool */
    unsigned scores[PKEYS];    /* of the key that has the pkey; 0: none has it */
    unsigned bindings;         /* counts them */
    unsigned age;              /* how often the scores were halved */
};

extern struct eviction eviction UNDER_LIBRARY_LOCK __attribute__((visibility("hidden")));

static inline NEEDS_LIBRARY_LOCK int eviction_pkey_at(const struct list *place)
{
    return place == &eviction.order ? 0 : (int)(place - eviction.places);
}

/* Goes through the pool in that order. 0: there is none, or no more. */
static inline NEEDS_LIBRARY_LOCK int eviction_first(void)
{
    return eviction_pkey_at(eviction.order.next);
}

static inline NEEDS_LIBRARY_LOCK int eviction_next(int pkey)
{
    return eviction_pkey_at(eviction.places[pkey].next);
}

#define for_each_pkey_of_pool(pkey) \
    for (int pkey = eviction_first(); pkey != 0; pkey = eviction_next(pkey))

/* A pkey joins the pool, or leaves it. No key has it. */
void eviction_add(int pkey) NEEDS_LIBRARY_LOCK;
void eviction_remove(int pkey) NEEDS_LIBRARY_LOCK;

/* A key gets the pkey, or loses it. */
void eviction_note_binding(int pkey, const struct eviction_history *key) NEEDS_LIBRARY_LOCK;
void eviction_note_loss(int pkey, struct eviction_history *ret_key) NEEDS_LIBRARY_LOCK;

/* Notes what threads have opened since the last call: they say it in their records. */
void eviction_note_uses(void) NEEDS_LIBRARY_LOCK;

#endif
