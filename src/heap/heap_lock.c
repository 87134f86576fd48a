/* SPDX-License-Identifier: MIT */
#include "heap/heap_lock.h"

#include <errno.h>

#include "base/os.h"

static bool try_heap_lock(struct heap_lock *lock)
{
    unsigned free = 0;

    return heap_lock_holder(lock) == 0 &&
           atomic_compare_exchange_strong_explicit(&lock->holder, &free, heap_thread_number(),
                                                   memory_order_acquire, memory_order_relaxed);
}

static bool is_refused(const struct heap_lock *lock)
{
    unsigned holder = heap_lock_holder(lock);

    return holder == heap_thread_number() || holder == HEAP_LOCK_LOST ||
           own_heap_thread.never_waits;
}

LOCK_ANALYSIS(no_thread_safety_analysis) int heap_lock_wait(struct heap_lock *lock)
{
    int saved_errno = errno, error = library_notice_fork();
    unsigned spins = 0;

    while (error == 0 && !try_heap_lock(lock)) {
        if (is_refused(lock)) {
            error = -EDEADLK;
        } else if (++spins % 128 == 0) {
            os_sleep_briefly();
            /* A handler may have forked meanwhile. */
            error = library_notice_fork();
        }
    }
    errno = saved_errno;
    return error;
}

LOCK_ANALYSIS(no_thread_safety_analysis) void heap_lock_take_for_fork(struct heap_lock *lock)
{
    if (heap_lock_acquire(lock) == 0)
        lock->fork = own_heap_thread.forks;
}

bool heap_lock_is_taken_by_fork(const struct heap_lock *lock)
{
    return heap_lock_holder(lock) == heap_thread_number() && lock->fork == own_heap_thread.forks;
}

LOCK_ANALYSIS(no_thread_safety_analysis) void heap_lock_release_after_fork(struct heap_lock *lock)
{
    if (!heap_lock_is_taken_by_fork(lock))
        return;
    lock->fork = 0;
    heap_lock_release(lock);
}

bool heap_lock_is_lost(const struct heap_lock *lock, unsigned forking)
{
    unsigned holder = heap_lock_holder(lock);

    return holder != 0 && holder != forking;
}

void heap_lock_give_up(struct heap_lock *lock, unsigned keeper)
{
    unsigned holder = heap_lock_holder(lock);

    if (holder == 0 || holder != keeper)
        atomic_store(&lock->holder, HEAP_LOCK_LOST);
}

void heap_lock_reset(struct heap_lock *lock)
{
    lock->fork = 0;
    atomic_store(&lock->holder, 0);
}
