/* SPDX-License-Identifier: MIT */
/* The pkey of a destroyed key is reused when every thread has reset or registered. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "children.h"
#include "failing.h"
#include "place.h"
#include "test_revocation.h"

/*
 * Surprise: a freed pkey comes back with old rights. Here it is kept back until every thread has
 * closed it.
 */
START_TEST(pkey_waits_until_every_thread_has_closed_it)
{
    static void (*const say_so[])(void *) = {do_reset, do_register};

    /* Both workers reset when they started, but that was before the key was destroyed. */
    assert_pkey_waits();
    run_on(&workers[0], say_so[_i], NULL);
    assert_pkey_waits();
    run_on(&workers[1], say_so[_i], NULL);
    assert_pkey_reused(2);
}
END_TEST

START_TEST(idle_pkey_counts_as_free)
{
    ck_assert_int_eq(count_resources().pkeys, 0);
    do_reset(NULL);
    run_on(&workers[0], do_reset, NULL);
    ck_assert_int_eq(count_resources().pkeys, 0);
    run_on(&workers[1], do_reset, NULL);
    ck_assert_int_eq(count_resources().pkeys, 1);
    assert_pkey_reused(2);
}
END_TEST

static struct worker child;

static void do_start_child(void *unused)
{
    (void)unused;
    start_worker(&child);
}

START_TEST(thread_created_by_an_open_thread_blocks_the_pkey)
{
    run_on(&workers[0], do_start_child, NULL);
    for (int i = 0; i < 2; i++)
        run_on(&workers[i], do_reset, NULL);
    assert_pkey_waits();
    run_on(&child, do_reset, NULL);
    assert_pkey_reused(2);
    end_worker(&child);
}
END_TEST

/* Once every thread has closed the pkey, new threads are created with it closed. */
START_TEST(thread_created_by_a_closed_thread_does_not_block_it)
{
    do_reset(NULL);
    for (int i = 0; i < 2; i++)
        run_on(&workers[i], do_reset, NULL);
    ck_assert_int_eq(count_resources().pkeys, 1);
    run_on(&workers[0], do_start_child, NULL);
    assert_pkey_reused(2);
    end_worker(&child);
}
END_TEST

START_TEST(ended_thread_does_not_block_the_pkey)
{
    run_on(&workers[1], do_reset, NULL);
    assert_pkey_waits();
    end_worker(&workers[0]);
    assert_pkey_reused(0);
    start_worker(&workers[0]);
}
END_TEST

static void reset_in_handler(int unused)
{
    (void)unused;
    pkeyguard_thread_reset();
}

/* The return from the handler opens again what the handler closed. */
START_TEST(reset_in_a_handler_does_not_count)
{
    signal(SIGUSR1, reset_in_handler);
    run_on(&workers[0], do_raise, NULL);
    run_on(&workers[1], do_reset, NULL);
    assert_pkey_waits();
    run_on(&workers[0], do_reset, NULL);
    assert_pkey_reused(2);
}
END_TEST

START_TEST(reporter_grants_the_default_of_the_next_key)
{
    for (int i = 0; i < 2; i++)
        run_on(&workers[i], do_reset, NULL);
    assert_default_is_granted();
}
END_TEST

START_TEST(only_pkeys_that_every_thread_has_closed_are_reused)
{
    int first = pkeyguard_key_number(keys[0]);

    run_on(&workers[0], do_reset, NULL);
    destroy(NULL, keys[0]);
    run_on(&workers[1], do_reset, NULL);
    /*
     * Both workers have reset since the first pkey was freed, but only one of them since the
     * second.
     */
    assert_pkey_reused(2);
    ck_assert_int_ne(pkeyguard_key_number(keys[VICTIM]), first);
    keys[0] = NULL;
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_READ_WRITE, 0, &keys[0]), -ENOSPC);
}
END_TEST

START_TEST(pkey_waits_when_threads_cannot_be_counted)
{
    for (int i = 0; i < 2; i++)
        run_on(&workers[i], do_reset, NULL);
    fail_call(CALL_OPENAT, 0, EACCES, 1000);
    ck_assert_int_eq(create_key(), -ENOSPC);
    ck_assert(stop_failing());
    assert_pkey_reused(2);
}
END_TEST

START_TEST(fork_child_reuses_the_pkey_at_once)
{
    pid_t pid = fork();

    if (pid == 0) {
        assert_pkey_reused(0);
        _exit(0);
    }
    assert_exits(pid, 0);
    assert_pkey_waits();
}
END_TEST

/* Opens a new key, whose guard stays open, until it is refused. None is open in the worker. */
static void assert_no_new_key_is_open_on(struct worker *worker, unsigned flags)
{
    int error = 0;

    for (int count = 0; count <= PKEYS && error == 0; count++) {
        struct pkeyguard_key *made;
        struct pkeyguard_region *region;
        struct pkeyguard_guard guard;

        error = pkeyguard_key_create(PKEYGUARD_NO_ACCESS, flags, &made);
        if (error != 0)
            break;
        region = new_region(made);
        error = pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard);
        ck_assert(error != 0 || !can_write_on(worker, region));
    }
    ck_assert_int_ne(error, 0);
}

/*
 * Another user of pkeys frees one that the worker has open. It had another user for certain if the
 * kernel gave the library a higher one before (_i 0), or if the calling thread has it open, too
 * (_i 1). The others are virtual keys.
 */
START_TEST(freed_pkey_of_another_user_waits)
{
    unsigned flags = _i < 2 ? 0 : PKEYGUARD_KEY_VIRTUAL;
    int pkey = pkey_alloc(0, 0);
    struct pkeyguard_key *higher = NULL;
    struct worker worker;

    ck_assert_int_gt(pkey, 0);
    start_worker(&worker);
    if (_i % 2 == 0) {
        pkey_set(pkey, PKEY_DISABLE_ACCESS);
        higher = new_key(PKEYGUARD_NO_ACCESS, 0);
    }
    ck_assert_int_eq(pkey_free(pkey), 0);
    assert_no_new_key_is_open_on(&worker, flags);
    end_worker(&worker);
    destroy(NULL, higher);
}
END_TEST

static int create_key_in_child(void *unused)
{
    (void)unused;
    return -create_key();
}

/*
 * The child shares this process's memory, where the workers have the pkey open, and is the first to
 * count the threads.
 */
START_TEST(vfork_child_is_not_alone)
{
    ck_assert_int_eq(run_as_child(BY_VFORK, create_key_in_child, NULL), ENOSPC);
    ck_assert_ptr_null(keys[VICTIM]);
    assert_pkey_waits();
    for (int i = 0; i < 2; i++)
        run_on(&workers[i], do_reset, NULL);
    assert_pkey_reused(2);
}
END_TEST

/* The pool takes the pkey when it has no other, after every thread has closed it. */
START_TEST(virtual_keys_reuse_the_pkey)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    struct pkeyguard_region *region = new_region(key);
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), -ENOSPC);
    for (int i = 0; i < 2; i++)
        run_on(&workers[i], do_register, NULL);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    assert_allowed(WRITE_BYTE, address_of(region));
    for (int i = 0; i < 2; i++)
        assert_denied_on(&workers[i], region);
    pkeyguard_release(&guard);
    destroy(region, key);
}
END_TEST

START_TEST(registering_takes_no_pkey)
{
    struct resources before = count_resources();

    do_register(NULL);
    ck_assert_int_eq(count_resources().pkeys, before.pkeys);
}
END_TEST

static struct pkeyguard_region *shared;
static int result_in_handler;

static void open_shared(int unused)
{
    struct pkeyguard_guard guard;

    (void)unused;
    result_in_handler = pkeyguard_acquire(shared, PKEYGUARD_READ_WRITE, &guard);
}

static void do_destroy(void *key)
{
    destroy(NULL, key);
}

/* This thread is the only one, but the code that the handler interrupted may have the pkey open. */
START_TEST(virtual_keys_reuse_no_pkey_in_a_handler)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);

    shared = new_region(key);
    run_on(&workers[0], do_destroy, keys[0]);
    keys[0] = NULL;
    for (int i = 0; i < 2; i++)
        end_worker(&workers[i]);
    while (count_resources().pkeys < 2)
        sched_yield();
    signal(SIGUSR1, open_shared);
    raise(SIGUSR1);
    ck_assert_int_eq(result_in_handler, -ENOSPC);
    open_shared(0);
    ck_assert_int_eq(result_in_handler, 0);
    for (int i = 0; i < 2; i++)
        start_worker(&workers[i]);
}
END_TEST

void add_resets(Suite *suite)
{
    TCase *fresh = add_case(suite, "resets before any key", NULL, NULL);
    TCase *tests = add_case(suite, "resets", set_up_workers, tear_down_workers);

    tcase_add_test(fresh, registering_takes_no_pkey);
    add_pku_loop_test(fresh, freed_pkey_of_another_user_waits, 0, 4);
    add_pku_loop_test(tests, pkey_waits_until_every_thread_has_closed_it, 0, 2);
    add_pku_test(tests, idle_pkey_counts_as_free);
    add_pku_test(tests, thread_created_by_an_open_thread_blocks_the_pkey);
    add_pku_test(tests, thread_created_by_a_closed_thread_does_not_block_it);
    add_pku_test(tests, ended_thread_does_not_block_the_pkey);
    add_pku_test(tests, reset_in_a_handler_does_not_count);
    add_pku_test(tests, reporter_grants_the_default_of_the_next_key);
    add_pku_test(tests, only_pkeys_that_every_thread_has_closed_are_reused);
    add_pku_test(tests, pkey_waits_when_threads_cannot_be_counted);
    add_pku_test(tests, fork_child_reuses_the_pkey_at_once);
    add_pku_test(tests, vfork_child_is_not_alone);
    add_pku_test(tests, virtual_keys_reuse_the_pkey);
    add_pku_test(tests, virtual_keys_reuse_no_pkey_in_a_handler);
}
