/* SPDX-License-Identifier: MIT */
#include "heap/heap_lock.h"

#include "base/os.h"

void heap_lock_wait(struct heap_lock *lock)
{
    unsigned spins = 0;

    do {
        while (atomic_load_explicit(&lock->taken, memory_order_relaxed)) {
            if (++spins % 128 == 0)
                os_sleep_briefly();
        }
    } while (atomic_exchange_explicit(&lock->taken, true, memory_order_acquire));
}
