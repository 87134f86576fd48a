/* SPDX-License-Identifier: MIT */
/*
 * eviction.h - the policy of virtual keys: which pkey of the pool a key loses first
 *
 * Least recently used first. It only orders the pool; virtual_pool.c finds out whether a pkey may
 * be taken, and that does not depend on the order.
 */
#ifndef EVICTION_H
#define EVICTION_H

#include "base/list.h"
#include "base/lock.h"
#include "pkru/bits.h"

struct eviction {
    struct list order;         /* the pool's places, least recently used first */
    struct list places[PKEYS]; /* of each pkey, in the order once it is in the pool */
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

/* A pkey joins the pool, as the most recently used one; or leaves it. */
void eviction_add(int pkey) NEEDS_LIBRARY_LOCK;
void eviction_remove(int pkey) NEEDS_LIBRARY_LOCK;

/* A key gets the pkey. */
void eviction_note_binding(int pkey) NEEDS_LIBRARY_LOCK;

/* Notes what threads have opened since the last call: they say it in their records. */
void eviction_note_uses(void) NEEDS_LIBRARY_LOCK;

#endif
