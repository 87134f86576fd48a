/* SPDX-License-Identifier: MIT */
#include "key/pin.h"

#include "base/os.h"

static struct pin_waiters {
    /* changes each time a thread that was asked drops a pin; any thread writes it */
    atomic_uint wake_count;
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
     * A thread that does not see the request has made its unpin visible before. If the barrier
     * fails, the caller may miss an unpin; it then sleeps only for the limit of pin_sleep().
     */
    (void)os_barrier();
    thread_records_drop_exited();
    return asked;
}

void pin_sleep(unsigned asked)
{
    /*
     * The limit, in milliseconds, is for a thread that ends: it drops its pins and wakes no waiter.
     */
    os_wait(&pin_waiters.wake_count, asked, 20);
}
