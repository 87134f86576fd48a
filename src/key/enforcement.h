/* SPDX-License-Identifier: MIT */
/*
 * enforcement.h - the back ends' contract: what a key and its pages are to those that enforce them
 *
 * Each member says: under which lock it runs ("held": the caller has the library's lock; "inside":
 * it takes the lock itself, so that it returns -EDEADLK in a signal handler that interrupted the
 * lock; "none"); what a failure leaves; and whether a signal handler may call it. Rights, modes and
 * page rights that they are given are valid.
 */
#ifndef ENFORCEMENT_H
#define ENFORCEMENT_H

#include <stdbool.h>

#include <pkeyguard/key.h>

#include "base/lock.h"
#include "key/guard_counts.h"
#include "key/pages.h"
#include "pkru/bits.h"

/* The deny bits that a guard has changed in PKRU; a virtual key's as relative bits (bits.h). */
struct pkru_change {
    pkru_bits cleared, set;
};

struct enforcement {
    enum pkeyguard_enforcement kind;

    /* The key has one pkey for its whole life: page rights change only when the region asks. */
    bool owns_pkey;

    /*
     * Readies a new key with its default rights.
     * lock: held. fails: -ENOTSUP, not on this machine; -ENOSYS, not on this kernel; -ENOSPC, no
     * pkey left; -ENOMEM; the key is unused. signal: no.
     */
    int (*bind)(struct pkeyguard_key *key);

    /*
     * Ends a key that has no pages.
     * lock: held. fails: -EBUSY, a guard on the key is known to be open; it stays as it was.
     * signal: no.
     */
    int (*unbind)(struct pkeyguard_key *key);

    /*
     * Gives the pages to the key with the page rights pages->prot, whatever pkey they had before.
     * lock: held. fails: -ENOMEM, -EACCES; the pages are as they were, or it aborts (pages.h).
     * signal: no.
     */
    int (*apply)(const struct pkeyguard_key *key, struct pages *pages);

    /*
     * The calling thread's rights; under mprotect every thread's.
     * lock: none. fails: never. signal: yes.
     */
    enum pkeyguard_rights (*rights)(const struct pkeyguard_key *key);

    /*
     * Sets these rights. NULL where a key has none beside its guards (struct pkeyguard_key,
     * no_base_rights).
     * lock: none under PKU, else inside. fails: -EDEADLK, -ENOMEM, -EACCES; the rights are as they
     * were. signal: yes.
     */
    int (*set_rights)(struct pkeyguard_key *key, enum pkeyguard_rights rights);

    /*
     * Sets these rights in every thread at once. NULL as set_rights.
     * lock: inside. fails: -EAGAIN, a thread cannot be reached; else as set_rights; the rights are
     * as they were. signal: no.
     */
    int (*set_rights_everywhere)(struct pkeyguard_key *key, enum pkeyguard_rights rights);

    /*
     * Opens pages, or the whole key for NULL, and says what it changed in PKRU.
     * lock: none on a dedicated key, or on a virtual one that has a pkey; else inside. fails:
     * -EDEADLK, -ENOMEM, -EACCES; on virtual keys -EBUSY, -EAGAIN, -ENOSPC, too (virtual_pool.h);
     * the rights are as they were. signal: yes.
     */
    int (*enter)(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, struct pkru_change *ret_change);

    /*
     * Undoes enter.
     * lock: inside under mprotect, else none. fails: -EDEADLK, -ENOMEM, -EACCES; it is open as
     * before, and the guard counts. signal: yes.
     */
    int (*leave)(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, const struct pkru_change *change);

    /*
     * The key's deny bits in PKRU now, in the form of struct pkru_change. False: the key has no
     * pkey now. NULL where keys never have one.
     * lock: none. signal: yes.
     */
    bool (*denied)(const struct pkeyguard_key *key, pkru_bits *ret_denied);
};

extern const struct enforcement pku_enforcement;
extern const struct enforcement virtual_enforcement;
extern const struct enforcement mprotect_enforcement;
extern const struct enforcement no_enforcement;

/*
 * The calling thread's software guards across a call gate and a call that a fault may end; see
 * guard_counts.h. They take the lock, and abort if page rights cannot be changed.
 */
void mprotect_suspend_own(void);
void mprotect_resume_own(void);
unsigned mprotect_raise_level(void);
void mprotect_keep_guards_at(unsigned level);
void mprotect_lower_level(unsigned level);

/* In a fork child, which does not have the other threads' software guards. */
void mprotect_forget_others(void) NEEDS_LIBRARY_LOCK;

#endif
