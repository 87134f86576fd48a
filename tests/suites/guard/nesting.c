/* SPDX-License-Identifier: MIT */
/* Guards on software keys that are nested in others of the same thread. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <signal.h>
#include <unistd.h>

#include "failing.h"
#include "test_guard.h"

static struct pkeyguard_key *software;
static struct pkeyguard_region *first, *second;

static void set_up_software(void)
{
    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    first = new_region(software);
    second = new_region(software);
}

static void tear_down_software(void)
{
    assert_open_for(PKEYGUARD_NO_ACCESS, first);
    assert_open_for(PKEYGUARD_NO_ACCESS, second);
    destroy(first, NULL);
    destroy(second, software);
}

/* A guard on the first region, or on its key. */
static struct pkeyguard_guard acquire_on(bool of_key, enum pkeyguard_rights rights)
{
    struct pkeyguard_guard guard;

    if (!of_key)
        return acquire(first, rights);
    ck_assert_int_eq(pkeyguard_key_acquire(software, rights, &guard), 0);
    return guard;
}

static int results_inside[4];

static void nest_in_handler(int signal)
{
    static const enum pkeyguard_rights rights[] = {PKEYGUARD_READ_ONLY, PKEYGUARD_READ_WRITE};
    struct pkeyguard_guard guard;

    (void)signal;
    for (int i = 0; i < 2; i++) {
        results_inside[i] = pkeyguard_acquire(first, rights[i], &guard);
        pkeyguard_release(&guard);
        results_inside[2 + i] = pkeyguard_key_acquire(software, rights[i], &guard);
        pkeyguard_release(&guard);
    }
}

static void trap_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    raise(SIGTRAP);
}

/* While this thread has the library's lock, in a handler that interrupted it. */
START_TEST(nested_guard_needs_no_lock)
{
    struct pkeyguard_guard of_region = acquire_on(false, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard of_key = acquire_on(true, PKEYGUARD_READ_ONLY), other;
    struct pkeyguard_region *third = new_region(NULL);

    signal(SIGTRAP, nest_in_handler);
    before_call(CALL_MPROTECT, trap_inside_library);
    other = acquire(third, PKEYGUARD_READ_ONLY);
    ck_assert_int_eq(results_inside[0], 0);
    ck_assert_int_eq(results_inside[1], 0);
    ck_assert_int_eq(results_inside[2], 0);
    ck_assert_int_eq(results_inside[3], -EDEADLK); /* more than the key's guard gives */
    pkeyguard_release(&other);
    pkeyguard_release(&of_key);
    assert_open_for(PKEYGUARD_READ_WRITE, first);
    pkeyguard_release(&of_region);
    destroy(third, NULL);
}
END_TEST

/* _i: whether the guards are on the key. */
START_TEST(nested_guard_keeps_open_what_it_asked_for)
{
    struct pkeyguard_guard outer = acquire_on(_i, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard writing = acquire_on(_i, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard reading = acquire_on(_i, PKEYGUARD_READ_ONLY);

    pkeyguard_release(&outer);
    assert_open_for(PKEYGUARD_READ_WRITE, first);
    pkeyguard_release(&writing);
    assert_open_for(PKEYGUARD_READ_ONLY, first);
    if (!_i)
        ck_assert_int_eq(pkeyguard_region_destroy(first), -EBUSY);
    pkeyguard_release(&reading);
}
END_TEST

/* Other code of the thread nests guards, too, while a region among many is open. */
START_TEST(guards_nest_on_many_regions)
{
    enum { MANY = 20 }; /* more than those on which they nest without the lock */
    struct pkeyguard_region *regions[MANY];
    struct pkeyguard_guard outer[MANY], nested[MANY];

    for (int i = 0; i < MANY; i++) {
        regions[i] = new_region(NULL);
        outer[i] = acquire(regions[i], PKEYGUARD_READ_WRITE);
    }
    for (int i = 0; i < MANY; i++)
        nested[i] = acquire(regions[i], i % 2 ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE);
    for (int i = 0; i < MANY; i++)
        pkeyguard_release(&outer[i]);
    for (int i = 0; i < MANY; i++)
        assert_open_for(i % 2 ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE, regions[i]);
    for (int i = MANY; i-- > 0;)
        pkeyguard_release(&nested[i]);
    for (int i = 0; i < MANY; i++) {
        assert_open_for(PKEYGUARD_NO_ACCESS, regions[i]);
        destroy(regions[i], NULL);
    }
}
END_TEST

START_TEST(gate_closes_nested_guards)
{
    struct pkeyguard_guard outer = acquire_on(_i, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard nested = acquire_on(_i, PKEYGUARD_READ_ONLY);

    pkeyguard_scoped_closed (gate) {
        struct pkeyguard_guard inside[2];

        assert_open_for(PKEYGUARD_NO_ACCESS, first);
        for (int i = 0; i < 2; i++)
            inside[i] = acquire_on(_i, PKEYGUARD_READ_ONLY);
        assert_open_for(PKEYGUARD_READ_ONLY, first);
        for (int i = 0; i < 2; i++)
            pkeyguard_release(&inside[i]);
        assert_open_for(PKEYGUARD_NO_ACCESS, first);
    }
    assert_open_for(PKEYGUARD_READ_WRITE, first);
    pkeyguard_release(&outer);
    assert_open_for(PKEYGUARD_READ_ONLY, first);
    pkeyguard_release(&nested);
}
END_TEST

/* The thread's record of the first guard stays, unused, before that of the second. */
START_TEST(gate_closes_a_guard_behind_one_that_was_released)
{
    struct pkeyguard_guard released = acquire(first, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard held = acquire(second, PKEYGUARD_READ_WRITE);

    pkeyguard_release(&released);
    pkeyguard_scoped_closed (gate) {
        assert_open_for(PKEYGUARD_NO_ACCESS, first);
        assert_open_for(PKEYGUARD_NO_ACCESS, second);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, first);
    assert_open_for(PKEYGUARD_READ_WRITE, second);
    pkeyguard_release(&held);
}
END_TEST

/* ---- other threads ---- */

static void *release_here(void *guard)
{
    pkeyguard_release(guard);
    return NULL;
}

static void release_in_thread(struct pkeyguard_guard *guard)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, release_here, guard), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

static struct pkeyguard_thread_rights of_coroutine;
static struct pkeyguard_guard guards_of_coroutine[2];

/* Goes on with the coroutine, which releases what it has nested. */
static void *end_coroutine(void *unused)
{
    struct pkeyguard_thread_rights of_thread;

    ck_assert_int_eq(pkeyguard_thread_switch(&of_thread, &of_coroutine), 0);
    for (int i = 0; i < 2; i++)
        pkeyguard_release(&guards_of_coroutine[i]);
    ck_assert_int_eq(pkeyguard_thread_switch(&of_coroutine, &of_thread), 0);
    return unused;
}

/*
 * A coroutine has guards on what the code that runs it has open, too. It goes on in another thread,
 * before that code releases its own guard or after (_i & 2).
 */
START_TEST(coroutine_takes_its_nested_guards_to_another_thread)
{
    struct pkeyguard_guard outer = acquire_on(_i & 1, PKEYGUARD_READ_WRITE);
    struct pkeyguard_thread_rights of_scheduler;
    pthread_t thread;

    ck_assert_int_eq(pkeyguard_thread_switch(&of_scheduler, NULL), 0);
    for (int i = 0; i < 2; i++)
        guards_of_coroutine[i] = acquire_on(_i & 1, PKEYGUARD_READ_ONLY);
    ck_assert_int_eq(pkeyguard_thread_switch(&of_coroutine, &of_scheduler), 0);
    if (_i & 2) {
        pkeyguard_release(&outer);
        assert_open_for(PKEYGUARD_READ_ONLY, first);
    }
    ck_assert_int_eq(pthread_create(&thread, NULL, end_coroutine, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    assert_open_for(_i & 2 ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_WRITE, first);
    pkeyguard_release(&outer);
}
END_TEST

/*
 * A guard must not be released by another thread. If it is, the region closes too early, and the
 * next guard opens it.
 */
START_TEST(guard_after_a_release_by_another_thread_opens)
{
    struct pkeyguard_guard outer = acquire_on(_i, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard nested = acquire_on(_i, PKEYGUARD_READ_WRITE), next;

    release_in_thread(&nested);
    next = acquire_on(_i, PKEYGUARD_READ_WRITE);
    assert_open_for(PKEYGUARD_READ_WRITE, first);
    pkeyguard_release(&outer);
    assert_open_for(PKEYGUARD_READ_WRITE, first);
    pkeyguard_release(&next);
}
END_TEST

static pthread_barrier_t meeting;

static void *nest_beside_main(void *unused)
{
    struct pkeyguard_guard guards[2];

    for (int i = 0; i < 2; i++)
        guards[i] = acquire(first, PKEYGUARD_READ_WRITE);
    pthread_barrier_wait(&meeting);
    pthread_barrier_wait(&meeting);
    for (int i = 0; i < 2; i++)
        pkeyguard_release(&guards[i]);
    return unused;
}

START_TEST(each_thread_keeps_the_region_open_for_the_others)
{
    struct pkeyguard_guard guards[2] = {acquire(first, PKEYGUARD_READ_ONLY),
                                        acquire(first, PKEYGUARD_READ_ONLY)};
    pthread_t thread;

    pthread_barrier_init(&meeting, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, nest_beside_main, NULL), 0);
    pthread_barrier_wait(&meeting);
    assert_open_for(PKEYGUARD_READ_WRITE, first);
    if (_i)
        pkeyguard_release(&guards[0]);
    pthread_barrier_wait(&meeting);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    assert_open_for(PKEYGUARD_READ_ONLY, first);
    for (int i = 0; i < 2; i++)
        pkeyguard_release(&guards[i]);
}
END_TEST

/* ---- fork ---- */

static void hold_in_child(struct pkeyguard_guard guards[2])
{
    struct pkeyguard_guard nested = acquire(first, PKEYGUARD_READ_WRITE);

    assert_open_for(PKEYGUARD_READ_WRITE, first);
    for (int i = 0; i < 2; i++)
        pkeyguard_release(&guards[i]);
    assert_open_for(PKEYGUARD_READ_WRITE, first);
    pkeyguard_release(&nested);
    assert_open_for(PKEYGUARD_NO_ACCESS, first);
}

/* The child releases what its parent has acquired. _i: whether the fork runs handlers. */
START_TEST(fork_child_has_the_forking_threads_nested_guards)
{
    struct pkeyguard_guard guards[2] = {acquire(first, PKEYGUARD_READ_WRITE),
                                        acquire(first, PKEYGUARD_READ_WRITE)};
    pthread_t thread;
    pid_t child;

    pthread_barrier_init(&meeting, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, nest_beside_main, NULL), 0);
    pthread_barrier_wait(&meeting);
    child = _i ? fork() : _Fork();
    if (child == 0) {
        hold_in_child(guards);
        _exit(42);
    }
    assert_exits(child, 42);
    pthread_barrier_wait(&meeting);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    for (int i = 0; i < 2; i++)
        pkeyguard_release(&guards[i]);
}
END_TEST

void add_nesting(Suite *suite)
{
    TCase *tests = add_case(suite, "nesting", set_up_software, tear_down_software);

    tcase_add_test(tests, nested_guard_needs_no_lock);
    tcase_add_loop_test(tests, nested_guard_keeps_open_what_it_asked_for, 0, 2);
    tcase_add_test(tests, guards_nest_on_many_regions);
    tcase_add_loop_test(tests, gate_closes_nested_guards, 0, 2);
    tcase_add_test(tests, gate_closes_a_guard_behind_one_that_was_released);
    tcase_add_loop_test(tests, coroutine_takes_its_nested_guards_to_another_thread, 0, 4);
    tcase_add_loop_test(tests, guard_after_a_release_by_another_thread_opens, 0, 2);
    tcase_add_loop_test(tests, each_thread_keeps_the_region_open_for_the_others, 0, 2);
    /* Where the records are protected, a child without fork handlers has none. */
    tcase_add_loop_test(tests, fork_child_has_the_forking_threads_nested_guards,
                        getenv("PKEYGUARD_TEST_PROTECT") != NULL, 2);
}
