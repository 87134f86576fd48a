/* SPDX-License-Identifier: MIT */
/*
 * key.h - a key: one protection domain
 *
 * A key is dedicated, owning one of the CPU's 15 pkeys; or virtual, sharing the pkeys that are left
 * with any number of others; or software, enforced with mprotect(2). Regions belong to a key
 * (region.h), guards open it (guard.h).
 *
 * A virtual key has a pkey while a guard on it is open and for as long after that as no other key
 * needs it. It opens by guards alone: its default rights are PKEYGUARD_NO_ACCESS, and it has no
 * pkeyguard_key_set_rights(). While it has no pkey its regions are inaccessible by their page
 * rights, so that a bad access faults with SEGV_ACCERR, and code in them does not run. Every thread
 * of the process must take part, if only by saying so once (thread.h).
 *
 * Under PKU rights belong to threads: what this header says of "the calling thread" holds for no
 * other. A thread that was running when a key was created has no access to it, whatever the default
 * rights, until it opens a guard or sets its own rights (thread.h, fault.h); a thread created later
 * starts with a copy of its creator's rights. Under mprotect rights are the whole process's.
 */
#ifndef PKEYGUARD_KEY_H
#define PKEYGUARD_KEY_H

#include <stdint.h>

#include <pkeyguard/platform.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* What a key allows. 0 is no right: a zeroed configuration opens nothing. */
enum pkeyguard_rights {
    PKEYGUARD_NO_ACCESS = 1,
    PKEYGUARD_READ_ONLY = 2,
    PKEYGUARD_READ_WRITE = 3
};

enum {
    PKEYGUARD_KEY_HARDWARE = 1, /* a pkey or nothing: -ENOTSUP rather than mprotect */
    PKEYGUARD_KEY_SOFTWARE = 2, /* mprotect, even where there is PKU */
    PKEYGUARD_KEY_VIRTUAL = 4,  /* shares the pkeys left with any number of its kind */
    PKEYGUARD_KEY_OPTIONAL = 8  /* a pkey, or no enforcement at all and no cost, openly:
                                   pkeyguard_key_enforcement() says PKEYGUARD_UNENFORCED */
};

struct pkeyguard_key;

/*
 * The head of every struct pkeyguard_key, frozen for as long as the soname stands, because the
 * inline guards read it: the key's bits in PKRU. Both are 0 for every key that is not dedicated.
 */
struct pkeyguard_key_head {
    uint32_t ad;    /* access-disable */
    uint32_t ad_wd; /* access-disable and write-disable */
};

/*
 * pkeyguard_key_create - a new key
 * @default_rights: what the calling thread (under mprotect: the process) may do with no guard open;
 *                  PKEYGUARD_NO_ACCESS for a virtual key
 * @flags: 0 or one of PKEYGUARD_KEY_*
 * @ret_key: set on success only; destroy it with pkeyguard_key_destroy()
 *
 * With no flag the key is dedicated where the machine has PKU and software where it has none;
 * PKEYGUARD_ENFORCEMENT=mprotect in the environment (read once, with secure_getenv(3)) stands for
 * "has none".
 *
 * A pkey that another key of this library used before is handed out again only when the kernel has
 * no other, and when no thread can still hold rights on it: the process has a single thread, or
 * every other thread has called pkeyguard_thread_reset() or pkeyguard_thread_register() since that
 * key was destroyed; or it was closed in all of them by pkeyguard_thread_use_signal()'s signal.
 *
 * PKEYGUARD_KEY_VIRTUAL never runs out. It registers the calling thread (thread.h), and is a
 * software key where the machine has no PKU. The virtual keys together take the pkeys they need,
 * never the last one: the kernel gives that to the first execute-only mapping, which is readable
 * without it.
 *
 * Returns 0; -EINVAL: rights or flags unknown or contradictory; -ENOTSUP: PKEYGUARD_KEY_HARDWARE
 * without PKU, or PKEYGUARD_KEY_VIRTUAL with PKU but without membarrier(2) (Linux 4.14); -ENOSPC:
 * no pkey left, or only used ones that some thread may have open; -ENOMEM; -EDEADLK: called from a
 * signal handler that interrupted this library. Thread: any. Signal: not async-signal-safe. Since
 * 0.1.
 */
__attribute__((warn_unused_result, nonnull(3))) int
pkeyguard_key_create(enum pkeyguard_rights default_rights, unsigned flags,
                     struct pkeyguard_key **ret_key);

/*
 * pkeyguard_key_destroy - give a key up
 * @key: NULL is allowed and does nothing
 *
 * The pkey stays with the library for its next key: freed into the kernel it would come back with
 * whatever rights other threads still hold on it. No guard of the key may be open in any thread;
 * of a dedicated key that cannot be known, of others it is checked. The key is closed in the
 * calling thread.
 *
 * Returns 0; -EBUSY: a region belongs to the key, or a guard on it is known to be open: nothing
 * changed; -EDEADLK as for create.
 * Thread: any, with no other use of this key at the same time. Signal: not async-signal-safe.
 * Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_key_destroy(struct pkeyguard_key *key);

/*
 * pkeyguard_key_enforcement - who stops a bad access to the key's regions
 * @key: NULL stands for a region's private key: PKEYGUARD_MPROTECT
 *
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
enum pkeyguard_enforcement pkeyguard_key_enforcement(const struct pkeyguard_key *key);

/*
 * pkeyguard_key_number - the hardware pkey
 *
 * Returns 1 to 15, or -1 when the key has none (NULL too). That of a virtual key may change or be
 * lost at any time that the calling thread has no guard open on it.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
int pkeyguard_key_number(const struct pkeyguard_key *key);

/*
 * pkeyguard_key_rights - what the calling thread may do with the key's regions now
 *
 * Under PKU it is read from the register; access-disable reads as PKEYGUARD_NO_ACCESS whatever
 * write-disable says. Under mprotect it is what the process may do with every region of the key:
 * the base and the guards on the whole key; guards on single regions do not count. A key without
 * enforcement is always PKEYGUARD_READ_WRITE, NULL always PKEYGUARD_NO_ACCESS. In a signal handler
 * that interrupted this library the answer under mprotect can be one change behind.
 *
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
enum pkeyguard_rights pkeyguard_key_rights(const struct pkeyguard_key *key);

/*
 * pkeyguard_key_set_rights - set what is allowed with no guard open
 * @rights: for the calling thread under PKU, for the process under mprotect
 *
 * Has no end of its own: prefer a guard. Inside a guard it must be undone before the guard is
 * released. Under mprotect open guards keep what they opened. A key without enforcement takes any
 * rights and stays open.
 *
 * Returns 0; -EINVAL: no key, unknown rights or a virtual key; and under mprotect -ENOMEM or
 * -EACCES when the kernel refuses the page rights, -EDEADLK from a handler that interrupted this
 * library: in each case nothing changed. Thread: any. Signal: async-signal-safe; under PKU it lasts
 * until the handler returns. Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_key_set_rights(struct pkeyguard_key *key,
                                                                 enum pkeyguard_rights rights);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
