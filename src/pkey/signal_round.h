/* SPDX-License-Identifier: MIT */
/*
 * signal_round.h - has the other threads of the process do something in a signal handler
 *
 * It works only if the program has chosen a signal for it. Threads answer from the handler: done,
 * or not possible now. A thread that cannot do it is asked again.
 */
#ifndef SIGNAL_ROUND_H
#define SIGNAL_ROUND_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/lock.h"

/* A round's purpose. The handler calls the members of the second group, with no lock. */
struct round_job {
    /* True if this thread is to be asked. NULL: every thread is. Runs with the lock held. */
    bool (*concerns)(pid_t thread);

    /* True if the round has succeeded; `done` threads have answered so. With the lock held. */
    bool (*is_complete)(unsigned done);

    /* Does it, or returns false: not possible now, and nothing changed. */
    bool (*in_handler)(void *ucontext);

    /* Done threads wait in the handler until the round is over, and then call this. May be NULL. */
    void (*at_end)(void *ucontext, bool success);
    bool waits;
};

/* True if a program can handle this signal and nothing else depends on it. Needs no lock. */
bool signal_round_may_use(int signal);

/* Chooses the signal. -EBUSY: it has a handler or is ignored, or another one was chosen before. */
int signal_round_use(int signal) NEEDS_LIBRARY_LOCK;

/* True if a signal was chosen and the program has not taken it back. */
bool signal_round_allowed(void) NEEDS_LIBRARY_LOCK;

/*
 * Asks the threads until the round is complete. Returns 0; -EAGAIN: some thread did not answer for
 * a while, or /proc does not tell which threads there are; what is done stays done.
 */
int signal_round(const struct round_job *job) NEEDS_LIBRARY_LOCK;

/* In a fork child, where no thread is in a round. */
void signal_round_forget(void) NEEDS_LIBRARY_LOCK;

#endif
