/* SPDX-License-Identifier: MIT */
/*
 * key.h - struct pkeyguard_key, as back ends and regions see it; its first members are public
 * (guard.h)
 */
#ifndef KEY_H
#define KEY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "key/enforcement.h"
#include "key/eviction.h"

/*
 * The bits of a key that has no pkey: AD of pkey 0, which is never set in PKRU, so every test of
 * these bits against PKRU fails.
 */
enum { UNBOUND = 1 };

struct pkeyguard_key {
    /* Set when the key is made. */
    struct pkeyguard_key_head head;
    const struct enforcement *enforcement;
    enum pkeyguard_rights default_rights;
    bool no_base_rights; /* true for a virtual key, under every enforcement: it has no set_rights */

    /* Under the library's lock. */
    struct list pages;      /* the pages of the key's regions */
    struct list of_process; /* a member of the list of virtual keys, or of software keys */

    /*
     * The pkey that the key's pages have, or -1. Written under the library's lock, read without it.
     */
    atomic_int pkey;

    /*
     * These belong to virtual keys; in other keys they stay UNBOUND and 0. They are written under
     * the library's lock. Guards read them without it, as plain loads between compiler fences,
     * because no compiler folds an atomic load into a comparison.
     */
    uint32_t bound_bits; /* the bits of the pkey that guards may open, or UNBOUND */
    uint32_t pkey_bits;  /* the bits of `pkey`; they do not change while a guard pins it */
    uint32_t wd_bit;     /* the WD bit of `pkey`; valid while a guard pins it */

    int tagged_pkey; /* the pkey that some of its pages may have; 0: none; under the lock */
    uint64_t serial; /* unique among all virtual keys that ever existed */
    struct eviction_history history; /* valid while the key has no pkey; under the lock */

    /*
     * These belong to software keys. `open` is written under the library's lock and read without
     * it.
     */
    enum pkeyguard_rights base UNDER_LIBRARY_LOCK; /* the rights outside all guards */
    struct guard_counts guards;                    /* the guards on the whole key; under the lock */
    atomic_int open; /* the rights on every region: base widened by the guards on the whole key */
};
_Static_assert(sizeof(struct pkeyguard_key_head) == 16 && offsetof(struct pkeyguard_key, head) == 0,
               "frozen for the ABI");

static inline bool rights_valid(enum pkeyguard_rights rights)
{
    return rights == PKEYGUARD_NO_ACCESS || rights == PKEYGUARD_READ_ONLY ||
           rights == PKEYGUARD_READ_WRITE;
}

/* Prepares a software key, closed by default, in zeroed memory. Cannot fail. */
void key_init_private(struct pkeyguard_key *key) NEEDS_LIBRARY_LOCK;

/* Ends such a key. The key has no pages. */
void key_end_private(struct pkeyguard_key *key) NEEDS_LIBRARY_LOCK;

/*
 * key_take_pages() moves pages to a key, from the key that they belong to if there is one.
 * key_leave_pages() removes pages from their key; the caller then decides what page rights they
 * get. On failure nothing has changed.
 */
int key_take_pages(struct pkeyguard_key *key, struct pages *pages) NEEDS_LIBRARY_LOCK;
void key_drop_pages(struct pages *pages) NEEDS_LIBRARY_LOCK;

/* Sets the page rights of these pages. On failure they are unchanged. Takes the lock. */
int key_set_prot(const struct pkeyguard_key *key, struct pages *pages, int prot);

/*
 * key_open_pages() makes the pages readable and writable, at least for this thread, and sets their
 * page rights to PROT_READ | PROT_WRITE. On failure nothing has changed. key_close_pages() closes
 * the pages and keeps those page rights. If it fails the pages are still open. Both take the lock.
 */
int key_open_pages(struct pkeyguard_key *key, struct pages *pages, struct pkru_change *ret_change);
int key_close_pages(struct pkeyguard_key *key, struct pages *pages,
                    const struct pkru_change *change);

#endif
