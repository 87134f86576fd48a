/* SPDX-License-Identifier: MIT */
/*
 * signal_round.h - runs a function in a signal handler of every other thread
 *
 * It works only if the program has chosen a signal for it. A thread answers from the handler:
 * "done", or "not possible now". In the second case it is asked again.
 */
#ifndef SIGNAL_ROUND_H
#define SIGNAL_ROUND_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/lock.h"

/* One job for a round. The handler calls the members of the second group, without the lock. */
struct round_job {
    /*
     * Returns true if this thread must be asked. NULL: every thread is asked. Runs with the lock
     * held.
     */
    bool (*concerns)(pid_t thread);

    /*
     * Returns true if the round has succeeded. `done` is the number of threads that answered
     * "done". Runs with the lock held.
     */
    bool (*is_complete)(unsigned done);

    /* Does the job. Returns false, with nothing changed, if that is not possible now. */
    bool (*in_handler)(void *ucontext);

    /*
     * A thread that answered "done" waits in the handler until the round ends, then calls this. May
     * be NULL.
     */
    void (*at_end)(void *ucontext, bool success);
    bool waits;
};

/*
 * True if the signal is one that a program can handle and that nothing else needs. Needs no lock.
 */
bool signal_round_may_use(int signal);

/*
 * Chooses the signal. -EBUSY: the signal has a handler or is ignored, or another one was chosen
 * before.
 */
int signal_round_use(int signal) NEEDS_LIBRARY_LOCK;

/* True if a signal was chosen and its handler is still the library's. */
bool signal_round_allowed(void) NEEDS_LIBRARY_LOCK;

/*
 * Asks the threads until the round is complete. Returns 0. Returns -EAGAIN if a thread did not
 * answer for a while or /proc cannot be read; threads that answered "done" have done the job even
 * then.
 */
int signal_round(const struct round_job *job) NEEDS_LIBRARY_LOCK;

/* Runs in a fork child, where no round is on. */
void signal_round_forget(void) NEEDS_LIBRARY_LOCK;

#endif
