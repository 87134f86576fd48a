/* SPDX-License-Identifier: MIT */
/* Scopes wait for a pkey, or abort where waiting could last forever. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include "failing.h"
#include "test_virtual.h"

static atomic_int waiting;

static void do_scope(void *i)
{
    waiting++;
    pkeyguard_scoped_write (int, number, regions[(intptr_t)i]) {
        waiting--;
        *number = 5;
    }
}

static void do_acquire_all(void *i)
{
    struct pkeyguard_region *two[] = {regions[(intptr_t)i], regions[(intptr_t)i + 1]};
    static const enum pkeyguard_rights rights[] = {PKEYGUARD_READ_WRITE, PKEYGUARD_READ_WRITE};
    struct pkeyguard_guard of_two[2];

    waiting++;
    ck_assert_int_eq(pkeyguard_acquire_all(2, two, rights, of_two), 0);
    waiting--;
    *address_of(two[0]) = *address_of(two[1]) = 5;
    pkeyguard_release(&of_two[0]);
    pkeyguard_release(&of_two[1]);
}

static void do_key_scope(void *i)
{
    waiting++;
    pkeyguard_scoped_key_write (guard, keys[(intptr_t)i])
        waiting--;
}

static atomic_bool about_to_wait;

static void note_wait(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    about_to_wait = true;
}

/* _i / 2 is the kind of scope. */
START_TEST(scope_waits_for_a_pin_to_drop)
{
    static void (*const ways[])(void *) = {do_scope, do_key_scope, do_acquire_all};
    int way = _i / 2;
    struct worker worker;

    start_worker(&worker);
    run_on(&worker, do_register, NULL);
    pin_pool();
    waiting = 0;
    wait_without_limit(_i % 2 == 0); /* else it also wakes by itself from time to time */
    begin_on(&worker, ways[way], (void *)(intptr_t)POOL);
    wait_until_blocked(&worker);
    ck_assert_int_eq(waiting, 1);
    before_call(CALL_FUTEX_WAIT, note_wait);
    pkeyguard_release(&guards[0]);
    if (way == 2) { /* the worker wakes, and needs one more pkey */
        while (!about_to_wait)
            sched_yield();
        ck_assert_int_eq(waiting, 1);
        pkeyguard_release(&guards[1]);
    }
    wait_for(&worker);
    ck_assert_int_eq(waiting, 0);
    wait_without_limit(false);
    unpin_pool();
    end_worker(&worker);
    assert_all_closed();
}
END_TEST

static atomic_bool unpinned;

static void wait_until_unpinned(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    about_to_wait = true;
    while (!unpinned)
        sched_yield();
}

/*
 * Between the request to be woken and the sleep (_i 0), which then must not begin; or before the
 * request, after the library has found every pkey pinned.
 */
START_TEST(pin_that_drops_before_the_sleep_is_noticed)
{
    struct worker worker;

    start_worker(&worker);
    run_on(&worker, do_register, NULL);
    pin_pool();
    wait_without_limit(true);
    before_call(_i == 0 ? CALL_FUTEX_WAIT : LOOK_AT_PINS, wait_until_unpinned);
    begin_on(&worker, do_scope, (void *)(intptr_t)POOL);
    while (!about_to_wait)
        sched_yield();
    pkeyguard_release(&guards[0]);
    unpinned = true;
    wait_for(&worker);
    wait_without_limit(false);
    unpin_pool();
    end_worker(&worker);
    assert_all_closed();
}
END_TEST

static long milliseconds_used_by(const struct worker *worker)
{
    struct timespec used;
    clockid_t clock;

    ck_assert_int_eq(pthread_getcpuclockid(worker->thread, &clock), 0);
    ck_assert_int_eq(clock_gettime(clock, &used), 0);
    return (long)used.tv_sec * 1000 + used.tv_nsec / 1000000;
}

/* It tries with the one pkey that is free, and gives it back: that must not wake it. */
START_TEST(wait_for_several_pkeys_sleeps)
{
    const struct timespec while_asleep = {.tv_nsec = 400000000};
    struct worker worker;
    long used;

    start_worker(&worker);
    run_on(&worker, do_register, NULL);
    pin_pool();
    pkeyguard_release(&guards[0]);
    waiting = 0;
    wait_without_limit(true);
    before_call(CALL_FUTEX_WAIT, note_wait);
    begin_on(&worker, do_acquire_all, (void *)(intptr_t)POOL);
    while (!about_to_wait)
        sched_yield();
    used = milliseconds_used_by(&worker);
    nanosleep(&while_asleep, NULL);
    used = milliseconds_used_by(&worker) - used;
    ck_assert_int_lt(used, 100);
    pkeyguard_release(&guards[1]);
    wait_for(&worker);
    wait_without_limit(false);
    for (int i = 2; i < POOL; i++)
        pkeyguard_release(&guards[i]);
    end_worker(&worker);
}
END_TEST

/* A thread that ends does not wake those that wait. */
static void *pin_pool_and_end(void *unused)
{
    (void)unused;
    pin_pool();
    waiting = 1;
    while (!about_to_wait)
        sched_yield();
    return NULL;
}

START_TEST(scope_waits_for_a_thread_to_end)
{
    pthread_t thread;

    waiting = 0;
    ck_assert_int_eq(pthread_create(&thread, NULL, pin_pool_and_end, NULL), 0);
    while (waiting == 0)
        sched_yield();
    before_call(CALL_FUTEX_WAIT, note_wait);
    do_scope((void *)(intptr_t)POOL);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

static void open_scope(int i)
{
    pkeyguard_scoped_read (int, number, regions[i])
        (void)*number;
}
enum { SCOPE_LINE = __LINE__ - 3 };

static void wait_with_every_pkey_pinned(void *unused)
{
    (void)unused;
    pin_pool();
    open_scope(POOL);
}

static void wait_in_handler(int unused)
{
    (void)unused;
    open_scope(POOL);
}

static void wait_in_handler_for_others(void *unused)
{
    static struct worker worker;

    (void)unused;
    start_worker(&worker);
    for (int i = 0; i < POOL; i++)
        run_on(&worker, do_acquire, (void *)(intptr_t)i);
    signal(SIGUSR1, wait_in_handler);
    raise(SIGUSR1);
}

static void wait_for_unregistered_thread(void *ret_thread)
{
    static struct worker worker;

    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    start_worker(&worker);
    *(pid_t *)ret_thread = worker.id;
    pretend_call(CALL_FUTEX_WAIT);
    open_scope(POOL);
}

#define ABORT_LINE "libpkeyguard: " __FILE__ ":%d: cannot open a read scope: %s\n"

START_TEST(scope_that_cannot_wait_aborts)
{
    static void (*const calls[])(void *) = {wait_with_every_pkey_pinned,
                                            wait_in_handler_for_others};
    char said[512], expected[512];

    snprintf(expected, sizeof(expected), ABORT_LINE, SCOPE_LINE, "open guards pin every pkey");
    ck_assert(WIFSIGNALED(run_in_child(calls[_i], NULL, said, sizeof(said))));
    ck_assert_str_eq(said, expected);
}
END_TEST

START_TEST(abort_names_the_unregistered_thread)
{
    pid_t *thread = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char why[256], said[512], expected[512];

    ck_assert(WIFSIGNALED(run_in_child(wait_for_unregistered_thread, thread, said, sizeof(said))));
    snprintf(why, sizeof(why),
             "a thread is not registered (see pkeyguard_thread_register()), or the threads cannot "
             "be counted: thread %d",
             (int)*thread);
    snprintf(expected, sizeof(expected), ABORT_LINE, SCOPE_LINE, why);
    ck_assert_str_eq(said, expected);
}
END_TEST

static struct worker newcomer;

static void register_newcomer(void *unused, unsigned long length)
{
    (void)length;
    run_on(&newcomer, do_register, unused);
}

START_TEST(scope_waits_for_a_thread_to_register)
{
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    start_worker(&newcomer);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    before_call(CALL_FUTEX_WAIT, register_newcomer);
    open_scope(POOL);
    end_worker(&newcomer);
}
END_TEST

/*
 * Threads that open one key or ten at once, more than the pool has pkeys for. None waits forever.
 */
enum { WANTING = 6 };
static pthread_barrier_t all_competing;

static void *compete(void *argument)
{
    unsigned seed = (unsigned)(intptr_t)argument;

    ck_assert_int_eq(pkeyguard_thread_register(), 0);
    pthread_barrier_wait(&all_competing);
    for (int round = 0; round < 60; round++) {
        int i = rand_r(&seed) % (KEYS - 1);
        struct pkeyguard_region *some[KEYS];
        struct pkeyguard_guard of_some[KEYS];
        enum pkeyguard_rights rights[KEYS];

        if (rand_r(&seed) % 2) {
            pkeyguard_scoped_write (int, number, regions[i]) {
                sched_yield();
                *number = round;
            }
            continue;
        }
        for (int k = 0; k < 10; k++) {
            some[k] = regions[(i + k) % KEYS];
            rights[k] = PKEYGUARD_READ_WRITE;
        }
        ck_assert_int_eq(pkeyguard_acquire_all(10, some, rights, of_some), 0);
        sched_yield();
        for (int k = 0; k < 10; k++) {
            *address_of(some[k]) = 'x';
            pkeyguard_release(&of_some[k]);
        }
    }
    return NULL;
}

START_TEST(competing_scopes_all_finish)
{
    pthread_t threads[WANTING];

    pthread_barrier_init(&all_competing, NULL, WANTING);
    for (int t = 0; t < WANTING; t++)
        ck_assert_int_eq(pthread_create(&threads[t], NULL, compete, (void *)(intptr_t)(t + 1)), 0);
    for (int t = 0; t < WANTING; t++)
        ck_assert_int_eq(pthread_join(threads[t], NULL), 0);
    assert_all_closed();
}
END_TEST

void add_waiting(Suite *suite)
{
    TCase *tests = add_case(suite, "waiting", set_up_keys, tear_down_keys);

    add_pku_loop_test(tests, scope_waits_for_a_pin_to_drop, 0, 6);
    add_pku_loop_test(tests, pin_that_drops_before_the_sleep_is_noticed, 0, 2);
    add_pku_test(tests, wait_for_several_pkeys_sleeps);
    add_pku_test(tests, scope_waits_for_a_thread_to_end);
    add_pku_loop_test(tests, scope_that_cannot_wait_aborts, 0, 2);
    add_pku_test(tests, abort_names_the_unregistered_thread);
    add_pku_test(tests, scope_waits_for_a_thread_to_register);
    add_pku_test(tests, competing_scopes_all_finish);
}
