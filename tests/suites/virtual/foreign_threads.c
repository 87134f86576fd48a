/* SPDX-License-Identifier: MIT */
/* Threads that never call the library, where the program has chosen a signal for them. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "test_virtual.h"

static void set_up(void)
{
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGURG), 0);
    set_up_keys();
}

static int ends[2];

/* As a runtime's thread that sleeps in a system call for good. */
static void *sleep_in_read(void *unused)
{
    char byte;

    (void)unused;
    ck_assert_int_eq(read(ends[0], &byte, 1), 1);
    return NULL;
}

static pthread_t start_sleeper(void)
{
    pthread_t thread;

    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, sleep_in_read, NULL), 0);
    return thread;
}

static void end_sleeper(pthread_t thread)
{
    ck_assert_int_eq(write(ends[1], "", 1), 1);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

/* Its system call goes on as if there had been no signal. */
START_TEST(sleeping_foreign_thread_does_not_block_eviction)
{
    pthread_t sleeper = start_sleeper();

    for (int round = 0; round < 3; round++)
        evict_everything(-1);
    assert_all_closed();
    end_sleeper(sleeper);
    evict_everything(-1);
}
END_TEST

/* It has the key open until its pkey is wanted by another one, and never again. */
START_TEST(foreign_thread_created_inside_a_scope_loses_the_key)
{
    struct worker worker;

    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    start_worker(&worker);
    pkeyguard_release(&guards[0]);
    ck_assert(can_read_on(&worker, address_of(regions[0])));
    evict_everything(-1);
    for (int i = 0; i < KEYS; i++) {
        ck_assert(!can_read_on(&worker, address_of(regions[i])));
        open_and_close(i);
        ck_assert(!can_read_on(&worker, address_of(regions[i])));
    }
    run_on(&worker, do_open_and_close, NULL); /* it can use the library like any other */
    end_worker(&worker);
    evict_everything(-1);
}
END_TEST

static atomic_int blocked;

static void block_every_signal(void *unused)
{
    sigset_t all;

    (void)unused;
    sigfillset(&all);
    ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
    blocked = 1;
}

/* It is in the way until it has registered itself. */
START_TEST(foreign_thread_that_blocks_the_signal_blocks_eviction)
{
    struct worker worker;

    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    start_worker(&worker);
    run_on(&worker, block_every_signal, NULL);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    assert_all_closed();
    run_on(&worker, do_register, NULL);
    evict_everything(-1);
    end_worker(&worker);
}
END_TEST

static atomic_int in_handler, may_return;

static void stay_in_handler(int unused)
{
    (void)unused;
    in_handler = 1;
    while (!may_return)
        sched_yield();
}

static void do_stay_in_handler(void *unused)
{
    (void)unused;
    signal(SIGUSR1, stay_in_handler);
    raise(SIGUSR1);
}

/* The return from its handler would open key 0 again; _i 1: nothing, because it was closed. */
START_TEST(foreign_thread_in_a_handler)
{
    struct worker worker;

    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    if (_i == 1)
        pkeyguard_release(&guards[0]);
    start_worker(&worker);
    if (_i == 0)
        pkeyguard_release(&guards[0]);
    begin_on(&worker, do_stay_in_handler, NULL);
    while (!in_handler)
        sched_yield();
    for (int i = 1; i < POOL; i++)
        open_and_close(i);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), _i == 0 ? -EAGAIN : 0);
    if (_i == 1)
        pkeyguard_release(&guards[POOL]);
    may_return = 1;
    wait_for(&worker);
    if (_i == 1)
        evict_everything(-1);
    for (int i = 0; i < KEYS; i++)
        ck_assert(can_read_on(&worker, address_of(regions[i])) == (_i == 0 && i == 0));
    end_worker(&worker);
}
END_TEST

static void stay_in_handler_and_reset(int unused)
{
    stay_in_handler(unused);
    pkeyguard_thread_reset();
}

static void do_stay_in_handler_and_reset(void *unused)
{
    (void)unused;
    signal(SIGUSR1, stay_in_handler_and_reset);
    raise(SIGUSR1);
}

/*
 * It is registered while it is in a handler. What the handler closes afterwards, its return opens
 * again: here the key that was destroyed meanwhile.
 */
START_TEST(foreign_thread_in_a_handler_is_not_taken_for_outside)
{
    struct pkeyguard_key *dedicated = new_key(PKEYGUARD_READ_WRITE, 0);
    struct pkeyguard_region *region = new_region(dedicated);
    struct worker worker;

    start_worker(&worker);
    begin_on(&worker, do_stay_in_handler_and_reset, NULL);
    while (!in_handler)
        sched_yield();
    evict_everything(-1);
    destroy(region, dedicated);
    may_return = 1;
    wait_for(&worker);
    region = NULL;
    while (pkeyguard_key_create(PKEYGUARD_READ_WRITE, 0, &dedicated) == 0) {
        region = new_region(dedicated);
        ck_assert(!can_read_on(&worker, address_of(region)));
    }
    ck_assert_ptr_nonnull(region);
    end_worker(&worker);
}
END_TEST

enum { CHURN = 200 };

static void *live_briefly(void *unused)
{
    (void)unused;
    sched_yield();
    return NULL;
}

static atomic_int churn_over;

static void *create_threads(void *unused)
{
    (void)unused;
    for (int i = 0; i < CHURN; i++) {
        pthread_t brief;

        ck_assert_int_eq(pthread_create(&brief, NULL, live_briefly, NULL), 0);
        ck_assert_int_eq(pthread_join(brief, NULL), 0);
    }
    churn_over = 1;
    return NULL;
}

/* Threads are born and end all the time; every guard is had, or refused with -EAGAIN. */
START_TEST(eviction_beside_foreign_thread_churn)
{
    pthread_t creator;

    ck_assert_int_eq(pthread_create(&creator, NULL, create_threads, NULL), 0);
    while (!churn_over) {
        for (int i = 0; i < KEYS; i++) {
            int error = acquire(i, PKEYGUARD_READ_WRITE);

            ck_assert(error == 0 || error == -EAGAIN);
            if (error == 0)
                pkeyguard_release(&guards[i]);
        }
    }
    ck_assert_int_eq(pthread_join(creator, NULL), 0);
    evict_everything(-1);
    assert_all_closed();
}
END_TEST

void add_foreign_threads(Suite *suite)
{
    TCase *tests = add_case(suite, "foreign threads", set_up, tear_down_keys);

    add_pku_test(tests, sleeping_foreign_thread_does_not_block_eviction);
    add_pku_test(tests, foreign_thread_created_inside_a_scope_loses_the_key);
    add_pku_test(tests, foreign_thread_that_blocks_the_signal_blocks_eviction);
    add_pku_loop_test(tests, foreign_thread_in_a_handler, 0, 2);
    add_pku_test(tests, foreign_thread_in_a_handler_is_not_taken_for_outside);
    add_pku_test(tests, eviction_beside_foreign_thread_churn);
}
