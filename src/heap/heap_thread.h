/* SPDX-License-Identifier: MIT */
/*
 * heap_thread.h - what the heaps know of each thread: its number, its shard and its seat
 *
 * In each heap a thread allocates from the same one of SHARD_COUNT shards. There is a seat for each
 * shard. Only the thread that has the seat may own such a shard, that is, use it without a locked
 * instruction (shard_lock.h). A thread tries to get a seat when it first needs a shard. When it
 * ends, a new thread can get the seat, and then owns what the ended thread owned. A thread that
 * found no free seat owns nothing.
 */
#ifndef HEAP_THREAD_H
#define HEAP_THREAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum { SHARD_COUNT = 16 };

/* All zeros in a new thread. Written by the thread itself. */
struct heap_thread {
    unsigned number;  /* unique and kept across fork, from 1; 0: not given yet */
    unsigned forks;   /* how many forks the thread is in; a handler may interrupt a fork and fork */
    bool has_shard;   /* `shard` is valid */
    bool has_seat;    /* that of `shard` */
    bool never_waits; /* it has the library's lock: it waits for no lock of a heap */
    unsigned shard;

    /* Of a thread that has a seat, what its shard is in each heap. */
    size_t own_lock;   /* where its lock is in struct heap_state; 0: no seat (of_no_shard) */
    size_t own_bins;   /* where its bins are in struct metadata */
    unsigned own_role; /* the role of a slab of class 0 */
};

extern __thread struct heap_thread own_heap_thread
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* The number of the thread that has the seat of each shard; 0: it is free. */
extern atomic_uint heap_seats[SHARD_COUNT] __attribute__((visibility("hidden")));

/*
 * Lets threads have seats, if the kernel has membarrier(2). Called before a heap is made. Returns 0
 * or -EDEADLK, as library_lock().
 */
int heap_threads_prepare(void);

/* Slow paths of the functions below. */
__attribute__((cold)) unsigned heap_thread_give_number(void);
__attribute__((cold)) unsigned heap_thread_choose_shard(void);

static inline unsigned heap_thread_number(void)
{
    unsigned number = own_heap_thread.number;

    return __builtin_expect(number == 0, 0) ? heap_thread_give_number() : number;
}

/* True if the calling thread has this shard's seat. */
static inline bool heap_thread_has_seat(unsigned shard)
{
    return own_heap_thread.has_seat && own_heap_thread.shard == shard;
}

/* The shard that the calling thread allocates from. */
static inline unsigned heap_thread_shard(void)
{
    return __builtin_expect(own_heap_thread.has_shard, 1) ? own_heap_thread.shard
                                                          : heap_thread_choose_shard();
}

/*
 * Run in a fork child. heap_thread_that_forked() returns the number of the thread that forked.
 * heap_threads_forget_others() frees the seats of all threads but that one.
 */
unsigned heap_thread_that_forked(void);
void heap_threads_forget_others(unsigned forking);

#endif
