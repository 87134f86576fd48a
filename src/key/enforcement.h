/* SPDX-License-Identifier: MIT */
/*
 * enforcement.h - the contract between keys and the three ways to enforce them
 *
 * Each member says under which lock it runs. "held": the caller has the library's lock. "inside":
 * the member takes the lock itself, and returns -EDEADLK in a signal handler that interrupted code
 * which holds it. "none": it takes no lock. Each member also says what a failure leaves behind, and
 * whether a signal handler may call it. The caller has checked all rights, modes and page rights.
 */
#ifndef ENFORCEMENT_H
#define ENFORCEMENT_H

#include <stdbool.h>

#include <pkeyguard/key.h>

#include "base/lock.h"
#include "key/guard_counts.h"
#include "key/pages.h"
#include "pkru/bits.h"

/* The deny bits that a guard has changed in PKRU, as relative bits (bits.h). */
struct pkru_change {
    pkru_bits cleared, set;
};

struct enforcement {
    enum pkeyguard_enforcement kind;

    /*
     * True if the key keeps one pkey for its whole life. Then page rights change only when a
     * region's do.
     */
    bool owns_pkey;

    /*
     * Prepares a new key with its default rights.
     * lock: held. fails: -ENOTSUP, the machine cannot do it; -ENOSYS, the kernel cannot do it;
     * -ENOSPC, no pkey is left; -ENOMEM. The caller then frees the key. signal: no.
     */
    int (*bind)(struct pkeyguard_key *key);

    /*
     * Ends a key that has no pages.
     * lock: held. fails: -EBUSY, a guard on the key is open; the key is unchanged. signal: no.
     */
    int (*unbind)(struct pkeyguard_key *key);

    /*
     * Gives the pages to the key with the page rights pages->prot, whatever pkey they had before.
     * lock: held. fails: -ENOMEM, -EACCES; the pages are unchanged, or the process aborts
     * (pages.h). signal: no.
     */
    int (*apply)(const struct pkeyguard_key *key, struct pages *pages);

    /*
     * Returns the calling thread's rights. Under mprotect all threads have the same rights.
     * lock: none. fails: never. signal: yes.
     */
    enum pkeyguard_rights (*rights)(const struct pkeyguard_key *key);

    /*
     * Sets the calling thread's rights. NULL if a key of this kind has no rights beside its guards
     * (no_base_rights in struct pkeyguard_key).
     * lock: none under PKU, else inside. fails: -EDEADLK, -ENOMEM, -EACCES; the rights are
     * unchanged. signal: yes.
     */
    int (*set_rights)(struct pkeyguard_key *key, enum pkeyguard_rights rights);

    /*
     * Sets these rights in every thread at once. NULL where set_rights is NULL.
     * lock: inside. fails: -EAGAIN, a thread did not answer; else as set_rights; the rights are
     * unchanged. signal: no.
     */
    int (*set_rights_everywhere)(struct pkeyguard_key *key, enum pkeyguard_rights rights);

    /*
     * Opens these pages, or the whole key if pages is NULL. Reports what it changed in PKRU.
     * lock: none on a dedicated key and on a virtual key that has a pkey, else inside. fails:
     * -EDEADLK, -ENOMEM, -EACCES; on virtual keys also -EBUSY, -EAGAIN, -ENOSPC (virtual_pool.h);
     * the rights are unchanged. signal: yes.
     */
    int (*enter)(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, struct pkru_change *ret_change);

    /*
     * Undoes enter.
     * lock: inside under mprotect, else none. fails: -EDEADLK, -ENOMEM, -EACCES; the guard stays
     * open and still counts. signal: yes.
     */
    int (*leave)(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, const struct pkru_change *change);

    /*
     * Reports the key's deny bits in PKRU now, as relative bits. Returns false if the key has no
     * pkey at the moment. NULL if keys of this kind never have a pkey.
     * lock: none. signal: yes.
     */
    bool (*denied)(const struct pkeyguard_key *key, pkru_bits *ret_denied);
};

extern const struct enforcement pku_enforcement;
extern const struct enforcement virtual_enforcement;
extern const struct enforcement mprotect_enforcement;
extern const struct enforcement no_enforcement;

/*
 * Counts what an entry of the calling thread has, after guards have changed it without the lock
 * (own_counts.h), and applies it. @released: the rights of the guard that was just subtracted.
 * Takes the lock. On -EDEADLK, -ENOMEM and -EACCES the page rights are as before, and the caller
 * aborts. Async-signal-safe.
 */
struct own_count;
int mprotect_settle(struct own_count *mine, enum pkeyguard_rights released);

/*
 * Suspend and resume the calling thread's software guards around a call gate and around a call that
 * a fault may end (guard_counts.h). They take the lock. They abort if the kernel refuses to change
 * page rights.
 */
void mprotect_suspend_own(void);
void mprotect_resume_own(unsigned level);
unsigned mprotect_raise_level(void);
void mprotect_keep_guards_at(unsigned level);
void mprotect_lower_level(unsigned level);

/*
 * Changes to another coroutine's software guards, as guard_counts_switch(). Takes the lock if there
 * are any. Returns 0, -ENOMEM or -EDEADLK, with nothing changed.
 */
int mprotect_switch_own(uint64_t to, uint64_t *ret_from);

/* Runs in a fork child: drops the software guards of the parent's other threads. */
void mprotect_forget_others(void) NEEDS_LIBRARY_LOCK;

#endif
