/* SPDX-License-Identifier: MIT */
/*
 * heap_lock.h - the heaps' spin lock, for data that no signal handler needs
 *
 * A thread holds it for a few instructions or while it wipes one small object. Three cases take
 * longer: mlock(2) of new blocks, a search for empty slabs, and a fork. Waiters spin first and then
 * sleep. The lock is unfair. A thread that takes it twice waits forever.
 */
#ifndef HEAP_LOCK_H
#define HEAP_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/lock.h"

/* A thread, as heaps know it. All zero in a new one. */
struct heap_thread {
    unsigned number; /* counted from 1, never given twice, kept across fork; 0: not given yet */
    unsigned forks;  /* how many forks the thread is in: a handler may interrupt one and fork */
};
extern __thread struct heap_thread own_heap_thread
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* For a thread without a number: gives it one, and returns that. */
__attribute__((cold)) unsigned heap_thread_give_number(void);

static inline unsigned heap_thread_number(void)
{
    unsigned number = own_heap_thread.number;

    return __builtin_expect(number == 0, 0) ? heap_thread_give_number() : number;
}

/* Instead of a thread's number, in the lock of a heap whose locks are lost. */
#define HEAP_LOCK_LOST (~0u)

struct LOCK_ANALYSIS(capability("heap lock")) heap_lock {
    atomic_uint holder; /* a thread's number; 0: free */
    unsigned fork;      /* which of its holder's forks took it, counted from 1; 0: none did */
    char padding[56];   /* keeps two locks off one cache line */
};

/* Takes a lock that is not free: waits for it. -EDEADLK as below. Keeps errno. */
__attribute__((noinline, cold)) int heap_lock_wait(struct heap_lock *lock);

/* Waits until the lock is free, and takes it. Returns 0; -EDEADLK: the calling thread has it
 * already, or it is lost. */
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

/* For fork(3): takes the lock, unless it is the calling thread's already or lost; and gives back
 * what the innermost fork of this thread took. own_heap_thread.forks counts that fork. */
void heap_lock_take_for_fork(struct heap_lock *lock);
void heap_lock_release_after_fork(struct heap_lock *lock);

/* In a fork child: true if the holder is a thread that is not there. */
bool heap_lock_is_lost(const struct heap_lock *lock);

/* In a fork child: nobody can take the lock any more, but the calling thread keeps it if it has it;
 * or, for what a thread that was interrupted anywhere leaves whole, the lock is free again. */
void heap_lock_give_up(struct heap_lock *lock);
void heap_lock_reset(struct heap_lock *lock);

#endif
