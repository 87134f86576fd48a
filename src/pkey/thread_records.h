/* SPDX-License-Identifier: MIT */
/*
 * thread_records.h - the threads that take part in giving pkeys to new owners
 *
 * A registered thread has a record of the pkeys that it pins, and of when it closed those whose
 * keys were destroyed. The invariants that everything rests on: a registered thread has a pkey of
 * the pool open only while it pins it, and a pkey that was idle when it last closed those not at
 * all, in its PKRU and in every signal frame that a handler of it will return to. The functions
 * here need the library's lock; a thread's own record it changes without.
 */
#ifndef THREAD_RECORDS_H
#define THREAD_RECORDS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "pkey/pkeys.h"

/*
 * The first members are changed by their own thread alone, with no lock, and stand apart from what
 * others write. A count changes in one instruction, so that a handler cannot come in between.
 */
struct thread_record {
    uint32_t pins[PKEYS]; /* open guards of this thread, by pkey */
    uint32_t used;        /* the bits in PKRU of what was opened since others last cleared this */
    uint32_t no_waiters;  /* 1; 0 where somebody waits for a pin to be dropped, and set this */
    uint32_t registered;  /* 1; 0 in the record that nobody has, and nobody writes to */
    uint64_t closed_idle; /* at this change number of pkeys.c, which it read before that */
    bool ended; /* the first thread's, which the kernel counts to the end of the process */
    pid_t thread;
    struct list of_process;
    pthread_mutex_t exit_mutex; /* robust, and held by the thread until it ends, in whatever way */
} __attribute__((aligned(64)));

/* The calling thread's; before it registers one that nobody has. */
extern __thread struct thread_record *own_record __attribute__((tls_model("initial-exec")));

extern struct list thread_records;
#define for_each_thread(record)                                                 \
    for (struct thread_record *record =                                         \
             list_entry(thread_records.next, struct thread_record, of_process); \
         &record->of_process != &thread_records;                                \
         record = list_entry(record->of_process.next, struct thread_record, of_process))

/* The bits in PKRU of the pool, the pkeys that virtual keys share. */
extern uint32_t thread_records_pool;

/*
 * The calling thread, which must be outside signal handlers, closes the idle pkeys and says so. If
 * it is not registered it closes the pool, too, and gets a record: -ENOMEM.
 */
int thread_records_register(void);

/* The same, of a registered thread, which needs no lock for it. */
void thread_records_close_idle(void);

/* Whether there is something new for it to close. Needs no lock. */
bool thread_records_idle_to_close(void);

/*
 * The change number of pkeys.c before which every pkey that is idle since then is closed in every
 * thread of this process. 0: none is known to be.
 */
uint64_t thread_records_closed_idle(void);

/* Threads that have ended pin nothing any more. Whether there were any. */
bool thread_records_drop_exited(void);

static inline bool thread_pins(const struct thread_record *record, int pkey)
{
    return __atomic_load_n(&record->pins[pkey], __ATOMIC_ACQUIRE) != 0;
}

/* Of the calling thread, registered. Handlers in between leave the count as they find it. */
static inline void thread_set_pins(int pkey, uint32_t pins)
{
    __atomic_store_n(&own_record->pins[pkey], pins, __ATOMIC_RELEASE);
}

/* Whether a thread pins this pkey, as far as its writes have arrived here. */
bool thread_records_any_pins(int pkey);

/* Whether the calling thread is registered, and the only one of this process. */
bool thread_records_only_own(void);

/*
 * Whether every thread of this process was registered at one moment during the call: 0; -EAGAIN:
 * one was not, or it cannot be known. No thread registers meanwhile, for that wants the lock.
 */
int thread_records_all_registered(void);

/* One that is not registered; 0: none; -1: it cannot be known. */
pid_t thread_records_find_unregistered(void);

/*
 * Whether the calling thread is certainly not in a signal handler. The first looks at PKRU alone,
 * the second at the stack, too. Need no lock.
 */
bool thread_marked_outside_handlers(void);
bool thread_outside_handlers(void);

/* The same of code of the calling thread whose stack ended here when a handler interrupted it. */
bool thread_no_frame_above(const void *stack);

#endif
