/* SPDX-License-Identifier: MIT */
/*
 * thread.h - what the kernel does not do for a thread's rights
 *
 * The kernel keeps PKRU for each thread and saves it around signal handlers. It does not look at it
 * when a thread is born, when a jump leaves scopes behind, or when coroutines share one thread:
 *
 *     sigjmp_buf back;                      longjmp and siglongjmp: save before, restore after
 *     struct pkeyguard_thread_rights rights;
 *
 *     pkeyguard_thread_save(&rights);
 *     if (sigsetjmp(back, 1) != 0)
 *         pkeyguard_thread_restore(&rights);
 *
 *     pkeyguard_thread_switch(&from->rights, &to->rights);    coroutines: before each switch
 *     swapcontext(&from->context, &to->context);
 *
 *     static void *thread(void *argument)   threads, and a pool's worker before each task
 *     {
 *         pkeyguard_thread_reset();
 *
 * Threads born inside a scope. A thread starts with a copy of its creator's PKRU, so it has
 * everything open that its creator has open at that moment, and no guard to close it. Either create
 * threads outside every scope, or call pkeyguard_thread_reset() first in the thread. Where
 * PKEYGUARD_DEBUG is defined before guard.h, acquiring a guard in a thread aborts if the key is
 * open wider than its default although nothing in this thread opened it; what opens it must be
 * compiled with PKEYGUARD_DEBUG, too.
 *
 * Threads older than a key. When a key is created only the calling thread gets its default rights;
 * threads that run already have no access, even to a key that everyone may read or write by
 * default. They must call pkeyguard_thread_reset() or pkeyguard_key_set_rights() once, or use
 * guards; or let PKEYGUARD_REPORTER_GRANT_DEFAULTS (fault.h) give them the default when they first
 * fault. System calls that they hand such memory get EFAULT without a fault.
 *
 * Virtual keys share the CPU's pkeys, and a pkey goes to another key only when every thread of the
 * process is known to have it closed. A thread is known once it is registered, which its first
 * guard on a virtual key does. A thread that never opens one must say so, or it is in the way: it
 * may have been born inside a scope.
 *
 * While a guard on a virtual key is open no other key can have its pkey. A coroutine that is not
 * running keeps no pkey from others: the switch that leaves it gives them up, and the switch back
 * to it takes one for each of its keys, which may be another one than before.
 *
 * All of this is about PKU. Under mprotect rights are the whole process's and follow no thread:
 * these functions leave them alone, and a guard that a longjmp has skipped stays open for everyone,
 * for good. Release it yourself before the jump.
 *
 * The pkeys of other libraries are never touched: each function changes the bits of this library's
 * keys in PKRU as it is at that moment.
 */
#ifndef PKEYGUARD_THREAD_H
#define PKEYGUARD_THREAD_H

#include <stdint.h>

#include <pkeyguard/platform.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* A virtual key that guards were open on. */
struct pkeyguard_virtual_rights {
    uint64_t serial; /* of the key */
    uint32_t pins;   /* how many guards */
    uint32_t denied; /* its deny bits in PKRU */
};

/*
 * What a thread may do with each key. The caller allocates it and leaves its members alone; {0} is
 * the rights on no key.
 */
struct pkeyguard_thread_rights {
    uint64_t bound;                                   /* the dedicated keys that there were, */
    uint32_t pkru;                                    /* with their rights */
    uint32_t virtual_count;                           /* how many virtual keys had guards open */
    struct pkeyguard_virtual_rights virtual_keys[15]; /* which ones */
    uint64_t reserved[32];
};
PKEYGUARD_STATIC_ASSERT_(sizeof(struct pkeyguard_thread_rights) == 512, "frozen for the ABI");

/*
 * pkeyguard_thread_save - the calling thread's rights on every key
 *
 * Thread: any. Signal: async-signal-safe; a handler sees its own rights, not the interrupted
 * code's. Since 0.1.
 */
__attribute__((nonnull)) void pkeyguard_thread_save(struct pkeyguard_thread_rights *ret_rights);

/*
 * pkeyguard_thread_restore - give the calling thread the rights that it saved
 *
 * Closes what was opened since and not closed, and opens what was open then. Guards that the jump
 * skipped are undone by that, and must not be released any more; guards acquired before the save
 * are released as ever. Dedicated keys created or destroyed since the save are left as they are.
 * Of a virtual key it opens what a guard still has open, and closes every other; where it cannot be
 * seen that the thread is not in a signal handler, which is so on the stack of a coroutine after a
 * siglongjmp out of a handler, guards that were skipped keep their pkeys from other keys.
 *
 * Thread: the one that saved. Signal: async-signal-safe; in a handler it lasts until the handler
 * returns. Fork: a child may restore what its parent saved. Since 0.1.
 */
__attribute__((nonnull)) void
pkeyguard_thread_restore(const struct pkeyguard_thread_rights *rights);

/*
 * pkeyguard_thread_switch - from one coroutine's rights to another's
 * @ret_from: set to the rights of the coroutine that is left
 * @to: the rights of the one that is entered, as its last switch left them; NULL or {0}: it is new
 *
 * Call it immediately before the switch of stacks. Guards may be open on both sides: each coroutine
 * has open what its own guards opened. A new one starts with the defaults of all keys, and so does
 * every one on keys created since it was left. Virtual keys destroyed since then are closed, as if
 * there had been no guard. ret_from and to may be the same.
 *
 * It can fail only if `to` has guards open on virtual keys, and then nothing has changed, and
 * ret_from is as it was. The pkeys of the coroutine that is left are free for others only
 * afterwards.
 *
 * Returns 0; -EBUSY: every pkey is taken by open guards; -EAGAIN: a thread that is not registered
 * is in the way, or the calling one is not and it cannot be seen that it is outside signal
 * handlers; -ENOSPC: there is no pkey for virtual keys; -ENOMEM, -EACCES: the kernel refuses to
 * change the pages; -EDEADLK: in a signal handler that interrupted this library. Thread: any; a
 * coroutine may go on in another thread. Signal: async-signal-safe, but do not switch coroutines in
 * a handler. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(1))) int
pkeyguard_thread_switch(struct pkeyguard_thread_rights *ret_from,
                        const struct pkeyguard_thread_rights *to);

/*
 * pkeyguard_thread_reset - every key back to its default rights, in the calling thread
 *
 * The first thing a new thread should do, and a pool's worker between tasks. Guards of this thread
 * that are open then are undone and must not be released any more. It does what
 * pkeyguard_thread_register() does, too, where there are virtual keys or destroyed ones and it can
 * be seen that the thread is in no signal handler, which it cannot on the stack of a coroutine.
 *
 * Thread: any. Signal: async-signal-safe; in a handler it lasts until the handler returns, and it
 * registers nothing.
 * Since 0.1.
 */
void pkeyguard_thread_reset(void);

/*
 * pkeyguard_thread_register - take part in virtual keys, and in handing on destroyed keys' pkeys
 *
 * Closes every virtual key in the calling thread, if it is not registered yet, and never again; and
 * each time the pkeys of the dedicated keys that are destroyed by now (pkeyguard_key_create()). A
 * thread that has ended is forgotten by itself, however it ended.
 *
 * It must not be called from a signal handler: what it closes, the return from there would open
 * again. Where PKU does not enforce there is nothing to do.
 *
 * Returns 0; -ENOMEM; -EDEADLK: called from a signal handler that interrupted this library.
 * Thread: any. Signal: not async-signal-safe. Fork: the child's thread is as registered as its
 * parent. Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_thread_register(void);

/*
 * pkeyguard_thread_use_signal - let the library close destroyed keys in other threads by a signal
 * @signal: one that the program does not use and no thread blocks; SIGURG, say, which does no harm
 *          if it comes late, after an exec
 *
 * From now on pkeyguard_key_create() need not wait for every thread to say that it has closed the
 * pkeys of destroyed keys. When a new dedicated key needs one, it sends the signal to the process's
 * other threads, stops them for as long as that takes, and closes those pkeys in each. Nothing is
 * ever sent for another reason, or without this call, and nothing where PKU does not enforce.
 *
 * The signal costs each thread a few microseconds, and interrupts some system calls, although it
 * restarts those that can be: nanosleep(2), poll(2), epoll_wait(2), a futex(2) wait with a time
 * limit as in sem_timedwait(3), and recv(2) with SO_RCVTIMEO end with EINTR.
 *
 * Where half a second passes in which no further thread closes them, or two seconds in all, every
 * thread goes on as it was, and create returns -ENOSPC; another try may succeed. So it is with a
 * thread that blocks the signal, sleeps in the kernel where signals do not wake it, is in another
 * signal handler (what that closes its return opens again) or has what looks like one's frame on
 * its stack, runs on a stack whose end cannot be found, as a coroutine's, or is the kernel's own,
 * as io_uring's. Handlers need room for another one on the thread's stack, or its alternate one.
 *
 * A program that keeps a value of PKRU of its own and writes it back later undoes what was closed
 * meanwhile; guards do not, nor this header's functions, nor pkey_set(3).
 *
 * Returns 0; -EINVAL: no signal, one that cannot be handled, one that reports faults, or one of the
 * C library's own; -EBUSY: it has a handler or is ignored already, or another one was chosen
 * before; -EDEADLK: called from a signal handler that interrupted this library. Thread: any.
 * Signal: not async-signal-safe. Fork: a child has it, too. Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_thread_use_signal(int signal);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
