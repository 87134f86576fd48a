/* SPDX-License-Identifier: MIT */
/*
 * thread_records.h - the record of each registered thread
 *
 * A record says which pkeys its thread pins, and when the thread last closed the idle pkeys. The
 * library gives a pkey to a new owner only because of two invariants. They hold for the thread's
 * PKRU and for the PKRU in every signal frame that one of its handlers will return to:
 *
 *  - a registered thread has a pkey of the pool open only while it pins it;
 *  - a registered thread has no pkey open that was idle when it last closed the idle pkeys.
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
 * Only the record's own thread changes the first members, and it takes no lock. It changes a
 * counter with one instruction, so a signal handler never sees a half-done change. These members
 * are on a cache line that other threads rarely write.
 */
struct thread_record {
    uint32_t pins[PKEYS]; /* the number of this thread's open guards on each pkey; others read it */
    pkru_bits used;       /* the pkeys that it opened lately; others clear it, under the lock */
    uint32_t no_waiters;  /* 1; a thread that waits for an unpin sets 0, under the lock */
    uint32_t registered;  /* 1; the record that stands for "none" has 0 and is never written */
    uint64_t closed_idle; /* the change number up to which idle pkeys are closed; others read it */

    /* Under the library's lock. */
    /* true for a first thread that has ended: the kernel counts it until the process ends */
    bool exited;
    /* true for a fork child's first thread if another one noticed the fork: it does not hold
     * exit_mutex */
    bool is_leader;
    pid_t thread;
    struct list of_process;
    pthread_mutex_t exit_mutex; /* robust; held until the thread ends, then EOWNERDEAD */
} __attribute__((aligned(64)));

/* The calling thread's record. Before the thread registers, the record that stands for "none". */
extern __thread struct thread_record *own_record
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

struct thread_registry {
    struct list records;
    /* records without a thread; never unmapped, because others may still read them */
    struct list unused;
    unsigned count; /* the number of records, without that of a first thread that has ended */
};

enum { OFFERS = 16 };

/*
 * The thread that has the lock fills the members in. Handlers take them by exchanging them for
 * NULL.
 */
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
 * Closes the idle pkeys in the calling thread and notes it. An unregistered thread also closes the
 * pool and gets a record. No return from a signal handler may open one of these pkeys again.
 * @outside_handlers: the thread is in no handler, so the pool is closed by both bits. -ENOMEM:
 * there is no memory for the record.
 */
int thread_records_register(bool outside_handlers) NEEDS_LIBRARY_LOCK;

/* Closes the idle pkeys in a registered thread and notes it. Needs no lock. */
void thread_records_close_idle(void);

/* True if there are idle pkeys that this thread has not closed yet. Needs no lock. */
bool thread_records_idle_to_close(void);

/*
 * Returns the change number (pkeys.h) up to which idle pkeys are closed in every thread of this
 * process, or 0.
 */
uint64_t thread_records_closed_idle(void) NEEDS_LIBRARY_LOCK;

/* Drops the pins of threads that have ended. Returns true if there were any. */
bool thread_records_drop_exited(void) NEEDS_LIBRARY_LOCK;

/* Runs in a fork child: keeps only the forking thread's record. */
void thread_records_forget_others(void) NEEDS_LIBRARY_LOCK;

static inline bool thread_pins(const struct thread_record *record, int pkey)
{
    return __atomic_load_n(&record->pins[pkey], __ATOMIC_ACQUIRE) != 0;
}

/* Returns those of these pkeys that the thread does not pin. */
pkru_bits thread_unpinned(const struct thread_record *record, pkru_bits pkeys);

/*
 * Returns those of these pkeys on which no thread's record shows a pin. Only a barrier makes recent
 * pins visible.
 */
pkru_bits thread_records_unpinned(pkru_bits pkeys) NEEDS_LIBRARY_LOCK;

/* True if the calling thread is registered and is the only thread of this process. */
bool thread_records_only_own(void) NEEDS_LIBRARY_LOCK;

/*
 * Returns 0 if every thread of this process was registered at one moment during the call. Returns
 * -EAGAIN if a thread was not, or if /proc cannot be read. No thread registers during the call,
 * because registering takes the lock.
 */
int thread_records_all_registered(void) NEEDS_LIBRARY_LOCK;

/* True if the thread has no record. */
bool thread_records_is_unregistered(pid_t thread) NEEDS_LIBRARY_LOCK;

/* Returns a thread that is not registered; 0: there is none; -1: /proc cannot be read. */
pid_t thread_records_find_unregistered(void) NEEDS_LIBRARY_LOCK;

/*
 * For a thread that registers in a signal handler while another thread, the initiator, has the
 * lock. The initiator first makes offers, which are records without a thread. A handler accepts an
 * offer; false: there is none, or no memory for its mutex. Then the initiator collects the accepted
 * offers, which registers their threads, and withdraws the rest.
 */
void thread_records_make_offers(void) NEEDS_LIBRARY_LOCK;
bool thread_records_accept_offer(void);
void thread_records_collect_offers(void) NEEDS_LIBRARY_LOCK;
void thread_records_withdraw_offers(void) NEEDS_LIBRARY_LOCK;

/*
 * True if the calling thread is certainly not in a signal handler. thread_marked_outside_handlers()
 * looks only at PKRU. thread_outside_handlers() also searches the stack for signal frames; it may
 * mistake the remains of an old frame for a handler that runs. They need no lock.
 */
bool thread_marked_outside_handlers(void);
bool thread_outside_handlers(void);

/*
 * True if certainly no return from a signal handler opens one of these pkeys in the calling thread.
 * The pkeys are given by their AD bits. Needs no lock.
 */
bool thread_stays_closed(pkru_bits ad_bits);

/*
 * The same questions for interrupted code, whose stack pointer is given. thread_no_frame_above():
 * there is no signal frame above it. thread_test_frames_above(): every such frame passes the test
 * (signal_frame.h). They need no lock.
 */
bool thread_no_frame_above(const void *stack);
bool thread_test_frames_above(const void *stack, bool (*test)(uint32_t pkru, uint32_t),
                              uint32_t argument);

/* True if no return to such a frame opens one of these pkeys, given by their AD bits. */
bool thread_frames_above_deny(const void *stack, pkru_bits ad_bits);

#endif
