/* SPDX-License-Identifier: MIT */
/*
 * pkeys.h - the list of this library's pkeys, and what each is for
 *
 * A dedicated pkey belongs to one key. A pkey of the pool is shared by virtual keys. An idle pkey
 * belonged to a key that was destroyed, and a thread may still have it open. pkey_allocator.c moves
 * a pkey from one state to another. Signal handlers and threads read the list without the lock.
 */
#ifndef PKEYS_H
#define PKEYS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/lock.h"
#include "pkru/bits.h"

struct pkey_manager {
    /* Written under the library's lock, read without it. */

    /*
     * The low bits are the set of dedicated pkeys. The high bits count the changes of that set, and
     * of rights in all threads. They are one word, so that a reader gets both from the same moment
     * and can later tell what has changed.
     */
    _Atomic uint64_t dedicated;
    _Atomic uint64_t changed_at[PKEYS]; /* for each pkey, the number of its last change */
    _Atomic pkey_bitset idle;
    /* for each pkey, the number of the last change of its rights in all threads; and those */
    _Atomic uint64_t everywhere_at[PKEYS];
    _Atomic pkru_bits everywhere;
    _Atomic uint64_t last_idle_at; /* the number of the last change that made a pkey idle */
    /* the bits that dedicated keys' defaults deny; all other bits are set */
    _Atomic pkru_bits defaults;
    _Atomic pkru_bits pool; /* the pool's bits */

    /* Written without the lock, too. */

    /*
     * The bits that threads set to give up rights that dedicated keys' defaults allow. Not only the
     * thread itself may depend on that, but also the threads that it has created.
     */
    _Atomic pkru_bits given_up;

    /* Read and written under the library's lock. */

    pkey_bitset closed_everywhere UNDER_LIBRARY_LOCK; /* idle pkeys that every thread has closed */
    int highest UNDER_LIBRARY_LOCK; /* the highest pkey that the kernel has given out here */
    /* pkeys from the kernel that certainly had another user before, who may have left them open */
    pkey_bitset second_hand UNDER_LIBRARY_LOCK;
    bool pages_take_pkeys UNDER_LIBRARY_LOCK; /* pkey_mprotect(2) was seen to work */
    bool pool_is_full UNDER_LIBRARY_LOCK;     /* the kernel had no pkey to spare at the last try */
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

/* Returns the PKRU bits of the dedicated pkeys. */
static inline pkru_bits pkeys_bits(uint64_t snapshot)
{
    return pkru_of_set(pkeys_in(snapshot));
}

/* Returns the bits of those pkeys that have had the same key ever since the snapshot. */
pkru_bits pkeys_bits_kept(uint64_t snapshot);

/*
 * Returns the deny bits to which rights are restored that were saved with the snapshot: those in
 * `pkru`, or the ones that were set in all threads since then. *ret_kept: pkeys_bits_kept(). The
 * caller is inside own_pkru_begin_change(), so that none are set before it has changed its PKRU.
 */
pkru_bits pkeys_saved_deny(uint64_t snapshot, pkru_bits pkru, pkru_bits *ret_kept);

/* The deny bits of the dedicated keys' default rights; every other pkey's bits are set. */
static inline pkru_bits pkeys_defaults(void)
{
    return atomic_load_explicit(&pkey_manager.defaults, memory_order_relaxed);
}

/* A thread sets these bits and gives default rights up. Needs no lock; async-signal-safe. */
static inline void pkeys_note_given_up(pkru_bits bits)
{
    /* Do not write what other threads read, if it is so already. */
    if (bits & ~atomic_load_explicit(&pkey_manager.given_up, memory_order_relaxed))
        atomic_fetch_or(&pkey_manager.given_up, bits);
}

/* Returns the bits of the pool. Needs no lock. */
static inline pkru_bits pkeys_pool(void)
{
    return atomic_load_explicit(&pkey_manager.pool, memory_order_relaxed);
}

/* Returns the bits of every pkey that is in some state: dedicated, of the pool, or idle. */
static inline pkru_bits pkeys_own(void)
{
    return pkeys_bits(pkeys_snapshot()) | pkeys_pool() | pkru_of_set(pkey_manager.idle);
}

/*
 * Returns the AD bits of the pkeys that a thread closes when it registers: the pool's and the idle
 * ones. Needs no lock.
 */
static inline pkru_bits pkeys_to_close(void)
{
    return (pkeys_pool() | pkru_of_set(pkey_manager.idle)) & EVERY_AD;
}

/* ---- Changes of the account ---- */

/* The pkey gets a dedicated key. */
void pkeys_dedicate(int pkey, enum pkeyguard_rights default_rights) NEEDS_LIBRARY_LOCK;

/* The pkey becomes idle: its key is destroyed, or it is new and a thread may have it open. */
void pkeys_make_idle(int pkey) NEEDS_LIBRARY_LOCK;

/* These deny bits of a dedicated pkey are set in all threads: rights that were saved are old. */
void pkeys_note_everywhere(int pkey, pkru_bits deny) NEEDS_LIBRARY_LOCK;

/* An idle pkey gets a new owner. */
void pkeys_reuse(int pkey) NEEDS_LIBRARY_LOCK;

/* The pkey joins the pool, or leaves it and becomes idle. */
void pkeys_add_to_pool(int pkey) NEEDS_LIBRARY_LOCK;
void pkeys_remove_from_pool(int pkey) NEEDS_LIBRARY_LOCK;

#endif
