/* SPDX-License-Identifier: MIT */
/*
 * enforcement.h - the back ends' contract: what a key and its pages are to those who enforce them
 *
 * Shared preconditions: rights, modes and page rights are valid; a function that takes the
 * library's lock itself says so, every other one that changes a key or pages is called with the
 * lock held.
 */
#ifndef ENFORCEMENT_H
#define ENFORCEMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <pkeyguard/key.h>

#include "key/guard_counts.h"
#include "base/list.h"
#include "key/pages.h"

/* The deny bits a guard has changed in PKRU; those of a virtual key where pkey 0 has its own. */
struct pkru_change {
    uint32_t cleared, set;
};

struct enforcement {
    enum pkeyguard_enforcement kind;

    /* Readies a new key with its default rights. -ENOTSUP: not here; -ENOSPC: no pkey left. */
    int (*bind)(struct pkeyguard_key *key);

    /* Lets go of a key that has no pages. -EBUSY while a guard on it is known to be open. */
    int (*unbind)(struct pkeyguard_key *key);

    /* Needs no lock. */
    enum pkeyguard_rights (*rights)(const struct pkeyguard_key *key);

    /* Takes the lock if it needs it. On failure nothing has changed. NULL where only guards open.
     */
    int (*set_rights)(struct pkeyguard_key *key, enum pkeyguard_rights rights);

    /*
     * Gives the pages to the key with the page rights pages->prot, whatever they carried before. On
     * failure they are as they were.
     */
    int (*apply)(const struct pkeyguard_key *key, struct pages *pages);

    /* Opens pages, or the whole key for NULL. Takes the lock if it needs it. */
    int (*enter)(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, struct pkru_change *ret_change);

    /* Undoes enter. On failure it is as before. Takes the lock if it needs it. */
    int (*leave)(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, const struct pkru_change *change);
};

/* Stands for the bits in PKRU of a key that has no pkey to share: one of pkey 0's, which nobody
 * ever sets. */
enum { UNBOUND = 1 };

struct pkeyguard_key {
    struct pkeyguard_key_head head;
    const struct enforcement *enforcement;
    enum pkeyguard_rights default_rights;
    atomic_int pkey; /* that its pages carry; -1: none */
    struct list pages;

    /*
     * Virtual keys, and as UNBOUND every other: the pkey's bits in PKRU. Read with no lock, and by
     * plain reads with compiler barriers around, for the compiler folds no atomic one into a
     * comparison.
     */
    uint32_t bound;
    uint32_t pkey_bits;  /* of `pkey`, bound to it or not: for who pins it, these cannot change */
    uint32_t wd_bit;     /* write-disable of them; valid while pinned */
    int tagged_pkey;     /* the pkey that its pages may carry, bound to it or not; 0: none */
    bool no_base_rights; /* there is no set_rights */
    uint64_t serial;     /* no other virtual key ever has it */

    /* mprotect enforcement */
    enum pkeyguard_rights base; /* what is allowed with no guard open */
    struct guard_counts held;
    atomic_int open; /* rights on every region: the base and the guards on the whole key */

    struct list of_process; /* its virtual keys, or its software keys */
};
_Static_assert(sizeof(struct pkeyguard_key_head) == 8 && offsetof(struct pkeyguard_key, head) == 0,
               "frozen for the ABI");

extern const struct enforcement pku_enforcement;
extern const struct enforcement virtual_enforcement;
extern const struct enforcement mprotect_enforcement;
extern const struct enforcement no_enforcement;

static inline bool rights_valid(enum pkeyguard_rights rights)
{
    return rights == PKEYGUARD_NO_ACCESS || rights == PKEYGUARD_READ_ONLY ||
           rights == PKEYGUARD_READ_WRITE;
}

/* The -errno that rules PKU out before the kernel is asked for a pkey, or 0. */
int pku_ruled_out(void);

/* pkeys in the library's own keeping that could be handed out now. Needs the lock. */
unsigned pku_idle_keys(void);

/* Hands one of them out, which the calling thread alone may have open; -ENOSPC. Needs the lock. */
int pku_take_idle_key(void);

#endif
