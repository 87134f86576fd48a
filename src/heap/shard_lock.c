/* SPDX-License-Identifier: MIT */
#include "heap/shard_lock.h"

#include <errno.h>

#include "base/os.h"

/* So many turns without an owner cost more than the membarrier(2) that ends the next ownership. */
enum { TURNS_TO_OWN = 1024 };

static void set_owned(struct shard_lock *lock, bool owned)
{
    atomic_store_explicit(&lock->owned, owned, memory_order_release);
}

static bool is_held(const struct shard_lock *lock)
{
    return heap_lock_holder(&lock->others) == heap_thread_number();
}

/*
 * What the thread that expels the owner finds when that is not inside any more. A fork in a signal
 * handler may have finished the expulsion, or failed to; or it made a child in which the shard is
 * lost.
 */
static int end_expulsion(struct shard_lock *lock)
{
    if (!is_held(lock))
        return -EDEADLK;
    if (lock->owned)
        return -EAGAIN;
    lock->expelling = false;
    return 0;
}

static int wait_for_owner(struct shard_lock *lock)
{
    unsigned spins = 0;

    while (lock->expelling && __atomic_load_n(&lock->inside, __ATOMIC_ACQUIRE)) {
        if (own_heap_thread.never_waits)
            return -EDEADLK;
        if (++spins % 128 == 0) {
            int error;

            os_sleep_briefly();
            error = library_notice_fork();
            if (error != 0)
                return error;
            if (!is_held(lock))
                break;
        }
    }
    return end_expulsion(lock);
}

static void let_owner_stay(struct shard_lock *lock)
{
    if (!is_held(lock))
        return;
    set_owned(lock, true);
    lock->expelling = false;
}

/* The calling thread has `others`, and is not inside as the owner. After an error the owner stays.
 */
static int expel_owner(struct shard_lock *lock, unsigned shard)
{
    int saved_errno = errno, error;

    if (heap_thread_has_seat(shard)) {
        set_owned(lock, false);
        return 0;
    }
    lock->expelling = true;
    set_owned(lock, false);
    error = os_barrier() != 0 ? -EAGAIN : wait_for_owner(lock);
    if (error != 0)
        let_owner_stay(lock);
    errno = saved_errno;
    return error;
}

static void count_turn(struct shard_lock *lock)
{
    if (lock->last == heap_thread_number()) {
        lock->turns += lock->turns < TURNS_TO_OWN;
        return;
    }
    lock->turns = lock->last == 0 ? TURNS_TO_OWN : 0;
    lock->last = heap_thread_number();
}

static LOCK_ANALYSIS(no_thread_safety_analysis) int take_others(struct shard_lock *lock,
                                                                unsigned shard)
{
    int error = heap_lock_acquire(&lock->others);

    if (error != 0)
        return error;
    if (lock->owned)
        error = expel_owner(lock, shard);
    if (error == 0)
        count_turn(lock);
    else if (is_held(lock))
        heap_lock_release(&lock->others);
    return error;
}

LOCK_ANALYSIS(no_thread_safety_analysis)
int shard_lock_acquire(struct shard_lock *lock, unsigned shard)
{
    if (heap_thread_has_seat(shard)) {
        if (lock->inside)
            return -EDEADLK;
        if (shard_lock_enter(lock))
            return 0;
    }
    return take_others(lock, shard);
}

LOCK_ANALYSIS(no_thread_safety_analysis)
void shard_lock_release(struct shard_lock *lock, unsigned shard)
{
    if (heap_thread_has_seat(shard)) {
        if (lock->inside) {
            shard_lock_leave(lock);
            return;
        }
        if (lock->turns >= TURNS_TO_OWN && !lock->never_owned)
            set_owned(lock, true);
    }
    heap_lock_release(&lock->others);
}

/* ---- fork ---- */

/*
 * True if the calling thread, whose signal handler forks, is inside as the owner: then no other
 * thread is, and none comes in. False if it has not found out yet that it is no longer the owner. A
 * thread that expels it sets `expelling` before it clears `owned`. If it gives up, it does the
 * reverse.
 */
static bool owner_is_inside(const struct shard_lock *lock, unsigned shard)
{
    if (!heap_thread_has_seat(shard) || !lock->inside)
        return false;
    if (lock->owned || lock->expelling)
        return true;
    return lock->owned;
}

LOCK_ANALYSIS(no_thread_safety_analysis)
void shard_lock_take_for_fork(struct shard_lock *lock, unsigned shard)
{
    if (owner_is_inside(lock, shard))
        return;
    if (is_held(lock)) {
        /* The handler that forks interrupted the expulsion of an owner. */
        if (lock->expelling)
            (void)expel_owner(lock, shard);
        return;
    }
    heap_lock_take_for_fork(&lock->others);
    if (is_held(lock) && lock->owned)
        lock->owned_before_fork = expel_owner(lock, shard) == 0;
}

LOCK_ANALYSIS(no_thread_safety_analysis) void shard_lock_release_after_fork(struct shard_lock *lock)
{
    if (!heap_lock_is_taken_by_fork(&lock->others))
        return;
    if (lock->owned_before_fork)
        set_owned(lock, true);
    lock->owned_before_fork = false;
    heap_lock_release_after_fork(&lock->others);
}

/* The thread on the seat may be inside, and does not exist in the child. */
static bool owner_is_lost(const struct shard_lock *lock, bool owner_forked)
{
    return lock->inside && !owner_forked && (lock->owned || lock->expelling);
}

bool shard_lock_mend(struct shard_lock *lock, unsigned shard, unsigned forking)
{
    bool owner_forked = forking != 0 && heap_seats[shard] == forking;

    if (owner_is_lost(lock, owner_forked))
        return false;
    if (!owner_forked)
        lock->inside = false;
    if (!heap_lock_is_lost(&lock->others, forking))
        return true;
    /* The holder that does not exist was waiting for the forking thread, which is inside. */
    if (!lock->expelling || !lock->inside)
        return false;
    set_owned(lock, true);
    lock->expelling = false;
    heap_lock_reset(&lock->others);
    return true;
}

/* The forking thread stays if it has `others` and is inside, or if it is inside as the owner. */
void shard_lock_give_up(struct shard_lock *lock, unsigned forking)
{
    set_owned(lock, false);
    heap_lock_give_up(&lock->others, lock->expelling ? 0 : forking);
}
