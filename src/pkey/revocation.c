/* SPDX-License-Identifier: MIT */
/*
 * Revocation: the world is stopped, thread by thread, until nobody is left who runs.
 *
 * A round, under the library's lock: the initiator looks for threads and sends each the signal. Its
 * handler sets the bits in the PKRU that the thread goes on with, says so, and waits there until
 * the round is over; or it says that it cannot, goes on, and is asked again. The round has
 * succeeded when the kernel counts no more threads than have said so and the initiator. At that
 * moment there is no other thread, and every one of these has the bits set:
 *
 *  - A thread that waits in the handler can neither open a pkey nor create a thread nor end. So
 *    none that was counted can be another than those that have answered.
 *  - A thread that is born while the round goes on is born of one that has not answered, and it
 *    counts. It is found when threads are looked for again.
 *  - What a waiting thread goes on with is the frame of this handler alone, because it has answered
 *    only if no other frame lies on its stack. Else a later return from there would give it back
 *    what it had.
 *  - It is not about to write to PKRU what it read before: not in a guard or in pkey_set(3), by the
 *    code around the interrupted instruction; nor in what this library does in C, by its account
 *    (pkeys.h), which covers also what it knows of rights and is about to set. Guards of a key may
 *    not be opened while it is destroyed, says its header.
 *  - A fork child has one thread, which was none of those that wait; a fork waits for the lock. As
 *    for virtual keys, clone(2) can make what shares the memory and is not in the count.
 *  - The first thread, once it has ended, is counted for ever. That it has is read before the
 *    count.
 *
 * Nobody waits for anybody in vain. The initiator takes no lock that a stopped thread may hold,
 * neither malloc's nor stdio's, and blocks its signals, for handlers might. Threads that wait for
 * the library's lock answer from the handler. A thread that blocks the signal, is in a handler for
 * long, or sleeps where no signal wakes it, never answers: after a while without any answer that
 * helps everybody is let go, and nothing is lost.
 *
 * A handler may run late. It enters its name before it looks whether a round is on, and the
 * initiator ends a round before it looks who is inside and waits until they are out.
 */
#include "pkey/revocation.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/os.h"
#include "pkey/pkeys.h"
#include "pkru/signal_frame.h"
#include "pkey/kernel_threads.h"
#include "pkey/thread_records.h"

enum { THREAD_IDS = 4 << 20 }; /* the kernel's own limit */
/* In milliseconds: since the last answer that helped, and for all of it. */
enum { PATIENCE = 500, MOST_PATIENCE = 2000 };

enum state { UNASKED, ASKED, CLOSED };

static int chosen_signal;
static pid_t process; /* whose handler it is, and no process's that shares its memory */

static atomic_uint rounds;  /* odd: one is on */
static atomic_uint inside;  /* threads in the handler */
static atomic_uint answers; /* changes with each */
static atomic_uint closed;  /* how many of this round's have closed the bits */
static uint32_t closing;
static pid_t initiator;

/* By thread id, and zero but for the pages of threads that there are. */
static _Atomic unsigned char *states;

static bool close_in_frame(void *ucontext)
{
    uint32_t pkru;

    return pkeys_changes_begun == 0 && !pkru_write_pending(ucontext) &&
           thread_no_frame_above(stack_in_frame(ucontext)) && pkru_in_frame(ucontext, &pkru) &&
           pkru_set_in_frame(ucontext, (pkru & ~closing) | (closing & EVERY_AD));
}

static void answer(unsigned round, void *ucontext)
{
    bool has_closed = close_in_frame(ucontext);

    states[os_thread_id()] = has_closed ? CLOSED : UNASKED;
    if (has_closed)
        closed++;
    answers++;
    os_wake(&answers);
    while (has_closed && rounds == round)
        os_wait(&rounds, round, 1000);
}

static void on_signal(int signal, siginfo_t *info, void *ucontext)
{
    int saved_errno = errno;
    unsigned round;

    (void)signal, (void)info;
    if (getpid() != process)
        return;
    inside++;
    round = rounds;
    if (round % 2 == 1)
        answer(round, ucontext);
    if (--inside == 0)
        os_wake(&inside);
    errno = saved_errno;
}

bool revocation_may_use(int signal)
{
    static const int others[] = {SIGKILL, SIGSTOP, SIGSEGV, SIGBUS,
                                 SIGILL,  SIGFPE,  SIGTRAP, SIGSYS};

    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        if (signal == others[i])
            return false;
    }
    /* Between the two kinds are those that the C library uses. */
    return (signal > 0 && signal < 32) || (signal >= SIGRTMIN && signal <= SIGRTMAX);
}

/* In a fork child, which no signal has stopped. */
static void forget_round(void)
{
    rounds = inside = 0;
    process = getpid();
}

int revocation_use(int signal)
{
    struct sigaction action = {.sa_sigaction = on_signal,
                               .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};
    struct sigaction before;

    if (chosen_signal != 0)
        return chosen_signal == signal ? 0 : -EBUSY;
    os_handle_signal(signal, NULL, &before);
    if (before.sa_handler != SIG_DFL)
        return -EBUSY;
    memset(&action.sa_mask, 0xff, sizeof(action.sa_mask));
    os_handle_signal(signal, &action, NULL);
    library_add_fork_child(forget_round);
    process = getpid();
    chosen_signal = signal;
    return 0;
}

/* Not where the program has taken the signal back. */
bool revocation_allowed(void)
{
    struct sigaction action;

    if (chosen_signal == 0)
        return false;
    os_handle_signal(chosen_signal, NULL, &action);
    return action.sa_flags & SA_SIGINFO && action.sa_sigaction == on_signal;
}

static bool ask(pid_t thread)
{
    if (thread == initiator || thread >= THREAD_IDS || states[thread] == ASKED ||
        states[thread] == CLOSED)
        return false;
    states[thread] = ASKED;
    if (os_signal_thread(thread, chosen_signal) != 0)
        states[thread] = UNASKED;
    return false;
}

static int stop_everybody(void)
{
    uint64_t begun = os_milliseconds(), helped_at = begun;
    unsigned helped = 0;

    for (;;) {
        unsigned answered = answers, stopped = closed;
        unsigned ended = kernel_threads_leader_exited() ? 1 : 0;
        unsigned alive = kernel_threads_count();
        uint64_t now = os_milliseconds();

        if (alive == 1 + stopped + ended)
            return 0;
        if (stopped != helped)
            helped_at = now;
        helped = stopped;
        if (alive == 0 || now - helped_at > PATIENCE || now - begun > MOST_PATIENCE)
            return -EAGAIN;
        kernel_threads_find(ask);
        os_wait(&answers, answered, 1);
        /* Who could not answer gets the time to go on. */
        os_sleep_briefly();
    }
}

static void let_everybody_go(void)
{
    unsigned left;

    rounds++;
    os_wake(&rounds);
    while ((left = inside) != 0)
        os_wait(&inside, left, 1000);
}

int revoke_everywhere(uint32_t bits)
{
    sigset_t before;
    void *pages;
    int error;

    if (!revocation_allowed() || kernel_threads_count() == 0 ||
        os_allocate_pages(THREAD_IDS, &pages) != 0)
        return -EAGAIN;
    os_block_signals(&before);
    pkeys_change(bits & ~EVERY_AD, bits & EVERY_AD);
    states = pages;
    closing = bits;
    initiator = os_thread_id();
    closed = 0;
    rounds++;
    error = stop_everybody();
    let_everybody_go();
    os_unblock_signals(&before);
    os_free_pages(pages, THREAD_IDS);
    return error;
}
