/* SPDX-License-Identifier: MIT */
/*
 * A round runs under the library's lock. The initiator looks for threads and sends the signal to
 * each thread that the job concerns. The handler does the job, or reports that it cannot do it at
 * this point. In the second case the thread goes on and is asked again.
 *
 * The initiator takes no lock that a stopped thread may hold, such as malloc's or stdio's. It runs
 * no signal handler, because its signals are blocked. A thread that waits for the library's lock
 * has its signals unblocked, so it answers. A thread does not answer if it blocks the signal, stays
 * in a handler for long, or sleeps where no signal wakes it. The round fails if no further thread
 * has answered "done" for a while. Then all threads go on.
 *
 * A thread that blocks the signal may wait for a lock that a stopped thread holds: a thread of
 * glibc that ends blocks all signals and takes the lock of the cached stacks. So when nobody
 * answers and such a thread is left, the round releases the stopped threads and asks all threads
 * again.
 *
 * A handler may run late. It counts itself as running before it checks whether a round is on. The
 * initiator ends the round before it reads that count, and waits until the count is 0.
 */
#include "pkey/signal_round.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "pkey/kernel_threads.h"

enum { THREAD_IDS = 4 << 20 }; /* the kernel's own limit, PID_MAX_LIMIT */

/*
 * In milliseconds. PATIENCE: since the last thread answered "done". PATIENCE_IN_ALL: for the whole
 * round.
 */
enum { PATIENCE = 500, PATIENCE_IN_ALL = 2000 };

/* How far a round has come. The round may ask all threads several times. */
struct progress {
    uint64_t begun, last; /* times in milliseconds; last: when most_done last grew */
    unsigned most_done;
    /*
     * How many times in a row the initiator waits without an answer before it releases the stopped
     * threads. Doubles each time, so that a thread that never answers costs the others little.
     */
    unsigned waits;
};

enum thread_state { UNASKED, ASKED, DONE };

/*
 * Written under the library's lock, except the members that handlers write. Handlers read all of
 * it.
 */
static struct signal_rounds {
    int signal; /* 0: none was chosen; once chosen, it never changes */
    /*
     * the process that chose it; in another process that shares its memory the handler does nothing
     */
    pid_t process;

    atomic_uint rounds;           /* odd while a round is on */
    atomic_uint handlers_running; /* written by handlers */
    atomic_uint answers;          /* changes with each answer; written by handlers */
    atomic_uint threads_done;     /* in this round; written by handlers */
    bool success;                 /* of the last round, set before it ends */
    const struct round_job *job;
    pid_t initiator;
    /* The thread that did not answer in the last round; 0: all answered; -1: unknown. */
    pid_t failed_for;

    /*
     * The state of each thread in a round, an enum thread_state, indexed by thread id. The kernel
     * gives memory only to pages that are used.
     */
    _Atomic unsigned char *states;
} all_rounds;

static void answer(unsigned round, void *ucontext)
{
    const struct round_job *job = all_rounds.job;
    bool done = job->in_handler(ucontext);

    all_rounds.states[os_thread_id()] = done ? DONE : UNASKED;
    if (done)
        all_rounds.threads_done++;
    all_rounds.answers++;
    os_wake(&all_rounds.answers);
    while (done && job->waits && all_rounds.rounds == round)
        os_wait(&all_rounds.rounds, round, 1000);
    if (done && job->at_end != NULL)
        job->at_end(ucontext, all_rounds.success);
}

static void on_round_signal(int signal, siginfo_t *info, void *ucontext)
{
    int saved_errno = errno;
    unsigned round;

    (void)signal, (void)info;
    if (getpid() != all_rounds.process)
        return;
    all_rounds.handlers_running++;
    round = all_rounds.rounds;
    if (round % 2 == 1)
        answer(round, ucontext);
    if (--all_rounds.handlers_running == 0)
        os_wake(&all_rounds.handlers_running);
    errno = saved_errno;
}

bool signal_round_may_use(int signal)
{
    static const int taken[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};

    for (size_t i = 0; i < sizeof(taken) / sizeof(*taken); i++) {
        if (signal == taken[i])
            return false;
    }
    /* The C library uses the signals between 31 and SIGRTMIN. */
    return (signal > 0 && signal < 32) || (signal >= SIGRTMIN && signal <= SIGRTMAX);
}

void signal_round_forget(void)
{
    all_rounds.rounds = all_rounds.handlers_running = 0;
    all_rounds.process = getpid();
}

int signal_round_use(int signal)
{
    struct sigaction action = {.sa_sigaction = on_round_signal,
                               .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    struct sigaction before;

    if (all_rounds.signal != 0)
        return all_rounds.signal == signal ? 0 : -EBUSY;
    os_handle_signal(signal, NULL, &before);
    if (before.sa_handler != SIG_DFL)
        return -EBUSY;
    memset(&action.sa_mask, 0xff, sizeof(action.sa_mask));
    os_handle_signal(signal, &action, NULL);
    all_rounds.process = getpid();
    all_rounds.signal = signal;
    return 0;
}

bool signal_round_allowed(void)
{
    struct sigaction action;

    if (all_rounds.signal == 0)
        return false;
    os_handle_signal(all_rounds.signal, NULL, &action);
    return action.sa_flags & SA_SIGINFO && action.sa_sigaction == on_round_signal;
}

static bool has_not_answered(pid_t thread)
{
    const struct round_job *job = all_rounds.job;

    return thread != all_rounds.initiator && thread < THREAD_IDS &&
           all_rounds.states[thread] != DONE && (job->concerns == NULL || job->concerns(thread));
}

/*
 * Sends the signal to a thread that has not answered. Returns false, so that kernel_threads_find()
 * continues with the next thread.
 */
static bool ask(pid_t thread)
{
    if (!has_not_answered(thread) || all_rounds.states[thread] == ASKED)
        return false;
    all_rounds.states[thread] = ASKED;
    if (os_signal_thread(thread, all_rounds.signal) != 0)
        all_rounds.states[thread] = UNASKED;
    return false;
}

static NEEDS_LIBRARY_LOCK bool is_out_of_time(struct progress *progress, unsigned done)
{
    uint64_t now = os_milliseconds();

    if (done > progress->most_done) {
        progress->most_done = done;
        progress->last = now;
    }
    return now - progress->last > PATIENCE || now - progress->begun > PATIENCE_IN_ALL;
}

static NEEDS_LIBRARY_LOCK bool blocks_the_signal(pid_t thread)
{
    return has_not_answered(thread) && kernel_threads_blocks(thread, all_rounds.signal);
}

/* Returns 0; -EAGAIN: the round has failed; -EDEADLK: the stopped threads must go on for a moment.
 */
static NEEDS_LIBRARY_LOCK int ask_until_complete(struct progress *progress)
{
    unsigned waits = 0; /* in a row, without an answer */

    for (;;) {
        unsigned answered = all_rounds.answers, done = all_rounds.threads_done;

        if (all_rounds.job->is_complete(done))
            return 0;
        if (kernel_threads_count() == 0 || is_out_of_time(progress, done))
            return -EAGAIN;
        if (waits >= progress->waits && done > 0 && all_rounds.job->waits &&
            kernel_threads_find(blocks_the_signal) > 0)
            return -EDEADLK;
        if (kernel_threads_find(ask) < 0)
            return -EAGAIN;
        os_wait(&all_rounds.answers, answered, 1);
        waits = all_rounds.answers == answered ? waits + 1 : 0;
        /* A thread that cannot do the job now gets time to go on. */
        os_sleep_briefly();
    }
}

static void end_round(bool success)
{
    unsigned left;

    all_rounds.success = success;
    all_rounds.rounds++;
    os_wake(&all_rounds.rounds);
    while ((left = all_rounds.handlers_running) != 0)
        os_wait(&all_rounds.handlers_running, left, 1000);
}

/* Asks every thread once. Returns as ask_until_complete(). */
static NEEDS_LIBRARY_LOCK int ask_all(struct progress *progress)
{
    void *pages;
    int error;

    if (os_allocate_pages(THREAD_IDS, &pages) != 0)
        return -EAGAIN;
    all_rounds.states = pages;
    all_rounds.threads_done = 0;
    all_rounds.rounds++;
    error = ask_until_complete(progress);
    all_rounds.failed_for = error == 0 ? 0 : kernel_threads_find(has_not_answered);
    end_round(error == 0);
    os_free_pages(pages, THREAD_IDS);
    return error;
}

int signal_round(const struct round_job *job)
{
    uint64_t now = os_milliseconds();
    struct progress progress = {.begun = now, .last = now, .waits = 1};
    int error;

    if (!signal_round_allowed() || kernel_threads_count() == 0)
        return -EAGAIN;
    /*
     * A round that fails takes up to two seconds. Do not start another while the same thread still
     * blocks the signal.
     */
    if (all_rounds.failed_for != 0 &&
        kernel_threads_blocks(all_rounds.failed_for, all_rounds.signal))
        return -EAGAIN;
    all_rounds.job = job;
    all_rounds.initiator = os_thread_id();
    while ((error = ask_all(&progress)) == -EDEADLK)
        progress.waits *= 2;
    return error;
}
