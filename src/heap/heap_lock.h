/* SPDX-License-Identifier: MIT */
/*
 * heap_lock.h - the heaps' spin lock, for data that no signal handler needs
 *
 * A thread holds it for a few instructions or while it wipes one small object. Three cases take
 * longer: mlock(2) of new blocks, a search for empty slabs, and a fork. Waiters spin first and then
 * sleep. The lock is unfair. A thread that takes it twice gets -EDEADLK.
 */
#ifndef HEAP_LOCK_H
#define HEAP_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/lock.h"
#include "heap/heap_thread.h"

/* The holder of a lock that no thread can ever take again. */
#define HEAP_LOCK_LOST (~0u)

struct LOCK_ANALYSIS(capability("heap lock")) heap_lock {
    atomic_uint holder; /* a thread's number; 0: free */
    unsigned fork;      /* which of its holder's forks took it, from 1; 0: no fork took it */
};

/* Waits for a lock that is not free, and takes it. Fails as heap_lock_acquire(). Keeps errno. */
__attribute__((noinline, cold)) int heap_lock_wait(struct heap_lock *lock);

/*
 * Waits until the lock is free, and takes it. Returns 0, or -EDEADLK: the calling thread already
 * has it, or no thread can ever take it again, or it is not free and the thread never waits.
 */
static inline int heap_lock_acquire(struct heap_lock *lock)
    LOCK_ANALYSIS(try_acquire_capability(0, lock)) LOCK_ANALYSIS(no_thread_safety_analysis)
{
    unsigned free = 0;

    if (__builtin_expect(
            atomic_compare_exchange_strong_explicit(&lock->holder, &free, heap_thread_number(),
                                                    memory_order_acquire, memory_order_relaxed),
            1))
        return 0;
    return heap_lock_wait(lock);
}

static inline void heap_lock_release(struct heap_lock *lock) LOCK_ANALYSIS(release_capability(lock))
    LOCK_ANALYSIS(no_thread_safety_analysis)
{
    atomic_store_explicit(&lock->holder, 0, memory_order_release);
}

/* A thread's number, 0, or HEAP_LOCK_LOST. */
static inline unsigned heap_lock_holder(const struct heap_lock *lock)
{
    return atomic_load_explicit(&lock->holder, memory_order_relaxed);
}

/*
 * heap_lock_take_for_fork() takes the lock unless the calling thread already has it or it is lost.
 * heap_lock_release_after_fork() releases what the innermost fork of this thread took. The caller
 * counts that fork in own_heap_thread.forks.
 */
void heap_lock_take_for_fork(struct heap_lock *lock);
bool heap_lock_is_taken_by_fork(const struct heap_lock *lock);
void heap_lock_release_after_fork(struct heap_lock *lock);

/* Runs in a fork child, where @forking is the thread that forked: true if the holder is a thread
 * that does not exist there. */
bool heap_lock_is_lost(const struct heap_lock *lock, unsigned forking);

/* In a fork child: nobody can take the lock any more, but this thread keeps it if it has it; or,
 * for what a thread that was interrupted anywhere leaves whole, the lock is free again. */
void heap_lock_give_up(struct heap_lock *lock, unsigned keeper);
void heap_lock_reset(struct heap_lock *lock);

#endif
