/* SPDX-License-Identifier: MIT */
/*
 * lock.h - the library's one lock
 *
 * The lock orders every change of keys, pages, pkeys and thread records. A guard takes no lock on a
 * dedicated key, or on a virtual key that has a pkey. One lock is enough, because the slow work
 * under it is mprotect(2), which the kernel serialises for the whole process anyway (mmap_lock).
 *
 * A thread blocks its signals while it holds the lock. So a handler never finds the lock held by
 * the thread that it interrupted, and neither siglongjmp(3) out of a handler nor cancellation
 * leaves the lock held. No code of the program runs under the lock, not even malloc. Signals that
 * an instruction raises (SIGSEGV, SIGTRAP, SIGSYS, ...) are not blocked, because they cannot wait.
 *
 * Clang's thread-safety analysis checks the use of the lock. The caller of a function that
 * NEEDS_LIBRARY_LOCK holds the lock. A member UNDER_LIBRARY_LOCK is read and written only with the
 * lock held.
 */
#ifndef LOCK_H
#define LOCK_H

#include <stdbool.h>

#ifdef __clang__
#define LOCK_ANALYSIS(attribute) __attribute__((attribute))
#else
#define LOCK_ANALYSIS(attribute)
#endif

#define NEEDS_LIBRARY_LOCK LOCK_ANALYSIS(requires_capability(library_mutex))
#define UNDER_LIBRARY_LOCK LOCK_ANALYSIS(guarded_by(library_mutex))

struct LOCK_ANALYSIS(capability("library lock")) library_mutex;
extern struct library_mutex library_mutex;

/*
 * Takes the lock. Returns 0, or -EDEADLK if this thread already has the lock. That happens in a
 * fork handler of the program that runs while fork(3) holds the lock, and in the handler of a
 * signal that an instruction of the library raised. A fork child that ran no fork handler notices
 * here that it is a new process. Async-signal-safe.
 */
int library_lock(void) LOCK_ANALYSIS(try_acquire_capability(0, library_mutex));
void library_unlock(void) LOCK_ANALYSIS(release_capability(library_mutex));

/*
 * For code that has other locks: a fork child notices here that it is one, as in library_lock().
 * Returns 0 or its -EDEADLK. Async-signal-safe.
 */
int library_notice_fork(void);

/*
 * True if this thread certainly left the lock held by siglongjmp(3) out of such a handler: it is on
 * the stack that it was on, where the function that took the lock has no frame any more. @frame: of
 * the function that the program has called.
 */
bool library_lock_is_lost(const void *frame);

/*
 * fork(3) copies the lock. So the parent takes it before it forks, and parent and child both
 * release it. fork.c calls these.
 */
void library_lock_for_fork(void);
void library_unlock_in_parent(void);
void library_unlock_in_child(void);

/*
 * A fork child has one thread, and possibly not all of the memory. Each of these functions drops
 * one module's state of the missing threads and memory. lock.c calls them once in a child, with the
 * lock held. NULL ends the list, which is in fork.c.
 */
extern void (*const fork_child_forget[])(void);

#endif
