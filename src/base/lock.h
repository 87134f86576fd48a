/* SPDX-License-Identifier: MIT */
/*
 * lock.h - the library's one lock
 *
 * It orders every change of keys, pages, pkeys and thread records. Guards take no lock on a
 * dedicated key, nor on a virtual key that has a pkey. One lock is enough: the slow work under it
 * is mprotect(2), which the kernel orders by the process's one mmap_lock anyway.
 *
 * Clang's thread-safety analysis checks who holds it. A function that NEEDS_LIBRARY_LOCK is called
 * with the lock held; a member UNDER_LIBRARY_LOCK is read and written with the lock held.
 */
#ifndef LOCK_H
#define LOCK_H

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
 * Returns 0; -EDEADLK in a signal or fork handler that interrupted this thread inside the lock or
 * inside fork(3). In a handler: async-signal-safe.
 */
int library_lock(void) LOCK_ANALYSIS(try_acquire_capability(0, library_mutex));
void library_unlock(void) LOCK_ANALYSIS(release_capability(library_mutex));

/* The number of forks between the first process and this one. Needs no lock. */
unsigned library_forks(void);

/*
 * A fork child has one thread, and perhaps not all of the memory: each module forgets the rest.
 * lock.c runs the list once in a child, under the lock. NULL ends it; fork_child.c has it.
 */
extern void (*const fork_child_forget[])(void);

#endif
