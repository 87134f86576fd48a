/* SPDX-License-Identifier: MIT */
/* key.h - a key as the back ends and regions see it, behind its frozen head */
#ifndef KEY_H
#define KEY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"
#include "key/enforcement.h"
#include "key/eviction.h"

/* The bits of no pkey. They are pkey 0's AD bit, which is never set, so tests against PKRU fail. */
enum { UNBOUND = 1 };

struct pkeyguard_key {
    /* Set when the key is made. */
    struct pkeyguard_key_head head;
    const struct enforcement *enforcement;
    enum pkeyguard_rights default_rights;
    bool no_base_rights; /* a virtual key: it has no set_rights, whoever enforces it */

    /* Under the library's lock. */
    struct list pages;      /* of its regions */
    struct list of_process; /* in the list of virtual keys, or in that of software keys */

    /* The pkey that its pages have; -1: none. Written under the library's lock, read without. */
    atomic_int pkey;

    /*
     * Of virtual keys; on every other key they stay UNBOUND and 0. Written under the library's
     * lock. Guards read them without, by plain loads between compiler fences: no compiler folds an
     * atomic load into a comparison.
     */
    uint32_t bound_bits; /* the bits of the pkey that guards may open; UNBOUND: there is none */
    uint32_t pkey_bits;  /* the bits of `pkey`; they do not change while a guard pins it */
    uint32_t wd_bit;     /* its WD bit; valid while pinned */

    int tagged_pkey; /* the pkey that some of its pages may have; 0: none. Under the lock. */
    uint64_t serial; /* no other virtual key ever has it */
    struct eviction_history history; /* while it has no pkey; under the lock */

    /* Of software keys. `open` is written under the library's lock, read without. */
    enum pkeyguard_rights base UNDER_LIBRARY_LOCK; /* the rights without any guard */
    struct guard_counts guards;                    /* on the whole key; under the lock */
    atomic_int open; /* the rights on every region: base, and guards on the whole key */
};
_Static_assert(sizeof(struct pkeyguard_key_head) == 8 && offsetof(struct pkeyguard_key, head) == 0,
               "frozen for the ABI");

static inline bool rights_valid(enum pkeyguard_rights rights)
{
    return rights == PKEYGUARD_NO_ACCESS || rights == PKEYGUARD_READ_ONLY ||
           rights == PKEYGUARD_READ_WRITE;
}

/* Readies a software key, closed by default, in memory that is zeroed. It cannot fail. */
void key_init_private(struct pkeyguard_key *key) NEEDS_LIBRARY_LOCK;

/* Ends it. It has no pages. */
void key_end_private(struct pkeyguard_key *key) NEEDS_LIBRARY_LOCK;

/*
 * Pages join a key, and leave the one that they had, if any; or leave it for none: what the kernel
 * has for them is the caller's matter then. On failure nothing has changed.
 */
int key_take_pages(struct pkeyguard_key *key, struct pages *pages) NEEDS_LIBRARY_LOCK;
void key_drop_pages(struct pages *pages) NEEDS_LIBRARY_LOCK;

/* Sets the page rights of the key's pages. On failure they are as before. Takes the lock. */
int key_set_prot(const struct pkeyguard_key *key, struct pages *pages, int prot);

/*
 * Makes the key's pages readable and writable, for this thread at least, whatever the page rights
 * were: they are PROT_READ and PROT_WRITE then. On failure they are as before. key_close_pages()
 * leaves the page rights so; if it fails the pages are open still. Both take the lock.
 */
int key_open_pages(struct pkeyguard_key *key, struct pages *pages, struct pkru_change *ret_change);
int key_close_pages(struct pkeyguard_key *key, struct pages *pages,
                    const struct pkru_change *change);

#endif
