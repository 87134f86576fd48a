/* SPDX-License-Identifier: MIT */
/*
 * heap_lock.h - a spin lock: the heaps' own, for data that no signal handler needs
 *
 * It is held for a few instructions, or while one small object is wiped; seldom longer: for
 * mlock(2) of new blocks, a search for empty slabs, a fork. Waiters spin, then sleep; the lock is
 * unfair. A thread that takes it twice waits for itself.
 */
#ifndef HEAP_LOCK_H
#define HEAP_LOCK_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/lock.h"

struct LOCK_ANALYSIS(capability("heap lock")) heap_lock {
    atomic_bool taken;
    char padding[63]; /* keeps two locks out of one cache line */
};

/* Waits until the lock is free, and takes it. */
__attribute__((noinline, cold)) void heap_lock_wait(struct heap_lock *lock);

static inline void heap_lock_acquire(struct heap_lock *lock) LOCK_ANALYSIS(acquire_capability(lock))
    LOCK_ANALYSIS(no_thread_safety_analysis)
{
    if (atomic_exchange_explicit(&lock->taken, true, memory_order_acquire))
        heap_lock_wait(lock);
}

static inline void heap_lock_release(struct heap_lock *lock) LOCK_ANALYSIS(release_capability(lock))
    LOCK_ANALYSIS(no_thread_safety_analysis)
{
    atomic_store_explicit(&lock->taken, false, memory_order_release);
}

#endif
