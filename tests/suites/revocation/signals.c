/* SPDX-License-Identifier: MIT */
/* A signal closes the pkey of a destroyed key in every thread. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "failing.h"
#include "test_revocation.h"

START_TEST(signal_closes_the_pkey_in_every_thread)
{
    ck_assert_int_eq(count_resources().pkeys, 1);
    assert_pkey_reused(2);
}
END_TEST

START_TEST(reporter_grants_the_default_after_a_signal)
{
    assert_default_is_granted();
}
END_TEST

START_TEST(one_round_of_signals_closes_several_pkeys)
{
    struct worker newcomer;
    sigset_t urgent;

    for (int i = 0; i < 3; i++) {
        destroy(NULL, keys[i]);
        keys[i] = NULL;
    }
    assert_pkey_reused(2);
    /* No thread is asked for the other pkeys, so it may block the signal. */
    sigemptyset(&urgent);
    sigaddset(&urgent, SIGURG);
    pthread_sigmask(SIG_BLOCK, &urgent, NULL);
    start_worker(&newcomer);
    for (int i = 0; i < 3; i++)
        keys[i] = new_key(PKEYGUARD_READ_WRITE, 0);
    end_worker(&newcomer);
}
END_TEST

static int pipe_ends[2];
static sem_t semaphore;
static int slept, slept_error;

static void do_sleep_in_read(void *unused)
{
    char byte;

    (void)unused;
    ck_assert_int_eq(read(pipe_ends[0], &byte, 1), 1);
}

static void do_sleep_in_futex(void *unused)
{
    (void)unused;
    ck_assert_int_eq(sem_wait(&semaphore), 0);
}

static void do_sleep_in_nanosleep(void *unused)
{
    const struct timespec long_time = {.tv_sec = 1000};

    (void)unused;
    slept = nanosleep(&long_time, NULL);
    slept_error = errno;
}

START_TEST(signal_reaches_threads_asleep_in_the_kernel)
{
    ck_assert_int_eq(pipe(pipe_ends), 0);
    sem_init(&semaphore, 0, 0);
    begin_on(&workers[0], _i == 0 ? do_sleep_in_read : do_sleep_in_futex, NULL);
    begin_on(&workers[1], do_sleep_in_nanosleep, NULL);
    for (int i = 0; i < 2; i++)
        wait_until_blocked(&workers[i]);
    ck_assert_int_eq(create_key(), 0);
    wait_for(&workers[1]);
    ck_assert_int_eq(slept, -1);
    ck_assert_int_eq(slept_error, EINTR);
    ck_assert_int_eq(write(pipe_ends[1], "x", 1), 1);
    sem_post(&semaphore);
    wait_for(&workers[0]);
    destroy(NULL, keys[VICTIM]);
    assert_pkey_reused(2);
}
END_TEST

static void do_mask(void *how)
{
    sigset_t urgent;

    sigemptyset(&urgent);
    sigaddset(&urgent, SIGURG);
    pthread_sigmask((int)(intptr_t)how, &urgent, NULL);
}

START_TEST(thread_that_blocks_the_signal_blocks_the_pkey)
{
    run_on(&workers[1], do_mask, (void *)(intptr_t)SIG_BLOCK);
    assert_revocation_fails();
    assert_revocation_fails();
    run_on(&workers[1], do_mask, (void *)(intptr_t)SIG_UNBLOCK);
    assert_pkey_reused(2);
}
END_TEST

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void do_hold_the_mutex_until_a_signal(void *unused)
{
    pthread_mutex_lock(&mutex);
    do_sleep_in_nanosleep(unused);
    pthread_mutex_unlock(&mutex);
}

static void do_wait_for_the_mutex(void *unused)
{
    (void)unused;
    do_mask((void *)(intptr_t)SIG_BLOCK);
    pthread_mutex_lock(&mutex);
    pthread_mutex_unlock(&mutex);
    do_mask((void *)(intptr_t)SIG_UNBLOCK);
}

/* The thread that holds the mutex is stopped. The other cannot answer before it has the mutex. */
START_TEST(thread_that_blocks_the_signal_may_wait_for_a_stopped_one)
{
    begin_on(&workers[0], do_hold_the_mutex_until_a_signal, NULL);
    wait_until_blocked(&workers[0]);
    begin_on(&workers[1], do_wait_for_the_mutex, NULL);
    wait_until_blocked(&workers[1]);
    assert_pkey_reused(2);
}
END_TEST

static atomic_int handler_state; /* 1: in the handler; 2: it may return */

static void stay_in_handler(int unused)
{
    (void)unused;
    handler_state = 1;
    while (handler_state == 1)
        sched_yield();
}

/* The signal frame of that handler holds the rights that its return restores. */
static void do_raise_on(void *stack)
{
    struct sigaction action = {.sa_handler = stay_in_handler, .sa_flags = stack ? SA_ONSTACK : 0};
    stack_t other = {.ss_sp = stack, .ss_size = 1 << 16};

    if (stack != NULL)
        sigaltstack(&other, NULL);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
}

/* On the thread's own stack, on an alternate stack below it, or on one above it. */
START_TEST(thread_in_another_handler_blocks_the_pkey)
{
    static char low[1 << 16];
    void *high = mmap(NULL, 1 << 16, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *const stacks[] = {NULL, low, high};

    begin_on(&workers[0], do_raise_on, stacks[_i]);
    while (handler_state != 1)
        sched_yield();
    assert_revocation_fails();
    handler_state = 2;
    wait_for(&workers[0]);
    assert_pkey_reused(2);
}
END_TEST

START_TEST(revoke_fails_when_threads_cannot_be_listed)
{
    fail_call(CALL_GETDENTS64, 0, EACCES, 8); /* it does not try again for long */
    assert_revocation_fails();
    ck_assert(stop_failing());
    assert_pkey_reused(2);
}
END_TEST

START_TEST(revoke_fails_without_memory_for_the_answers)
{
    fail_call(CALL_MMAP, 0, ENOMEM, 1 << 30);
    assert_revocation_fails();
    ck_assert(stop_failing());
    assert_pkey_reused(2);
}
END_TEST

/* The kernel refuses a signal when too many are queued. A refused one is sent again. */
START_TEST(revoke_fails_when_signals_cannot_be_sent)
{
    fail_call(CALL_TGKILL, 0, EAGAIN, 1 << 30);
    assert_revocation_fails();
    ck_assert(stop_failing());
    fail_call(CALL_TGKILL, 0, EAGAIN, 1);
    assert_pkey_reused(2);
    ck_assert(stop_failing());
}
END_TEST

static atomic_int signals_taken;

static void take_signal(int unused)
{
    (void)unused;
    signals_taken++;
}

static void take_signal_with_info(int signal, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    take_signal(signal);
}

START_TEST(revoke_stops_when_the_program_takes_the_signal_back)
{
    static const struct sigaction actions[] = {
        {.sa_handler = take_signal},
        {.sa_handler = SIG_DFL},
        {.sa_handler = SIG_IGN},
        {.sa_sigaction = take_signal_with_info, .sa_flags = SA_SIGINFO},
    };

    ck_assert_int_eq(sigaction(SIGURG, &actions[_i], NULL), 0);
    assert_pkey_waits();
    ck_assert_int_eq(signals_taken, 0);
}
END_TEST

/* The signal comes while nothing is to be revoked. */
START_TEST(signal_sent_by_others_changes_nothing)
{
    uint32_t pkru = pkeyguard_pkru_read();

    errno = 1234;
    raise(SIGURG);
    ck_assert_int_eq(errno, 1234);
    ck_assert_uint_eq(pkeyguard_pkru_read(), pkru);
    assert_pkey_reused(2);
}
END_TEST

void add_signals(Suite *suite)
{
    TCase *tests = add_case(suite, "signals", set_up_signal, tear_down_workers);

    add_pku_test(tests, signal_closes_the_pkey_in_every_thread);
    add_pku_test(tests, reporter_grants_the_default_after_a_signal);
    add_pku_test(tests, one_round_of_signals_closes_several_pkeys);
    add_pku_loop_test(tests, signal_reaches_threads_asleep_in_the_kernel, 0, 2);
    add_pku_test(tests, thread_that_blocks_the_signal_blocks_the_pkey);
    add_pku_test(tests, thread_that_blocks_the_signal_may_wait_for_a_stopped_one);
    add_pku_loop_test(tests, thread_in_another_handler_blocks_the_pkey, 0, 3);
    add_pku_test(tests, revoke_fails_when_threads_cannot_be_listed);
    add_pku_test(tests, revoke_fails_without_memory_for_the_answers);
    add_pku_test(tests, revoke_fails_when_signals_cannot_be_sent);
    add_pku_loop_test(tests, revoke_stops_when_the_program_takes_the_signal_back, 0, 4);
    add_pku_test(tests, signal_sent_by_others_changes_nothing);
}
