/* SPDX-License-Identifier: MIT */
/*
 * thread.h - a thread's rights across thread creation, longjmp and coroutine switches
 *
 * The kernel keeps a PKRU for each thread and saves it around signal handlers. It does not adjust
 * PKRU for a new thread, after a longjmp out of a scope, or at a coroutine switch. These functions
 * do. For longjmp and siglongjmp, save the rights before and restore them after:
 *
 *     sigjmp_buf back;
 *     struct pkeyguard_thread_rights rights;
 *
 *     pkeyguard_thread_save(&rights);
 *     if (sigsetjmp(back, 1) != 0)
 *         pkeyguard_thread_restore(&rights);
 *
 * For coroutines, before each switch:
 *
 *     pkeyguard_thread_switch(&from->rights, &to->rights);
 *     swapcontext(&from->context, &to->context);
 *
 * In a new thread, and in a pool's worker before each task:
 *
 *     static void *thread(void *argument)
 *     {
 *         pkeyguard_thread_reset();
 *
 * For the coroutines of C++20 coroutines.hpp makes these calls.
 *
 * Call setjmp(3) in another function than the one with the scope. If both are in one function, gcc
 * -O1 may warn that variables of guard.h might be clobbered (-Wclobbered, part of -Wextra). No
 * pragma in a header prevents that, and the code does not use them after a jump.
 *
 * Threads created inside a scope. A thread starts with a copy of its creator's PKRU. So it can
 * reach whatever its creator has open at that moment, and it has no guard that would close it.
 * Create threads outside every scope, or call pkeyguard_thread_reset() first in the thread. If
 * PKEYGUARD_DEBUG is defined before guard.h is included, a guard on a dedicated key aborts if the
 * key is open wider than its default and nothing in this thread opened it. The code that opens keys
 * must be compiled with PKEYGUARD_DEBUG, too.
 *
 * Threads older than a key. When a key is created, only the calling thread gets the default rights.
 * Threads that already run have no access to the key, even if every thread may read or write it by
 * default. Such a thread can use guards, or call pkeyguard_thread_reset() or
 * pkeyguard_key_set_rights() once. Or PKEYGUARD_REPORTER_GRANT_DEFAULTS (fault.h) gives it the
 * default rights at its first fault. A system call that it hands such memory does not fault: it
 * fails with EFAULT.
 *
 * Virtual keys share the CPU's pkeys. A pkey goes to another key only when the library knows that
 * every thread of the process has it closed. It knows that only of registered threads. A thread's
 * first guard on a virtual key registers it. A thread that never opens a virtual key must call
 * pkeyguard_thread_register() or pkeyguard_thread_reset() once, or is made to register by the
 * signal of pkeyguard_thread_use_signal(). Until then no key can take a pkey from another, because
 * the thread may have been created inside a scope.
 *
 * While a guard on a virtual key is open, no other key can get its pkey. A coroutine that is not
 * running pins no pkey: the switch away from it gives its pkeys up. The switch back to it takes a
 * pkey for each of its keys, not always the same pkey as before.
 *
 * All of this is about PKU. Under mprotect rights belong to the process and not to a thread, and
 * these functions do not change them, but for call gates. A guard that a longjmp skips then stays
 * open for every thread, for good. Release it yourself before the jump.
 *
 * The functions never touch the pkeys of other libraries: they read PKRU, change the bits of this
 * library's keys and write it back.
 */
#ifndef PKEYGUARD_THREAD_H
#define PKEYGUARD_THREAD_H

#include <pkeyguard/platform.h>
#include <pkeyguard/types.h>

#include <pkeyguard/begin.h>

/* Saved rights on one virtual key with open guards. */
struct pkeyguard_virtual_rights {
    uint64_t serial; /* of the key */
    uint32_t pins;   /* number of open guards */
    uint32_t denied; /* the pkey's deny bits: 1 access-disable, 2 write-disable */
};

/*
 * Saved rights of a thread on every key. The caller allocates it and does not touch its members.
 * {0} stands for rights on no key.
 */
struct pkeyguard_thread_rights {
    uint64_t bound;         /* the dedicated keys that existed */
    uint32_t pkru;          /* PKRU, with the rights on those keys */
    uint32_t virtual_count; /* number of virtual keys with open guards */
    uint64_t holder;        /* of the guards, for PKEYGUARD_DEBUG */
    uint64_t level;         /* the number of call gates and tried calls (fault.h) around it */
    uint64_t parked;        /* of a coroutine that does not run: its guards under mprotect */
    uint64_t tried_call;    /* of such a coroutine: the innermost tried call */
    struct pkeyguard_virtual_rights virtual_keys[15]; /* these keys */
    uint64_t reserved[28];
};
PKEYGUARD_STATIC_ASSERT_(sizeof(struct pkeyguard_thread_rights) == 512, "frozen for the ABI");

/*
 * pkeyguard_thread_save - save the calling thread's rights on every key
 *
 * Thread: any. Signal: async-signal-safe; a handler saves its own rights, not the interrupted
 * code's. Since 0.1.
 */
__attribute__((nonnull)) void pkeyguard_thread_save(struct pkeyguard_thread_rights *ret_rights);

/*
 * pkeyguard_thread_restore - restore the rights that the calling thread saved
 *
 * It closes keys that were opened since the save, and opens keys that were open then. So it undoes
 * the guards that a jump skipped: do not release them any more. Guards that were acquired before
 * the save are released as usual. Dedicated keys that were created or destroyed since the save keep
 * their present rights.
 *
 * A virtual key is opened only if the guard that had it open at the save is still open. Every other
 * virtual key is closed, and the pins of skipped guards are dropped. The pins stay, and keep their
 * pkeys from other keys, if the function cannot tell that the thread is outside signal handlers.
 * That is so on a coroutine's stack after a siglongjmp out of a handler.
 *
 * If the jump left call gates, the function opens again what they closed, also under mprotect. For
 * that it may wait or abort as pkeyguard_closed_leave() does. It cannot if it cannot tell that the
 * thread is outside signal handlers; on CPUs other than x86-64 it never can. Then call
 * pkeyguard_closed_leave() yourself.
 *
 * Thread: the one that saved. Signal: async-signal-safe; in a handler the rights last until the
 * handler returns, and the interrupted code keeps its rights and pins. Fork: a child may restore
 * what its parent saved. Since 0.1.
 */
__attribute__((nonnull)) void
pkeyguard_thread_restore(const struct pkeyguard_thread_rights *rights);

/*
 * pkeyguard_thread_switch - change from one coroutine's rights to another's
 * @ret_from: set to the rights of the coroutine that stops running
 * @to: the rights of the coroutine that runs next, as an earlier switch stored them; NULL or {0}
 *      for a new one
 *
 * Call it immediately before the switch of stacks. Both coroutines may have guards open: each has
 * open what its own guards opened. A new coroutine starts with the default rights on every key. So
 * does an old one on keys that were created since it last ran. Virtual keys that were destroyed
 * since then are closed, and guards on them need no release. ret_from and to may be the same.
 *
 * The call can fail only if `to` has guards open on virtual keys, or one of the two has guards open
 * under mprotect. These guards stay open, for all threads, while their coroutine does not run. The
 * pkeys of the coroutine that stops become free for other keys only after the call.
 *
 * Returns 0, or, with nothing changed:
 *  - -EBUSY: open guards pin every pkey
 *  - -EAGAIN: a thread is not registered; or the calling thread is not, and cannot be here
 *    (pkeyguard_acquire())
 *  - -ENOSPC: no pkey is left for virtual keys
 *  - -ENOMEM, -EACCES: the kernel, a security policy or a sandbox refuses the page rights, or there
 *    is no memory
 *  - -EDEADLK: called where this thread has the library's lock (pkeyguard.h)
 *
 * Thread: any; a coroutine may continue in another thread. Signal: async-signal-safe, but do not
 * switch coroutines in a handler. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(1))) int
pkeyguard_thread_switch(struct pkeyguard_thread_rights *ret_from,
                        const struct pkeyguard_thread_rights *to);

/*
 * pkeyguard_thread_reset - set every key to its default rights in the calling thread
 *
 * A new thread should call it first, and a pool's worker between tasks. It undoes the guards that
 * this thread has open: do not release them any more.
 *
 * If the program has used virtual keys or destroyed dedicated ones, it also does what
 * pkeyguard_thread_register() does. It does not register the thread if it cannot tell that no
 * return from a signal handler will open a pkey in it again. That can happen on a coroutine's
 * stack.
 *
 * Thread: any. Signal: async-signal-safe; in a handler the rights last until the handler returns,
 * the interrupted code keeps its rights and pins, and the thread is registered only if that code
 * has none of the pkeys open that registering closes. Since 0.1.
 */
void pkeyguard_thread_reset(void);

/*
 * pkeyguard_thread_register - let pkeys that this thread does not use go to other keys
 *
 * The first call in a thread closes every virtual key in it and registers the thread. Later calls
 * leave virtual keys alone. Every call closes the pkeys of dedicated keys that were destroyed
 * before, so that new keys can use them (pkeyguard_key_create()). The library finds out by itself
 * that a thread has ended, in whatever way.
 *
 * Do not call it from a signal handler: the return from the handler would open again what the call
 * closed. Where there is no PKU the function does nothing.
 *
 * Returns 0; -ENOMEM; or -EDEADLK: called where this thread has the library's lock (pkeyguard.h).
 * Thread: any. Signal: not async-signal-safe. Fork: the child's thread is registered if the thread
 * that called fork was. Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_thread_register(void);

/*
 * pkeyguard_thread_use_signal - let the library change other threads' rights by a signal
 * @signal: a signal that the program does not use and no thread blocks; SIGURG is a good choice:
 *          its default action is to be ignored, so it does no harm if it arrives late, after an
 *          exec
 *
 * Without a signal the library depends on calls that each thread makes itself. With a signal it
 * reaches threads that never call it, such as those of another library or of a language's runtime.
 * It sends the signal for these reasons only, and never where there is no PKU:
 *  - A key needs a pkey that a thread may have open: one of a destroyed key, or one from the
 *    kernel. Every other thread is stopped, closes the pkey, and goes on when all have.
 *  - A virtual key needs a pkey, and a thread is not registered: it is made to register.
 *  - pkeyguard_key_set_rights_everywhere()
 *
 * The signal costs each thread a few microseconds. Its handler has SA_RESTART, but some system
 * calls cannot be restarted and end with EINTR: nanosleep(2), poll(2), epoll_wait(2), a futex(2)
 * wait with a time limit as in sem_timedwait(3), and recv(2) with SO_RCVTIMEO.
 *
 * The attempt fails when no further thread has answered for half a second, or after two seconds in
 * all. Then all threads go on, and the function that needed it fails: with -ENOSPC for a dedicated
 * key, else with -EAGAIN. A later try may succeed, but none is made while a thread that did not
 * answer still blocks the signal. These threads make it fail:
 *  - a thread that blocks the signal, or sleeps in the kernel where signals do not wake it
 *  - a thread that is in another signal handler, whose return would open the pkeys again
 *  - a thread whose stack's end cannot be found, as on a coroutine's stack
 *  - a kernel thread of the process, as io_uring has
 *
 * Each thread needs room for one more signal frame on its stack, or on its alternate signal stack.
 *
 * A program that reads PKRU and writes the value back later opens the pkeys again that were closed
 * in between. Guards, the functions of thread.h and pkey_set(3) do not.
 *
 * If the static library is part of a plugin, the call keeps the plugin loaded until the process
 * ends: dlclose(3) does not unmap it any more.
 *
 * Returns 0, or:
 *  - -EINVAL: not a signal, or one that cannot be handled, reports faults or belongs to the C
 *    library
 *  - -ENOTSUP: the library is part of a plugin that cannot be kept loaded
 *  - -EBUSY: the signal has a handler or is ignored, or another signal was chosen before
 *  - -EDEADLK: called where this thread has the library's lock (pkeyguard.h)
 *
 * Thread: any. Signal: not async-signal-safe. Fork: a child keeps the choice. Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_thread_use_signal(int signal);

/*
 * pkeyguard_thread_rights_size - sizeof(struct pkeyguard_thread_rights), for bindings
 * pkeyguard_guard_size - sizeof(struct pkeyguard_guard), for bindings
 *
 * A program that does not compile the headers allocates so many bytes.
 *
 * Thread: any. Signal: async-signal-safe. Since 0.2.
 */
size_t pkeyguard_thread_rights_size(void);
size_t pkeyguard_guard_size(void);

/*
 * The call gate. Foreign code, such as a plugin or a callback, runs while nothing of the caller's
 * is open.
 *
 *     pkeyguard_scoped_closed(gate) {
 *         plugin->callback(argument);
 *     }
 */

/* The state of a gate. The caller allocates it and does not touch its members. */
struct pkeyguard_closed {
    struct pkeyguard_thread_rights rights; /* what was open */
    uint32_t entered;                      /* 1 between enter and leave */
    uint32_t unpinned;                     /* 1: the virtual keys' pins were dropped */
    uint64_t reserved[7];
};

/*
 * pkeyguard_closed_enter - close every key of this library for the calling thread
 * pkeyguard_closed_leave - open again what was open before
 *
 * Dedicated keys are closed whatever their default rights are. Virtual keys are closed and
 * unpinned, so other keys can have their pkeys; at the end they get pkeys again, for which this may
 * wait, as a scope does. Under mprotect the calling thread's guards count for nothing in between:
 * memory is closed unless a guard of another thread or the key's rights keep it open. In between
 * guards can be acquired and released as anywhere else, and gates nest; but a guard that was open
 * before the gate must not be released inside it: under PKU its key would be open after the gate,
 * for good. PKEYGUARD_DEBUG (guard.h) aborts on that. Every call of enter needs a
 * call of leave in the same thread; a second call of leave does nothing. leave keeps errno. After a
 * longjmp out of a gate call pkeyguard_thread_restore().
 *
 * They abort with one line on stderr if the kernel refuses page rights, if virtual keys get no
 * pkey, or inside fork(3).
 * Thread: any. Signal: async-signal-safe; in a handler virtual keys are closed, but not unpinned.
 * Since 0.2.
 */
__attribute__((nonnull)) void pkeyguard_closed_enter(struct pkeyguard_closed *ret_closed);
__attribute__((nonnull)) void pkeyguard_closed_leave(struct pkeyguard_closed *closed);

/*
 * pkeyguard_scoped_closed - a block with everything closed
 * @name: of the gate
 *
 * The block is left as a scope is (guard.h), and what was open before is open again. See
 * pkeyguard_closed_enter().
 *
 * Thread: any. Signal: async-signal-safe. Since 0.2.
 */
#define pkeyguard_scoped_closed(name)                                                   \
    for (struct pkeyguard_closed name __attribute__((cleanup(pkeyguard_closed_leave))), \
         *name##_pkeyguard_once = (pkeyguard_closed_enter(&name), &name);               \
         name##_pkeyguard_once != NULL; name##_pkeyguard_once = NULL)

#include <pkeyguard/end.h>
#endif
