/* SPDX-License-Identifier: MIT */
/* Threads: registering, pins of others, and what is left of a thread that ended. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_virtual.h"

/* A thread that is not registered may have any used pkey open, so none is taken from its key. */
START_TEST(unregistered_thread_blocks_eviction)
{
    struct worker worker, brief;
    struct pkeyguard_guard guard;

    start_worker(&worker);
    for (int i = 0; i < POOL; i++) /* the pool has these pkeys, no key used them before */
        open_and_close(i);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    ck_assert_int_eq(pkeyguard_key_acquire(keys[POOL], PKEYGUARD_READ_WRITE, &guard), -EAGAIN);
    assert_closed(POOL);
    open_and_close(3);
    run_on(&worker, do_register, NULL);
    open_and_close(POOL);
    end_worker(&worker);
    evict_everything(-1);
    start_worker(&worker);
    assert_blocks_eviction(&worker);
    run_on(&worker, do_open_and_close,
           (void *)(intptr_t)(KEYS - 1)); /* this registers the thread */
    evict_everything(-1);
    start_worker(&brief);
    end_worker(&brief);
    evict_everything(-1);
    end_worker(&worker);
}
END_TEST

/*
 * A thread created inside a scope has the key open. It closes the key when it registers, or with
 * its first guard.
 */
START_TEST(thread_created_inside_a_scope_blocks_eviction)
{
    struct worker worker;

    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    start_worker(&worker);
    pkeyguard_release(&guards[0]);
    ck_assert(can_read_on(&worker, address_of(regions[0])));
    for (int i = 1; i < KEYS; i++) {
        int error = acquire(i, PKEYGUARD_READ_WRITE);

        ck_assert(error == 0 || error == -EAGAIN);
        ck_assert_int_eq(error, i < POOL ? 0 : -EAGAIN);
        if (error == 0)
            pkeyguard_release(&guards[i]);
        ck_assert(!can_read_on(&worker, address_of(regions[i])));
    }
    if (_i == 0)
        run_on(&worker, do_register, NULL);
    else
        run_on(&worker, do_open_and_close, (void *)(intptr_t)1);
    ck_assert(!can_read_on(&worker, address_of(regions[0])));
    for (int i = 1; i < KEYS; i++) {
        open_and_close(i);
        ck_assert(!can_read_on(&worker, address_of(regions[i])));
    }
    end_worker(&worker);
}
END_TEST

START_TEST(pins_of_other_threads_block_eviction)
{
    struct worker worker;

    start_worker(&worker);
    run_on(&worker, do_acquire, (void *)0);
    evict_everything(0);
    ck_assert(is_bound(0));
    ck_assert(can_read_on(&worker, address_of(regions[0])));
    assert_denied(READ_BYTE, address_of(regions[0]), keys[0]);
    ck_assert_int_eq(pkeyguard_region_destroy(regions[KEYS - 1]), 0);
    regions[KEYS - 1] = new_region(keys[KEYS - 1]);
    for (int i = 1; i < POOL; i++)
        ck_assert_int_eq(acquire(i, PKEYGUARD_READ_ONLY), 0);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EBUSY);
    run_on(&worker, do_release, (void *)0);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), 0);
    ck_assert(!can_read_on(&worker, address_of(regions[POOL])));
    for (int i = 1; i <= POOL; i++)
        pkeyguard_release(&guards[i]);
    end_worker(&worker);
}
END_TEST

/*
 * The other thread has no pin that it could drop; the key stays open in the thread that acquired
 * the guard.
 */
START_TEST(guard_released_by_another_thread_stays_open)
{
    struct worker worker;

    start_worker(&worker);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    guards[KEYS] = guards[0];
    run_on(&worker, do_release, (void *)(intptr_t)KEYS);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    run_on(&worker, do_register, NULL);
    evict_everything(0);
    ck_assert(is_bound(0));
    pkeyguard_release(&guards[0]);
    end_worker(&worker);
    evict_everything(-1);
}
END_TEST

static pthread_key_t destructor;

static void *end_with_an_open_guard(void *how)
{
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    switch ((intptr_t)how) {
    case 0:
        return NULL;
    case 1:
        pthread_exit(NULL);
    case 2:
        syscall(SYS_exit, 0);
        return NULL;
    case 3:
        pthread_setspecific(destructor, how);
        return NULL;
    default:
        for (;;)
            sleep(1000); /* a cancellation point */
    }
}

static void open_in_destructor(void *unused)
{
    (void)unused;
    ck_assert_int_eq(acquire(1, PKEYGUARD_READ_WRITE), 0);
    *address_of(regions[1]) = 'd';
    pkeyguard_release(&guards[1]);
    ck_assert_int_eq(acquire(2, PKEYGUARD_READ_WRITE), 0);
}

/*
 * A thread that ends with open guards drops its pins and is counted no more, in whatever way it
 * ends.
 */
START_TEST(ending_thread_drops_its_pins)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_key_create(&destructor, open_in_destructor), 0);
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(
            pthread_create(&thread, NULL, end_with_an_open_guard, (void *)(intptr_t)_i), 0);
        while (!is_bound(0))
            sched_yield();
        if (_i == 4)
            pthread_cancel(thread);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        evict_everything(0);
        evict_everything(0);
        ck_assert(!is_bound(0));
    }
    for (int i = 0; i < POOL; i++)
        ck_assert_int_eq(acquire(i, PKEYGUARD_READ_ONLY), 0);
    unpin_pool();
}
END_TEST

/* The kernel counts a main thread that has ended until the process ends. */
static pthread_t main_thread;

static void *evict_after_main_ended(void *unused)
{
    (void)unused;
    pthread_join(main_thread, NULL);
    for (int round = 0; round < 2; round++) {
        for (int i = 1; i < KEYS; i++) {
            int error = acquire(i, PKEYGUARD_READ_WRITE);

            if (error != 0)
                _exit(-error);
            pkeyguard_release(&guards[i]);
        }
    }
    _exit(is_bound(0) ? 1 : 0);
}

START_TEST(ending_main_thread_drops_its_pins)
{
    pthread_t thread;
    pid_t child = fork();

    if (child == 0) {
        main_thread = pthread_self();
        (void)!acquire(0, PKEYGUARD_READ_WRITE);
        pthread_create(&thread, NULL, evict_after_main_ended, NULL);
        pthread_exit(NULL);
    }
    assert_exits(child, 0);
}
END_TEST

/* The worker is not registered, so the main thread of its fork child is not either. */
static void fork_child_whose_main_thread_ends(void *unused)
{
    pthread_t thread;
    pid_t child = fork();

    (void)unused;
    if (child == 0) {
        main_thread = pthread_self();
        pthread_create(&thread, NULL, evict_after_main_ended, NULL);
        pthread_exit(NULL);
    }
    assert_exits(child, 0);
}

START_TEST(ended_unregistered_main_thread_does_not_block_eviction)
{
    struct worker worker;

    start_worker(&worker);
    run_on(&worker, fork_child_whose_main_thread_ends, NULL);
    end_worker(&worker);
}
END_TEST

START_TEST(reset_closes_and_unpins)
{
    struct pkeyguard_guard nested;

    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_ONLY, &nested), 0);
    ck_assert_int_eq(acquire(1, PKEYGUARD_READ_ONLY), 0);
    pkeyguard_thread_reset();
    assert_all_closed();
    evict_everything(0);
    ck_assert(!is_bound(0));
    pkeyguard_release(&guards[0]); /* no effect: reset has released it */
    pkeyguard_release(&nested);
    pkeyguard_release(&guards[1]);
    assert_all_closed();
    for (int i = 0; i < POOL; i++)
        ck_assert_int_eq(acquire(i, PKEYGUARD_READ_ONLY), 0);
    unpin_pool();
}
END_TEST

static void do_reset(void *unused)
{
    (void)unused;
    pkeyguard_thread_reset();
}

START_TEST(reset_registers_the_thread)
{
    struct worker worker;

    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    start_worker(&worker);
    pkeyguard_release(&guards[0]);
    run_on(&worker, do_reset, NULL);
    ck_assert(!can_read_on(&worker, address_of(regions[0])));
    evict_everything(-1);
    end_worker(&worker);
}
END_TEST

void add_threads(Suite *suite)
{
    TCase *tests = add_case(suite, "threads", set_up_keys, tear_down_keys);

    add_pku_test(tests, unregistered_thread_blocks_eviction);
    add_pku_loop_test(tests, thread_created_inside_a_scope_blocks_eviction, 0, 2);
    add_pku_test(tests, pins_of_other_threads_block_eviction);
    add_pku_test(tests, guard_released_by_another_thread_stays_open);
    add_pku_loop_test(tests, ending_thread_drops_its_pins, 0, 5);
    add_pku_test(tests, ending_main_thread_drops_its_pins);
    add_pku_test(tests, ended_unregistered_main_thread_does_not_block_eviction);
    add_pku_test(tests, reset_closes_and_unpins);
    add_pku_test(tests, reset_registers_the_thread);
}
