/* SPDX-License-Identifier: MIT */
/* Guards that wait for a pkey with a limit of time. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>

#include "failing.h"
#include "test_virtual.h"

enum { NOT_LONG = 30, LONG = 60000 }; /* milliseconds */

static int acquire_timed(int i, unsigned milliseconds)
{
    return pkeyguard_acquire_timed(regions[i], PKEYGUARD_READ_WRITE, milliseconds, &guards[i]);
}

START_TEST(timed_guards_open_at_once_where_they_can)
{
    struct pkeyguard_region *two[] = {regions[0], regions[1]};
    enum pkeyguard_rights rights[] = {PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY};
    struct pkeyguard_guard of_two[2], of_key;

    ck_assert_int_eq(acquire_timed(0, 0), 0);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    pkeyguard_release(&guards[0]);
    ck_assert_int_eq(pkeyguard_key_acquire_timed(keys[0], PKEYGUARD_READ_WRITE, 0, &of_key), 0);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    pkeyguard_release(&of_key);
    ck_assert_int_eq(pkeyguard_acquire_all_timed(2, two, rights, 0, of_two), 0);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    assert_allowed(READ_BYTE, address_of(regions[1]));
    pkeyguard_release(&of_two[1]);
    pkeyguard_release(&of_two[0]);
    assert_all_closed();
}
END_TEST

START_TEST(timed_guards_report_bad_arguments)
{
    struct pkeyguard_region *two[] = {regions[0], NULL};
    enum pkeyguard_rights rights[] = {PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY};
    struct pkeyguard_guard guard, of_two[2];

    ck_assert_int_eq(pkeyguard_acquire_timed(NULL, PKEYGUARD_READ_ONLY, LONG, &guard), -EINVAL);
    ck_assert_int_eq(pkeyguard_acquire_timed(regions[0], 0, LONG, &guard), -EINVAL);
    ck_assert_int_eq(pkeyguard_key_acquire_timed(NULL, PKEYGUARD_READ_ONLY, LONG, &guard), -EINVAL);
    ck_assert_int_eq(pkeyguard_acquire_all_timed(2, two, rights, LONG, of_two), -EINVAL);
    assert_all_closed();
}
END_TEST

static bool slept;

static void note_sleep(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    slept = true;
}

/* It does not keep a processor busy until its limit. */
START_TEST(timed_guard_sleeps)
{
    pin_pool();
    before_call(CALL_FUTEX_WAIT, note_sleep);
    ck_assert_int_eq(acquire_timed(POOL, NOT_LONG), -ETIMEDOUT);
    ck_assert(slept);
    unpin_pool();
}
END_TEST

/* The calling thread pins the pool itself, so nothing but the limit ends the wait. */
START_TEST(timed_guards_give_up_at_their_limit)
{
    struct pkeyguard_region *two[] = {regions[0], regions[POOL]};
    enum pkeyguard_rights rights[] = {PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY};
    struct pkeyguard_guard of_two[2], of_key;

    pin_pool();
    ck_assert_int_eq(acquire_timed(POOL, 0), -ETIMEDOUT);
    ck_assert_int_eq(acquire_timed(POOL, NOT_LONG), -ETIMEDOUT);
    ck_assert_uint_eq(guards[POOL].cleared | guards[POOL].undo, 0);
    ck_assert_int_eq(
        pkeyguard_key_acquire_timed(keys[POOL], PKEYGUARD_READ_ONLY, NOT_LONG, &of_key),
        -ETIMEDOUT);
    ck_assert_int_eq(pkeyguard_acquire_all_timed(2, two, rights, NOT_LONG, of_two), -ETIMEDOUT);
    assert_closed(POOL);
    unpin_pool();
    ck_assert_int_eq(acquire_timed(POOL, 0), 0);
    pkeyguard_release(&guards[POOL]);
    assert_all_closed();
}
END_TEST

/* Key 0's guard is held by a worker, and released while this thread waits. */
static void pin_pool_but_one(struct worker *worker)
{
    start_worker(worker);
    run_on(worker, do_acquire, (void *)(intptr_t)0);
    for (int i = 1; i < POOL; i++)
        ck_assert_int_eq(acquire(i, PKEYGUARD_READ_WRITE), 0);
}

START_TEST(timed_guard_waits_for_an_unpin)
{
    struct worker worker;

    pin_pool_but_one(&worker);
    ck_assert_int_eq(acquire_timed(POOL, 0), -ETIMEDOUT);
    begin_on(&worker, do_release, (void *)(intptr_t)0);
    ck_assert_int_eq(acquire_timed(POOL, LONG), 0);
    assert_allowed(WRITE_BYTE, address_of(regions[POOL]));
    wait_for(&worker);
    pkeyguard_release(&guards[POOL]);
    for (int i = 1; i < POOL; i++)
        pkeyguard_release(&guards[i]);
    end_worker(&worker);
    assert_all_closed();
}
END_TEST

START_TEST(timed_guard_waits_for_a_thread_to_register)
{
    struct worker worker;

    start_worker(&worker);
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    ck_assert_int_eq(acquire_timed(POOL, NOT_LONG), -ETIMEDOUT);
    begin_on(&worker, do_register, NULL);
    ck_assert_int_eq(acquire_timed(POOL, LONG), 0);
    wait_for(&worker);
    pkeyguard_release(&guards[POOL]);
    end_worker(&worker);
}
END_TEST

enum { THREADS = 16, LIVES = 20, CHURN_KEYS = 30 };

static void *live_and_open(void *number)
{
    int i = (int)(intptr_t)number % CHURN_KEYS;
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_acquire_timed(regions[i], PKEYGUARD_READ_WRITE, LONG, &guard), 0);
    *(volatile char *)address_of(regions[i]) = 1;
    pkeyguard_release(&guard);
    return NULL;
}

/* Threads are born all the time, and are not registered yet: each gets its guard. */
START_TEST(every_short_lived_thread_gets_its_guard)
{
    make_keys(CHURN_KEYS);
    for (int life = 0; life < LIVES; life++) {
        pthread_t threads[THREADS];

        for (int i = 0; i < THREADS; i++)
            ck_assert_int_eq(pthread_create(&threads[i], NULL, live_and_open,
                                            (void *)(intptr_t)(life * THREADS + i)),
                             0);
        for (int i = 0; i < THREADS; i++)
            ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    destroy_keys(CHURN_KEYS);
}
END_TEST

void add_timed(Suite *suite)
{
    TCase *tests = add_case(suite, "timed", set_up_keys, tear_down_keys);
    TCase *churn = add_case(suite, "timed, short lives", NULL, NULL);

    tcase_add_test(tests, timed_guards_open_at_once_where_they_can);
    tcase_add_test(tests, timed_guards_report_bad_arguments);
    add_pku_test(tests, timed_guards_give_up_at_their_limit);
    add_pku_test(tests, timed_guard_sleeps);
    add_pku_test(tests, timed_guard_waits_for_an_unpin);
    add_pku_test(tests, timed_guard_waits_for_a_thread_to_register);
    tcase_add_test(churn, every_short_lived_thread_gets_its_guard);
}
