/* SPDX-License-Identifier: MIT */
#include "key/pin.h"

#include "base/os.h"

static struct pin_waiters {
    atomic_uint wake_count; /* changes whenever a thread that was asked unpins; any thread writes */
} pin_waiters;

void pin_wake_waiters(struct thread_record *own)
{
    own->no_waiters = 1;
    pin_waiters.wake_count++;
    os_wake(&pin_waiters.wake_count);
}

unsigned pin_ask_to_be_woken(void)
{
    unsigned asked = pin_waiters.wake_count;

    for_each_thread(record) __atomic_store_n(&record->no_waiters, 0, __ATOMIC_RELAXED);
    /*
     * A thread that misses the request has already made its unpin visible. If the barrier fails the
     * caller may sleep through an unpin, but not for long.
     */
    (void)os_barrier();
    thread_records_drop_exited();
    return asked;
}

void pin_sleep(unsigned asked)
{
    /* A thread that ends drops its pins and wakes nobody. */
    os_wait(&pin_waiters.wake_count, asked, 20);
}
