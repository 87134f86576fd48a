/* SPDX-License-Identifier: MIT */
/*
 * Revocation: a signal stops every other thread and closes the pkeys in its signal frame.
 *
 * A round runs under the library's lock. The initiator looks for threads and sends the signal to
 * each. The handler closes the pkeys in the PKRU that the thread goes on with, says so, and waits
 * there until the round is over. If it cannot close them it says that, goes on, and is asked again.
 * The round has succeeded when the kernel counts no more threads than those that have closed the
 * pkeys, and the initiator. At that moment there is no other thread, and every one of these has the
 * pkeys closed:
 *
 *  - A thread that waits in the handler can neither open a pkey nor create a thread nor end. So the
 *    threads that the kernel counted are exactly those that have answered.
 *  - A thread that is born during the round is born of a thread that has not answered, and it
 *    counts. The initiator finds it when it looks for threads again.
 *  - A waiting thread goes on with the frame of this handler alone, because it answers only if no
 *    other frame lies on its stack. From another frame, a later return would give it back the
 *    rights that it had.
 *  - The thread is not about to write a PKRU that it has read before. For a guard and for
 *    pkey_set(3), the code around the interrupted instruction shows that. For the library's C code,
 *    which reads rights and then sets them, its count of changes does (own_pkru.h). A guard on a
 *    key may not be opened while that key is destroyed, says its header.
 *  - A fork child has one thread, which was not waiting in the handler; a fork waits for the lock.
 *    As for virtual keys, clone(2) can make code that shares the memory and is not counted.
 *  - The kernel counts the first thread until the process ends, also after that thread has ended.
 *    The initiator finds out whether it has ended before it counts.
 *
 * No deadlock. The initiator takes no lock that a stopped thread may hold, neither malloc's nor
 * stdio's, and runs no signal handler, for its signals are blocked. Threads that wait for the
 * library's lock answer from the handler. A thread never answers if it blocks the signal, stays in
 * a handler for long, or sleeps where no signal wakes it. Then, when no further thread has closed
 * the pkeys for a while, all threads go on, and nothing is lost.
 *
 * A handler may run late. It counts itself as running before it looks whether a round is on, and
 * the initiator ends the round before it looks how many handlers run and waits for all of them.
 */
#include "pkey/revocation.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/os.h"
#include "pkey/own_pkru.h"
#include "pkru/signal_frame.h"
#include "pkey/kernel_threads.h"
#include "pkey/thread_records.h"

enum { THREAD_IDS = 4 << 20 }; /* the kernel's own limit, PID_MAX_LIMIT */

/* In milliseconds: from the last thread that closed the pkeys, and for the whole round. */
enum { PATIENCE = 500, PATIENCE_IN_ALL = 2000 };

enum thread_state { UNASKED, ASKED, CLOSED };

/* Written under the library's lock, but for what the handlers write; handlers read all of it. */
static struct revocation {
    int signal;    /* 0: none was chosen; never changes after that */
    pid_t process; /* the handler ignores the signal in a process that shares its memory */

    atomic_uint rounds;           /* odd while a round is on */
    atomic_uint handlers_running; /* written by handlers */
    atomic_uint answers;          /* changes with each answer; written by handlers */
    atomic_uint threads_closed;   /* in this round; written by handlers */
    pkru_bits bits_to_close;
    pid_t initiator;

    /* Of a round, by thread id: an enum thread_state. Memory only where there are threads. */
    _Atomic unsigned char *states;
} revocation;

static bool close_in_frame(void *ucontext)
{
    pkru_bits bits = revocation.bits_to_close;
    uint32_t pkru;

    return own_pkru.changes_begun == 0 && !pkru_write_pending(ucontext) &&
           thread_no_frame_above(stack_in_frame(ucontext)) && pkru_in_frame(ucontext, &pkru) &&
           pkru_set_in_frame(ucontext, (pkru & ~bits) | (bits & EVERY_AD));
}

static void answer(unsigned round, void *ucontext)
{
    bool closed = close_in_frame(ucontext);

    revocation.states[os_thread_id()] = closed ? CLOSED : UNASKED;
    if (closed)
        revocation.threads_closed++;
    revocation.answers++;
    os_wake(&revocation.answers);
    while (closed && revocation.rounds == round)
        os_wait(&revocation.rounds, round, 1000);
}

static void on_signal(int signal, siginfo_t *info, void *ucontext)
{
    int saved_errno = errno;
    unsigned round;

    (void)signal, (void)info;
    if (getpid() != revocation.process)
        return;
    revocation.handlers_running++;
    round = revocation.rounds;
    if (round % 2 == 1)
        answer(round, ucontext);
    if (--revocation.handlers_running == 0)
        os_wake(&revocation.handlers_running);
    errno = saved_errno;
}

bool revocation_may_use(int signal)
{
    static const int taken[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};

    for (size_t i = 0; i < sizeof(taken) / sizeof(*taken); i++) {
        if (signal == taken[i])
            return false;
    }
    /* The C library uses those between 31 and SIGRTMIN. */
    return (signal > 0 && signal < 32) || (signal >= SIGRTMIN && signal <= SIGRTMAX);
}

void revocation_forget_round(void)
{
    revocation.rounds = revocation.handlers_running = 0;
    revocation.process = getpid();
}

int revocation_use(int signal)
{
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    struct sigaction before;

    if (revocation.signal != 0)
        return revocation.signal == signal ? 0 : -EBUSY;
    os_handle_signal(signal, NULL, &before);
    if (before.sa_handler != SIG_DFL)
        return -EBUSY;
    memset(&action.sa_mask, 0xff, sizeof(action.sa_mask));
    os_handle_signal(signal, &action, NULL);
    revocation.process = getpid();
    revocation.signal = signal;
    return 0;
}

bool revocation_allowed(void)
{
    struct sigaction action;

    if (revocation.signal == 0)
        return false;
    os_handle_signal(revocation.signal, NULL, &action);
    return action.sa_flags & SA_SIGINFO && action.sa_sigaction == on_signal;
}

/* Sends the signal to a thread that has not answered. False: kernel_threads_find() goes on. */
static bool ask(pid_t thread)
{
    if (thread == revocation.initiator || thread >= THREAD_IDS ||
        revocation.states[thread] == ASKED || revocation.states[thread] == CLOSED)
        return false;
    revocation.states[thread] = ASKED;
    if (os_signal_thread(thread, revocation.signal) != 0)
        revocation.states[thread] = UNASKED;
    return false;
}

static NEEDS_LIBRARY_LOCK int stop_other_threads(void)
{
    uint64_t begun = os_milliseconds(), progress_at = begun;
    unsigned seen_closed = 0;

    for (;;) {
        unsigned answered = revocation.answers, stopped = revocation.threads_closed;
        unsigned ended = kernel_threads_leader_exited() ? 1 : 0;
        unsigned alive = kernel_threads_count();
        uint64_t now = os_milliseconds();

        if (alive == 1 + stopped + ended)
            return 0;
        if (stopped != seen_closed)
            progress_at = now;
        seen_closed = stopped;
        if (alive == 0 || now - progress_at > PATIENCE || now - begun > PATIENCE_IN_ALL)
            return -EAGAIN;
        kernel_threads_find(ask);
        os_wait(&revocation.answers, answered, 1);
        /* A thread that could not close them gets time to go on. */
        os_sleep_briefly();
    }
}

static void end_round(void)
{
    unsigned left;

    revocation.rounds++;
    os_wake(&revocation.rounds);
    while ((left = revocation.handlers_running) != 0)
        os_wait(&revocation.handlers_running, left, 1000);
}

int revoke_everywhere(pkru_bits bits)
{
    void *pages;
    int error;

    if (!revocation_allowed() || kernel_threads_count() == 0 ||
        os_allocate_pages(THREAD_IDS, &pages) != 0)
        return -EAGAIN;
    own_pkru_change(bits & ~EVERY_AD, bits & EVERY_AD);
    revocation.states = pages;
    revocation.bits_to_close = bits;
    revocation.initiator = os_thread_id();
    revocation.threads_closed = 0;
    revocation.rounds++;
    error = stop_other_threads();
    end_round();
    os_free_pages(pages, THREAD_IDS);
    return error;
}
