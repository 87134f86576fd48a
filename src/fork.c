/* SPDX-License-Identifier: MIT */
/*
 * fork.c - the work of each module at a fork
 *
 * A fork child has only the thread that forked. It keeps the library's state that belongs to this
 * thread. fork(3) runs the handlers below. A child of _Fork(3) or clone(2) runs no handlers; it
 * notices in its first call that takes the library's lock that it is a new process (lock.h).
 *
 * The handlers are registered when the library is loaded, before those of nearly every program. So
 * fork(3) takes the library's locks after the program's locks and releases them before the
 * program's. For this reason a program may hold its own locks while it calls the library, and may
 * call the library in its fork handlers.
 */
#include <pthread.h>
#include <stddef.h>

#include "base/lock.h"
#include "base/record_memory.h"
#include "heap/heap_directory.h"
#include "key/enforcement.h"
#include "key/virtual_pool.h"
#include "pkey/signal_round.h"
#include "pkey/thread_records.h"
#include "region/region_record.h"

/* Called in this order. A function does nothing if its module was never used. */
void (*const fork_child_forget[])(void) = {
    thread_records_forget_others, /* other threads' records, with their pins */
    signal_round_forget,          /* threads that a signal has stopped */
    virtual_pool_forget_parent,   /* membarrier(2)'s registration, which is the parent's */
    mprotect_forget_others,       /* software guards of other threads */
    region_forget_unmapped,       /* regions that fork did not copy, or another thread changed */
    heaps_forget_parent,          /* heaps that another thread was changing, or fork did not copy */
    NULL,
};

static void lock_before_fork(void)
{
    if (!record_memory_is_here())
        return;
    heaps_lock_for_fork();
    library_lock_for_fork();
    record_memory_before_fork();
}

static void unlock_in_parent(void)
{
    if (!record_memory_is_here())
        return;
    record_memory_after_fork_in_parent();
    library_unlock_in_parent();
    heaps_unlock_after_fork();
}

static void unlock_in_child(void)
{
    if (!record_memory_after_fork_in_child())
        return;
    library_unlock_in_child();
    if (record_memory_is_here())
        heaps_unlock_after_fork();
}

__attribute__((constructor(102))) static void register_fork_handlers(void)
{
    pthread_atfork(lock_before_fork, unlock_in_parent, unlock_in_child);
}
