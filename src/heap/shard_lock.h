/* SPDX-License-Identifier: MIT */
/*
 * shard_lock.h - the lock of a shard, which costs its owner no locked instruction
 *
 * The owner is the thread on the shard's seat (heap_thread.h), while `owned` is set. It enters the
 * shard with plain stores. Every other thread takes `others`, a spin lock, and then expels the
 * owner if there is one. From then on the former owner takes `others`, too, and owns the shard
 * again only when it has had many turns in a row: an expulsion costs as much as hundreds of turns.
 *
 * The protocol, and why at most one thread is inside:
 *
 *     the owner:   set `inside`; read `owned`; if it is clear: clear `inside`, and take `others`
 *                  ... the shard ...
 *                  clear `inside`
 *     the others:  take `others`; if `owned` is set: clear it, membarrier(2), wait while `inside`
 * is set
 *                  ... the shard ...
 *                  release `others`
 *
 *  - After the barrier the seat's thread has either made its store to `inside` visible, and is
 *    waited for, or reads `owned` later than the barrier, sees that it is clear, and stays outside.
 *    So only the other threads pay for the order of the store and the load. The compiler keeps that
 *    order in the owner's code (compiler_fence()).
 *  - What the owner wrote to the shard is visible to the thread that waited: it reads, with
 * acquire, what the owner stored to `inside`, with release, when it left. If it was outside at the
 *    barrier, the barrier makes its writes visible.
 *  - The holder of `others` sets `owned`, when it is done with the shard and before it releases
 *    `others`. It is the seat's thread, or a fork that found the shard owned. The owner reads it
 *    with acquire. So the owner sees what the others wrote.
 *  - A seat passes from an ended thread to a new one with release and acquire.
 *  - A signal handler that interrupted the owner inside finds `inside` set, and is refused. If it
 *    comes before the store to `inside`, it leaves everything as it was.
 *  - clone(2) can make a process that shares the memory. membarrier(2) reaches its threads, too.
 *
 * tests/model has the protocol as a model for spin.
 */
#ifndef SHARD_LOCK_H
#define SHARD_LOCK_H

#include <stddef.h>

#include "base/fence.h"
#include "heap/heap_lock.h"

struct LOCK_ANALYSIS(capability("shard lock")) shard_lock {
    struct heap_lock others; /* of every thread but the owner */
    atomic_bool owned;       /* by the thread on the shard's seat; written under `others` */
    bool inside;             /* the seat's thread is inside as the owner, or finds out whether it
                                is the owner; written by that thread, with atomic stores. A plain
                                load is enough for it, and takes one instruction with its test */

    /* Under `others`. */
    atomic_bool expelling;  /* the holder is not inside yet: it waits until the owner is not */
    bool owned_before_fork; /* the fork that took `others` found it owned */
    bool never_owned;       /* constant */
    unsigned last;          /* the number of the last holder; 0: the shard was never used */
    unsigned turns;         /* that it has had in a row, up to TURNS_TO_OWN */
    char padding[40];       /* keeps two locks off one cache line */
};
_Static_assert(sizeof(struct shard_lock) == 64, "a cache line");

/*
 * Enters the shard if the calling thread, which has the shard's seat, is its owner and not inside.
 * shard_lock_leave() ends that.
 */
static inline bool shard_lock_enter(struct shard_lock *lock)
    LOCK_ANALYSIS(try_acquire_capability(true, lock)) LOCK_ANALYSIS(no_thread_safety_analysis)
{
    if (lock->inside)
        return false;
    __atomic_store_n(&lock->inside, true, __ATOMIC_RELAXED);
    compiler_fence();
    if (__builtin_expect(atomic_load_explicit(&lock->owned, memory_order_acquire), 1))
        return true;
    __atomic_store_n(&lock->inside, false, __ATOMIC_RELEASE);
    return false;
}

static inline void shard_lock_leave(struct shard_lock *lock) LOCK_ANALYSIS(release_capability(lock))
    LOCK_ANALYSIS(no_thread_safety_analysis)
{
    __atomic_store_n(&lock->inside, false, __ATOMIC_RELEASE);
}

/*
 * Takes the lock, as the owner or as another thread. Returns 0; -EDEADLK, as heap_lock_acquire();
 * or -EAGAIN: another thread owns the shard, and membarrier(2) fails.
 */
int shard_lock_acquire(struct shard_lock *lock, unsigned shard)
    LOCK_ANALYSIS(try_acquire_capability(0, lock));
void shard_lock_release(struct shard_lock *lock, unsigned shard)
    LOCK_ANALYSIS(release_capability(lock));

/* As heap_lock_take_for_fork() and heap_lock_release_after_fork(). Nobody owns a lock that is taken
 * for a fork, until it is released. */
void shard_lock_take_for_fork(struct shard_lock *lock, unsigned shard);
void shard_lock_release_after_fork(struct shard_lock *lock);

/*
 * Both run in a fork child, where @forking is the thread that forked. shard_lock_mend() returns
 * false if a thread that does not exist there may have left the shard half-changed. Then
 * shard_lock_give_up() lets nobody enter any more; the forking thread stays if it is inside.
 */
bool shard_lock_mend(struct shard_lock *lock, unsigned shard, unsigned forking);
void shard_lock_give_up(struct shard_lock *lock, unsigned forking);

#endif
