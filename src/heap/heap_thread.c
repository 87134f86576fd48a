/* SPDX-License-Identifier: MIT */
#include "heap/heap_thread.h"

#include <errno.h>
#include <pthread.h>
#include <stddef.h>

#include "base/fence.h"
#include "base/lock.h"
#include "base/os.h"
#include "base/process.h"
#include "heap/heap.h"

__thread struct heap_thread own_heap_thread;
atomic_uint heap_seats[SHARD_COUNT];

enum seating_state { NOT_PREPARED, OPEN, NO_SEATS };

/* Whether threads may have seats. Written under the library's lock, read without it. */
static struct seating {
    atomic_uint state;     /* an enum seating_state */
    pthread_key_t at_exit; /* valid if OPEN; its value is the thread's seat */
} seating;

static void leave_seat(void *of_thread)
{
    atomic_uint *seat = of_thread;

    own_heap_thread.has_seat = false;
    own_heap_thread.own_lock = 0;
    atomic_store_explicit(seat, 0, memory_order_release);
}

int heap_threads_prepare(void)
{
    int error;

    if (seating.state != NOT_PREPARED)
        return 0;
    error = library_lock();
    if (error != 0)
        return error;
    if (seating.state == NOT_PREPARED)
        seating.state =
            os_barrier_prepare() == 0 && pthread_key_create(&seating.at_exit, leave_seat) == 0
                ? OPEN
                : NO_SEATS;
    library_unlock();
    return 0;
}

/*
 * A thread that a fork child has created makes sure first that the child's state is in order:
 * otherwise the thread itself would seem to be one of the parent's. A signal handler may interrupt
 * the function and give the number.
 */
unsigned heap_thread_give_number(void)
{
    static atomic_uint numbers_given;
    int saved_errno = errno;
    unsigned none = 0;

    (void)library_notice_fork();
    errno = saved_errno;
    (void)__atomic_compare_exchange_n(&own_heap_thread.number, &none,
                                      atomic_fetch_add(&numbers_given, 1) + 1, false,
                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    return own_heap_thread.number;
}

/* What the last thread on the seat wrote to its shards is visible to the next one. */
static atomic_uint *take_free_seat(unsigned number)
{
    for (unsigned i = 0; i < SHARD_COUNT; i++) {
        unsigned nobody = 0;

        if (atomic_compare_exchange_strong_explicit(&heap_seats[i], &nobody, number,
                                                    memory_order_acquire, memory_order_relaxed))
            return &heap_seats[i];
    }
    return NULL;
}

static atomic_uint *take_seat(unsigned number)
{
    atomic_uint *seat;

    if (seating.state != OPEN)
        return NULL;
    seat = take_free_seat(number);
    if (seat != NULL && pthread_setspecific(seating.at_exit, seat) != 0) {
        atomic_store_explicit(seat, 0, memory_order_release);
        return NULL;
    }
    return seat;
}

static void sit_down(unsigned shard)
{
    own_heap_thread.shard = shard;
    own_heap_thread.own_bins = offsetof(struct metadata, shards) + shard * sizeof(struct shard);
    own_heap_thread.own_role = slab_role(shard, 0);
    compiler_fence();
    own_heap_thread.has_seat = true;
    own_heap_thread.own_lock =
        offsetof(struct heap_state, shard_locks) + shard * sizeof(struct shard_lock);
}

/*
 * A signal handler may interrupt the function. Until `has_seat` is set it finds a thread without a
 * seat, which may use any shard.
 */
unsigned heap_thread_choose_shard(void)
{
    unsigned number = heap_thread_number();
    const atomic_uint *seat;

    if (__atomic_exchange_n(&own_heap_thread.has_shard, true, __ATOMIC_RELAXED))
        return own_heap_thread.shard;
    own_heap_thread.shard = number % SHARD_COUNT;
    seat = take_seat(number);
    if (seat != NULL)
        sit_down((unsigned)(seat - heap_seats));
    return own_heap_thread.shard;
}

unsigned heap_thread_that_forked(void)
{
    const struct heap_thread *forking = process_in_forking_thread(&own_heap_thread);

    return forking != NULL ? forking->number : own_heap_thread.number;
}

void heap_threads_forget_others(unsigned forking)
{
    /* If the registration fails, os_barrier() fails too. */
    if (seating.state == OPEN)
        (void)os_barrier_prepare();
    for (unsigned i = 0; i < SHARD_COUNT; i++) {
        if (heap_seats[i] != forking)
            heap_seats[i] = 0;
    }
}
