/* SPDX-License-Identifier: MIT */
/*
 * pkeys.h - the pkey manager's account: which pkeys are this library's, and for what
 *
 * A pkey is dedicated: one key owns it; or in the pool: virtual keys share it; or idle: its key was
 * destroyed, and some thread may have it open still. It goes from one to the other in
 * pkey_allocator.c. Signal handlers and threads read the account with no lock.
 */
#ifndef PKEYS_H
#define PKEYS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "pkru/bits.h"

struct pkey_manager {
    /* Written under the library's lock, read without. */

    /*
     * The pkeys that dedicated keys own, a bit each; above them the number of changes of this set
     * so far. In one word, so that a reader sees a consistent whole and can tell later what has
     * changed since.
     */
    _Atomic uint64_t dedicated;
    _Atomic uint64_t changed_at[PKEYS]; /* the number of a pkey's last change */
    _Atomic pkey_bitset idle;
    _Atomic uint64_t last_idle_at; /* the number of the change that made the last one idle */
    _Atomic pkru_bits defaults;    /* what the dedicated keys' defaults deny; all other bits set */
    _Atomic pkru_bits pool;        /* the pool's bits */

    /* Read and written under the library's lock. */

    pkey_bitset closed_everywhere UNDER_LIBRARY_LOCK; /* idle ones that every thread has closed */
    bool pages_take_pkeys UNDER_LIBRARY_LOCK;         /* pkey_mprotect(2) was seen to work */
    bool pool_is_full UNDER_LIBRARY_LOCK; /* the kernel had no pkey to spare at the last try */
};

extern struct pkey_manager pkey_manager __attribute__((visibility("hidden")));

/* ---- Snapshots of the dedicated pkeys. Need no lock; async-signal-safe. ---- */

static inline uint64_t pkeys_snapshot(void)
{
    return atomic_load_explicit(&pkey_manager.dedicated, memory_order_acquire);
}

static inline pkey_bitset pkeys_in(uint64_t snapshot)
{
    return (pkey_bitset)(snapshot & ((1u << PKEYS) - 1));
}

static inline uint64_t pkeys_change_number(uint64_t snapshot)
{
    return snapshot >> PKEYS;
}

/* Their bits in PKRU. */
static inline pkru_bits pkeys_bits(uint64_t snapshot)
{
    return pkru_of_set(pkeys_in(snapshot));
}

/* The bits of those that have had the same key since. */
pkru_bits pkeys_bits_kept(uint64_t snapshot);

/* The deny bits of the dedicated keys' default rights; every other pkey's bits are set. */
static inline pkru_bits pkeys_defaults(void)
{
    return atomic_load_explicit(&pkey_manager.defaults, memory_order_relaxed);
}

/* The pool's bits. Needs no lock. */
static inline pkru_bits pkeys_pool(void)
{
    return atomic_load_explicit(&pkey_manager.pool, memory_order_relaxed);
}

/* The AD bits of the pkeys that a thread closes when it registers: pool and idle. Needs no lock. */
static inline pkru_bits pkeys_to_close(void)
{
    return (pkeys_pool() | pkru_of_set(pkey_manager.idle)) & EVERY_AD;
}

/* ---- Changes of the account ---- */

/* A pkey gets a dedicated key. */
void pkeys_dedicate(int pkey, enum pkeyguard_rights default_rights) NEEDS_LIBRARY_LOCK;

/* Its key is destroyed, or it comes from the kernel and may be open somewhere: it is idle. */
void pkeys_make_idle(int pkey) NEEDS_LIBRARY_LOCK;

/* An idle pkey goes to a new owner. */
void pkeys_reuse(int pkey) NEEDS_LIBRARY_LOCK;

/* A pkey joins the pool, or leaves it and is idle. */
void pkeys_add_to_pool(int pkey) NEEDS_LIBRARY_LOCK;
void pkeys_remove_from_pool(int pkey) NEEDS_LIBRARY_LOCK;

#endif
