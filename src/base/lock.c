/* SPDX-License-Identifier: MIT */
#include "base/lock.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/os.h"
#include "base/process.h"
#include "base/record_memory.h"

enum lock_state { FREE, HELD, HELD_AND_WAITED_FOR };

struct library_mutex {
    atomic_uint state; /* an enum lock_state, which waiting threads watch (futex(2)) */
    uint64_t signals;  /* the signals that the holder had blocked before it took the lock */
};

struct library_mutex library_mutex;

/* Written only by the thread itself. */
static __thread struct lock_of_thread {
    volatile bool inside; /* true from before the thread takes the lock until it has released it */
    const void *taken_below; /* the frame of library_lock(), while inside */

    /*
     * How many times the thread has forked while it had the lock. Such a fork comes from a fork
     * handler of the program that runs inside fork(3) after this library's handler, or from the
     * handler of a signal that an instruction raised.
     */
    unsigned forks_inside;
} own_lock __attribute__((tls_model("initial-exec")));

static void forget_parent(void)
{
    if (!record_memory_is_here())
        os_abort("a fork child without fork handlers, as of _Fork(3), does not have the records "
                 "that pkeyguard_protect_records() protects",
                 NULL);
    record_memory_open();
    for (int i = 0; fork_child_forget[i] != NULL; i++)
        fork_child_forget[i]();
    process_adopted();
}

static bool try_lock(void)
{
    unsigned free = FREE;

    /* In a fork child a thread that does not exist there may hold the lock. */
    if (process_is_new()) {
        library_mutex.state = HELD;
        forget_parent();
        return true;
    }
    return atomic_compare_exchange_strong_explicit(&library_mutex.state, &free, HELD,
                                                   memory_order_acquire, memory_order_relaxed);
}

/* Limit the sleep: if a handler forks here, no thread of the child releases the lock. */
static void wait_until_free(void)
{
    unsigned held = HELD;

    if (atomic_compare_exchange_strong(&library_mutex.state, &held, HELD_AND_WAITED_FOR) ||
        held == HELD_AND_WAITED_FOR)
        os_wait(&library_mutex.state, HELD_AND_WAITED_FOR, 100);
}

/* Blocks the signals, and returns the mask before. */
static uint64_t go_inside(void)
{
    uint64_t signals;

    os_block_signals(&signals);
    /* Before the lock is taken: else the handler of a signal that an instruction raises could wait
     * for its own thread. */
    own_lock.inside = true;
    return signals;
}

/* Another thread has the lock. @signals: the mask before; returns what it is in the end. */
__attribute__((noinline)) static uint64_t wait_for_lock(uint64_t signals)
{
    do {
        own_lock.inside = false;
        os_set_signal_mask(signals);
        wait_until_free();
        signals = go_inside();
    } while (!try_lock());
    return signals;
}

LOCK_ANALYSIS(no_thread_safety_analysis) int library_lock(void)
{
    uint64_t signals;

    if (own_lock.inside)
        return -EDEADLK;
    signals = go_inside();
    if (!try_lock())
        signals = wait_for_lock(signals);
    record_memory_open();
    own_lock.taken_below = __builtin_frame_address(0);
    library_mutex.signals = signals;
    return 0;
}

LOCK_ANALYSIS(no_thread_safety_analysis) int library_notice_fork(void)
{
    int error;

    if (!process_is_unnoticed())
        return 0;
    error = library_lock();
    if (error == 0)
        library_unlock();
    return error;
}

bool library_lock_is_lost(const void *frame)
{
    return own_lock.inside && frame > own_lock.taken_below && !os_on_signal_stack();
}

/*
 * A handler may have interrupted the code that had the lock, and forked. A fork child without
 * records has changed none.
 */
static void finish_changes(void)
{
    if (process_is_unnoticed()) {
        if (!record_memory_is_here())
            return;
        if (process_is_new())
            forget_parent();
    }
    record_memory_close();
}

LOCK_ANALYSIS(no_thread_safety_analysis) void library_unlock(void)
{
    uint64_t signals = library_mutex.signals;

    finish_changes();
    /* Wake all: a single woken thread may leave by siglongjmp and not take the lock. */
    if (atomic_exchange_explicit(&library_mutex.state, FREE, memory_order_release) ==
        HELD_AND_WAITED_FOR)
        os_wake(&library_mutex.state);
    own_lock.inside = false;
    os_set_signal_mask(signals);
}

LOCK_ANALYSIS(no_thread_safety_analysis) void library_lock_for_fork(void)
{
    if (library_lock() != 0)
        own_lock.forks_inside++;
    else
        own_lock.taken_below = (const void *)UINTPTR_MAX; /* held after this function returns */
}

LOCK_ANALYSIS(no_thread_safety_analysis) void library_unlock_in_parent(void)
{
    if (own_lock.forks_inside > 0)
        own_lock.forks_inside--;
    else
        library_unlock();
}

/*
 * If the fork was nested, the child forgets the other threads later, when the code that has the
 * lock releases it.
 */
void library_unlock_in_child(void)
{
    library_unlock_in_parent();
}
