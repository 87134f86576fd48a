/* SPDX-License-Identifier: MIT */
/*
 * thread_records.h - the threads that take part in giving pkeys to new owners
 *
 * A registered thread has a record. It says which pkeys the thread pins, and when the thread last
 * closed the idle ones. Everything rests on two invariants, which hold for the thread's PKRU and
 * for the PKRU in every signal frame that one of its handlers will return to:
 *
 *  - a registered thread has a pkey of the pool open only while it pins it;
 *  - a registered thread has no pkey open that was idle when it last closed the idle ones.
 */
#ifndef THREAD_RECORDS_H
#define THREAD_RECORDS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "base/lock.h"
#include "pkey/pkeys.h"

/*
 * Its own thread changes pins, used, no_waiters and closed_idle with no lock, a counter in one
 * instruction, so that a signal handler cannot come in between. They stand apart from what other
 * threads write often.
 */
struct thread_record {
    uint32_t pins[PKEYS]; /* this thread's open guards, by pkey; read by others */
    pkru_bits used;       /* what it opened lately; others clear it, under the lock */
    uint32_t no_waiters;  /* 1; others set 0, under the lock, where they wait for a pin to drop */
    uint32_t registered;  /* 1; 0 in the record of threads that have none, which nothing writes */
    uint64_t closed_idle; /* idle pkeys up to this change number are closed; read by others */

    /* Under the library's lock. */
    bool exited; /* the first thread has: the kernel counts it to the end of the process */
    pid_t thread;
    struct list of_process;
    pthread_mutex_t exit_mutex; /* robust; held until the thread ends: EOWNERDEAD tells of it */
} __attribute__((aligned(64)));

/* The calling thread's record; before it registers, one that means "none". */
extern __thread struct thread_record *own_record
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

struct thread_registry {
    struct list records;
    struct list unused; /* records, zeroed or not; they outlive their threads: others read them */
    unsigned count;     /* of records, without that of a first thread that has exited */
};

enum { OFFERS = 16 };

/* Written by the thread that has the lock, and by handlers, which exchange members for NULL. */
struct record_offers {
    struct thread_record *_Atomic offered[OFFERS];
    struct thread_record *_Atomic accepted[OFFERS];
};

extern struct thread_registry thread_registry UNDER_LIBRARY_LOCK
    __attribute__((visibility("hidden")));

#define for_each_thread(record)                                                          \
    for (struct thread_record *record =                                                  \
             list_entry(thread_registry.records.next, struct thread_record, of_process); \
         &record->of_process != &thread_registry.records;                                \
         record = list_entry(record->of_process.next, struct thread_record, of_process))

/*
 * Closes the idle pkeys in the calling thread, which must be outside signal handlers, and notes it.
 * A thread that is not registered closes the pool, too, and gets a record: -ENOMEM.
 */
int thread_records_register(void) NEEDS_LIBRARY_LOCK;

/* The same for a registered thread. Needs no lock. */
void thread_records_close_idle(void);

/* True if there are idle pkeys that this thread has not closed yet. Needs no lock. */
bool thread_records_idle_to_close(void);

/*
 * The change number of pkeys.h up to which every idle pkey is closed in every thread of this
 * process. 0: none is known to be.
 */
uint64_t thread_records_closed_idle(void) NEEDS_LIBRARY_LOCK;

/* Drops the pins of threads that have ended. True if there were any. */
bool thread_records_drop_exited(void) NEEDS_LIBRARY_LOCK;

/* In a fork child: only the forking thread has a record. */
void thread_records_forget_others(void) NEEDS_LIBRARY_LOCK;

static inline bool thread_pins(const struct thread_record *record, int pkey)
{
    return __atomic_load_n(&record->pins[pkey], __ATOMIC_ACQUIRE) != 0;
}

/* True if a thread pins this pkey, as far as its writes are visible here. */
bool thread_records_any_pins(int pkey) NEEDS_LIBRARY_LOCK;

/* True if the calling thread is registered, and is the only one of this process. */
bool thread_records_only_own(void) NEEDS_LIBRARY_LOCK;

/*
 * Returns 0 if every thread of this process was registered at one moment during the call. -EAGAIN:
 * one was not, or /proc does not tell. No thread registers meanwhile, for that takes the lock.
 */
int thread_records_all_registered(void) NEEDS_LIBRARY_LOCK;

/* True if no record is of this thread. */
bool thread_records_is_unregistered(pid_t thread) NEEDS_LIBRARY_LOCK;

/* A thread that is not registered; 0: there is none; -1: /proc does not tell. */
pid_t thread_records_find_unregistered(void) NEEDS_LIBRARY_LOCK;

/*
 * For a thread that registers in a signal handler while another thread has the lock. That one makes
 * offers: records without a thread. The handler accepts one; false: there is none, or no memory for
 * its mutex. The other thread collects what was accepted: then these threads are registered. In the
 * end it withdraws the rest.
 */
void thread_records_make_offers(void) NEEDS_LIBRARY_LOCK;
bool thread_records_accept_offer(void);
void thread_records_collect_offers(void) NEEDS_LIBRARY_LOCK;
void thread_records_withdraw_offers(void) NEEDS_LIBRARY_LOCK;

/*
 * True if the calling thread is certainly not in a signal handler. The first looks at PKRU alone,
 * the second at the stack, too: it takes what a handler left behind for a handler that runs. Need
 * no lock.
 */
bool thread_marked_outside_handlers(void);
bool thread_outside_handlers(void);

/*
 * True if certainly no return from a signal handler opens one of these pkeys in the calling thread,
 * given by their AD bits. Needs no lock.
 */
bool thread_stays_closed(pkru_bits ad_bits);

/*
 * The same questions about code of this thread that a handler has interrupted: there is no signal
 * frame above its stack pointer; each one passes a test (signal_frame.h). Need no lock.
 */
bool thread_no_frame_above(const void *stack);
bool thread_test_frames_above(const void *stack, bool (*test)(uint32_t pkru, uint32_t),
                              uint32_t argument);

/* True if a return to no such frame opens one of these pkeys, given by their AD bits. */
bool thread_frames_above_deny(const void *stack, pkru_bits ad_bits);

#endif
