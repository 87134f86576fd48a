/* SPDX-License-Identifier: MIT */
/*
 * key.h - a key: one protection domain
 *
 * A key is of one of these kinds:
 *  - dedicated: it owns one of the CPU's 15 pkeys
 *  - virtual: it shares the pkeys that are left with any number of other virtual keys
 *  - software: it is enforced with mprotect(2)
 *  - unenforced: PKEYGUARD_KEY_OPTIONAL where there is no PKU
 *
 * Regions belong to a key (region.h). Guards open a key (guard.h).
 *
 * A virtual key has a pkey while a guard on it is open, and keeps it afterwards until another key
 * needs it. Only guards open a virtual key: its default rights are PKEYGUARD_NO_ACCESS, and
 * pkeyguard_key_set_rights() refuses it. While the key has no pkey, the page tables make its
 * regions inaccessible: an access faults with SEGV_ACCERR, and code in them does not run. Every
 * thread of the process must take part: it opens a virtual key, or calls
 * pkeyguard_thread_register() once, or is made to by the signal of pkeyguard_thread_use_signal()
 * (thread.h).
 *
 * Under PKU rights belong to threads: "the calling thread" in this header means that thread and no
 * other. A thread that already runs when a key is created has no access to it, whatever the default
 * rights are, until it opens a guard or sets its own rights (thread.h, fault.h). A thread that is
 * created later starts with a copy of its creator's rights. Under mprotect rights belong to the
 * process.
 */
#ifndef PKEYGUARD_KEY_H
#define PKEYGUARD_KEY_H

#include <pkeyguard/types.h>

/* In declarations only: a declaration that says nothing new. */
#ifdef PKEYGUARD_DECLARATIONS_ONLY
#define PKEYGUARD_STATIC_ASSERT_(condition, text) struct pkeyguard_key
#elif defined(__cplusplus)
#define PKEYGUARD_STATIC_ASSERT_ static_assert
#else
#define PKEYGUARD_STATIC_ASSERT_ _Static_assert
#endif

#include <pkeyguard/begin.h>

/* How a bad access is stopped. */
enum pkeyguard_enforcement {
    PKEYGUARD_MPROTECT,  /* by page tables: a guard opens memory for the whole process */
    PKEYGUARD_PKU,       /* by the CPU's protection keys: a guard opens it for its own thread */
    PKEYGUARD_UNENFORCED /* not at all: a PKEYGUARD_KEY_OPTIONAL key where there is no PKU */
};

/* Rights on a key. 0 is not one of them: functions refuse it, so a zeroed variable opens
 * nothing. */
enum pkeyguard_rights {
    PKEYGUARD_NO_ACCESS = 1, /* every access faults */
    PKEYGUARD_READ_ONLY = 2, /* writes fault */
    PKEYGUARD_READ_WRITE = 3 /* reads and writes succeed */
};

enum {
    PKEYGUARD_KEY_HARDWARE = 1, /* a dedicated key; -ENOTSUP instead of a software key */
    PKEYGUARD_KEY_SOFTWARE = 2, /* a software key, even where there is PKU */
    PKEYGUARD_KEY_VIRTUAL = 4,  /* a virtual key */
    PKEYGUARD_KEY_OPTIONAL = 8  /* a dedicated key; where there is no PKU, an unenforced key: its
                                   memory is always open and its guards cost nothing */
};

struct pkeyguard_key;

/*
 * The head of every struct pkeyguard_key: a dedicated key's bits in PKRU. All are 0 for any other
 * key. The inline guards read it, so it does not change while the soname stays the same.
 */
struct pkeyguard_key_head {
    uint32_t ad;           /* access-disable */
    uint32_t ad_wd;        /* access-disable and write-disable */
    uint32_t wd;           /* write-disable */
    uint32_t default_deny; /* those of them that the default rights set; 0 before version 0.2 */
};

/*
 * pkeyguard_key_create - a new key
 * @default_rights: the rights with no guard open, of the calling thread (under mprotect: of the
 *                  process); PKEYGUARD_NO_ACCESS for a virtual key
 * @flags: 0 or one of PKEYGUARD_KEY_*
 * @ret_key: set on success only; destroy it with pkeyguard_key_destroy()
 *
 * With no flag the key is dedicated where the machine has PKU, else software. The machine counts as
 * having no PKU if pkey_alloc(2) fails with another error than ENOSPC or pkey_mprotect(2) fails, as
 * in a sandbox, or if the environment has PKEYGUARD_ENFORCEMENT=mprotect (read once, with
 * secure_getenv(3)).
 *
 * A dedicated key gets a pkey from the kernel. When the kernel has none left, it gets the pkey of a
 * destroyed key of this library, or one that the virtual keys do not need any more. Such a pkey is
 * used again only when no thread can still hold rights on it. That is so in one of these cases:
 *  - The process has a single thread.
 *  - Every other thread has called pkeyguard_thread_reset() or pkeyguard_thread_register() since
 *    the pkey became free.
 *  - The signal of pkeyguard_thread_use_signal() has closed the pkey in every thread.
 *
 * A pkey from the kernel may have had another user in this process. pkey_free(2) does not take the
 * rights on it from any thread. If the program has chosen a signal, the signal closes such a pkey
 * in every thread before it is used. Else the library uses the pkey as it uses that of a destroyed
 * key, if it is certain that it had another user: the calling thread has it open, or the kernel,
 * which gives out the lowest pkey that is free, has given a higher one to the library before. If
 * that is not certain, the pkey is closed in the calling thread alone. If the program frees a pkey
 * of this library, no other key gets it.
 *
 * The number of virtual keys is not limited. Creating one registers the calling thread (thread.h).
 * Where the machine has no PKU, PKEYGUARD_KEY_VIRTUAL creates a software key. Virtual keys leave
 * the last pkey to the kernel, which gives it to the first execute-only mapping; without a pkey
 * such a mapping would be readable.
 *
 * Returns 0, or:
 *  - -EINVAL: unknown rights, unknown or several flags, or a virtual key with other default rights
 *    than PKEYGUARD_NO_ACCESS
 *  - -ENOTSUP: PKEYGUARD_KEY_HARDWARE without PKU, or PKEYGUARD_KEY_VIRTUAL with PKU but without
 *    membarrier(2) (Linux 4.14)
 *  - -ENOSPC: no pkey is left, or only ones that some thread may have open; not for virtual keys
 *  - -ENOMEM: there is no memory
 *  - -EDEADLK: called where this thread has the library's lock (pkeyguard.h)
 *
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(3))) int
pkeyguard_key_create(enum pkeyguard_rights default_rights, unsigned flags,
                     struct pkeyguard_key **ret_key);

/*
 * pkeyguard_key_destroy - destroy a key
 * @key: NULL is allowed and does nothing
 *
 * No guard on the key may be open in any thread. The library checks that for virtual and software
 * keys; for a dedicated key it cannot. A dedicated key is closed in the calling thread. The library
 * keeps its pkey for the next key: if it were freed, the kernel could hand it out again while other
 * threads still hold rights on it.
 *
 * Returns 0, or, with nothing changed:
 *  - -EBUSY: a region belongs to the key, or a guard on it is known to be open; or, for a virtual
 *    key while the process has other threads, membarrier(2) fails, without which that cannot be
 *    known
 *  - -EDEADLK: called where this thread has the library's lock (pkeyguard.h)
 *
 * Thread: any, with no other use of this key at the same time. Signal: not async-signal-safe.
 * Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_key_destroy(struct pkeyguard_key *key);

/*
 * pkeyguard_key_enforcement - how a bad access to the key's regions is stopped
 * @key: NULL stands for a region's private key, which is PKEYGUARD_MPROTECT
 *
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
enum pkeyguard_enforcement pkeyguard_key_enforcement(const struct pkeyguard_key *key);

/*
 * pkeyguard_key_number - the key's pkey
 *
 * A virtual key's pkey may change or go away at any time while the calling thread has no guard open
 * on the key.
 *
 * Returns 1 to 15, or -1 if the key has none or is NULL.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
int pkeyguard_key_number(const struct pkeyguard_key *key);

/*
 * pkeyguard_key_rights - the calling thread's current rights on the key
 *
 * Under PKU they are read from PKRU. A pkey with access-disable reads as PKEYGUARD_NO_ACCESS,
 * whether or not it has write-disable. Under mprotect they are the rights that the process has on
 * every region of the key: the rights that hold with no guard open, widened by guards on the whole
 * key. Guards on single regions do not count. An unenforced key is always PKEYGUARD_READ_WRITE,
 * NULL always PKEYGUARD_NO_ACCESS.
 *
 * Under mprotect the answer may be the old or the new rights while another thread changes them.
 *
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
enum pkeyguard_rights pkeyguard_key_rights(const struct pkeyguard_key *key);

/*
 * pkeyguard_key_set_rights - set the rights that hold with no guard open
 * @rights: for the calling thread under PKU, for the process under mprotect
 *
 * The rights stay until they are set again, so prefer a guard. Inside a guard undo the call before
 * the guard is released. Under mprotect open guards keep open what they opened. An unenforced key
 * accepts any rights and stays open.
 *
 * Returns 0, or, with nothing changed:
 *  - -EINVAL: no key, unknown rights, or a virtual key
 *
 * Under mprotect also:
 *  - -ENOMEM, -EACCES: the kernel, a security policy or a sandbox refuses the page rights
 *  - -EDEADLK: called where this thread has the library's lock (pkeyguard.h)
 *
 * Thread: any. Signal: async-signal-safe; under PKU the rights last until the handler returns.
 * Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_key_set_rights(struct pkeyguard_key *key,
                                                                 enum pkeyguard_rights rights);

/*
 * pkeyguard_key_set_rights_everywhere - set a key's rights in every thread
 *
 * As pkeyguard_key_set_rights(), and the same for all other threads, also those that are older than
 * the key, and those that are blocked in a system call. At once or not at all: every other thread
 * is stopped by the signal that pkeyguard_thread_use_signal() has chosen, before the first one goes
 * on with the new rights. A thread that has a guard on the key open keeps the guard: its release
 * then closes what the guard opened, and the end of a pkeyguard_restrict() guard opens what the
 * guard closed. Rights on the key that were saved before do not come back: at the end of a call
 * gate or a tried call, and after pkeyguard_thread_restore() and _switch(), the thread has the new
 * ones (thread.h, fault.h). Under mprotect pkeyguard_key_set_rights() does the same.
 *
 * Returns 0, or, with nothing changed:
 *  - -EINVAL: no key, unknown rights, or a virtual key
 *  - -EAGAIN: under PKU the process has other threads and no signal was chosen, or a thread did not
 *    answer (pkeyguard_thread_use_signal())
 *  - -ENOMEM, -EACCES, -EDEADLK: as pkeyguard_key_set_rights()
 *
 * Thread: any. Signal: not async-signal-safe. Since 0.2.
 */
__attribute__((warn_unused_result)) int
pkeyguard_key_set_rights_everywhere(struct pkeyguard_key *key, enum pkeyguard_rights rights);

#include <pkeyguard/end.h>
#endif
