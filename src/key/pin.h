/* SPDX-License-Identifier: MIT */
/*
 * pin.h - a thread pins the pkeys that its guards on virtual keys have open
 *
 * A pinned pkey stays with its key. A guard pins the pkey before it opens it, and unpins it after
 * it has closed it. The proof in virtual_pool.c depends on that order. A thread changes its own
 * pins without a lock. Other threads see the change after a barrier (membarrier(2)).
 *
 * The functions are inline because they are most of the cost of an open scope.
 */
#ifndef PIN_H
#define PIN_H

#include "base/fence.h"
#include "pkey/thread_records.h"

/*
 * Returns the counter of the pkey that has these bits. PKRU has two bits for each pkey, and a
 * counter has four bytes.
 */
static inline uint32_t *pin_counter(struct thread_record *own, pkru_bits bits)
{
    return (uint32_t *)(void *)((char *)own->pins + 2 * pkru_twice_first_pkey(bits));
}

/* Slow path of an unpin: wakes the threads that wait for one. Takes no lock. */
void pin_wake_waiters(struct thread_record *own);

/* Pins once. The caller then checks that the key still has the pkey. */
static inline void pin_once(struct thread_record *own, pkru_bits bits)
{
    pkeyguard_count_up(pin_counter(own, bits));
    own->used |= bits;
    compiler_fence();
}

/* Drops one pin, given by its counter. The thread has closed the pkey. */
static inline void unpin_once(struct thread_record *own, uint32_t *counter)
{
    compiler_fence();
    pkeyguard_count_down(counter);
    compiler_fence();
    if (__builtin_expect(own->no_waiters != 1, 0))
        pin_wake_waiters(own);
}

/* Pin and unpin several times at once, for a coroutine that is resumed or left. */
static inline void pin_times(int pkey, uint32_t times)
{
    own_record->used |= PKEY_BITS(pkey);
    __atomic_store_n(&own_record->pins[pkey], own_record->pins[pkey] + times, __ATOMIC_RELEASE);
    compiler_fence();
}

static inline void unpin_times(int pkey, uint32_t times)
{
    compiler_fence();
    __atomic_store_n(&own_record->pins[pkey], own_record->pins[pkey] - times, __ATOMIC_RELEASE);
    compiler_fence();
    if (own_record->no_waiters != 1)
        pin_wake_waiters(own_record);
}

/*
 * Drops a pin that was taken under the lock, which the caller has held since then. So no thread
 * waits for this unpin, and none is woken.
 */
static inline NEEDS_LIBRARY_LOCK void unpin_unseen(int pkey)
{
    compiler_fence();
    pkeyguard_count_down(&own_record->pins[pkey]);
    compiler_fence();
}

/*
 * To wait for an unpin, first call pin_ask_to_be_woken(): every thread then wakes the caller when
 * it unpins. Then check whether the wait is still needed. Then release the lock and call
 * pin_sleep() with the returned count. The sleep has a limit.
 */
unsigned pin_ask_to_be_woken(void) NEEDS_LIBRARY_LOCK;
void pin_sleep(unsigned asked);

#endif
