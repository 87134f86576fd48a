/* SPDX-License-Identifier: MIT */
/*
 * lock.h - the library's one lock
 *
 * It orders every change of keys, pages, pkeys and thread records. Guards take no lock on a
 * dedicated key, nor on a virtual key that has a pkey. One lock is enough: the slow work under it
 * is mprotect(2), which the kernel orders by the process's one mmap_lock anyway.
 *
 * While a thread holds the lock its signals are blocked. So no handler finds the lock held by the
 * thread that it interrupted, and neither siglongjmp(3) out of a handler nor cancellation leaves it
 * held. No code of the program runs meanwhile, malloc included. The exception are signals that an
 * instruction raises (SIGSEGV, SIGTRAP, SIGSYS, ...): they cannot wait.
 *
 * Clang's thread-safety analysis checks who holds it. A function that NEEDS_LIBRARY_LOCK is called
 * with the lock held; a member UNDER_LIBRARY_LOCK is read and written with the lock held.
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
 * Returns 0; -EDEADLK if this thread has the lock already: in a fork handler of the program that
 * runs while fork(3) holds it, or in the handler of a signal that an instruction of the library
 * raised. A fork child notices here that it is one, if no fork handler has told it.
 * Async-signal-safe.
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
 * For fork(3), which copies the lock: a parent holds it while it forks, and parent and child give
 * it back. fork.c calls these.
 */
void library_lock_for_fork(void);
void library_unlock_in_parent(void);
void library_unlock_in_child(void);

/*
 * A fork child has one thread, and perhaps not all of the memory: each module forgets the rest.
 * lock.c runs the list once in a child, with the lock held. NULL ends it; fork.c has it.
 */
extern void (*const fork_child_forget[])(void);

#endif
