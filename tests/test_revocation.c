/* SPDX-License-Identifier: MIT */
/* The pkeys of destroyed keys go to new ones in a process with threads. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

#include "failing.h"
#include "support.h"
#include "worker.h"

enum { PKEYS = 15, VICTIM = 7 };

/* Every pkey that there is; each key is open by default. */
static struct pkeyguard_key *keys[PKEYS];
static struct worker workers[2];

static void do_reset(void *unused)
{
    (void)unused;
    pkeyguard_thread_reset();
}

static void do_register(void *unused)
{
    (void)unused;
    ck_assert_int_eq(pkeyguard_thread_register(), 0);
}

static struct fault seen_there;

static void do_write(void *address)
{
    seen_there = try_access(WRITE_BYTE, address);
}

static bool open_there(struct worker *worker, const struct pkeyguard_region *region)
{
    tell(worker, do_write, address_of(region));
    return !seen_there.happened;
}

static void assert_denied_there(struct worker *worker, const struct pkeyguard_region *region)
{
    ck_assert(!open_there(worker, region));
    ck_assert_int_eq(seen_there.code, SEGV_PKUERR);
    ck_assert_ptr_eq(seen_there.address, address_of(region));
    ck_assert_int_eq(seen_there.pkey, pkeyguard_key_number(pkeyguard_region_key(region)));
}

static void take_every_pkey(void)
{
    struct pkeyguard_key *one_more;

    for (int i = 0; i < PKEYS; i++)
        keys[i] = new_key(PKEYGUARD_READ_WRITE, 0);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_READ_WRITE, 0, &one_more), -ENOSPC);
}

/* A worker that has every key open. */
static void start_open(struct worker *worker)
{
    struct pkeyguard_region *region = new_region(keys[VICTIM]);

    start(worker);
    tell(worker, do_reset, NULL);
    ck_assert(open_there(worker, region));
    destroy(region, NULL);
}

static void set_up(void)
{
    take_every_pkey();
    for (int i = 0; i < 2; i++)
        start_open(&workers[i]);
    destroy(NULL, keys[VICTIM]);
    keys[VICTIM] = NULL;
}

static void tear_down(void)
{
    for (int i = 0; i < 2; i++)
        end(&workers[i]);
    for (int i = 0; i < PKEYS; i++)
        destroy(NULL, keys[i]);
}

static int create(void)
{
    return pkeyguard_key_create(PKEYGUARD_READ_WRITE, 0, &keys[VICTIM]);
}

static void assert_kept(void)
{
    ck_assert_int_eq(create(), -ENOSPC);
    ck_assert_ptr_null(keys[VICTIM]);
    ck_assert_int_eq(count_resources().pkeys, 0);
}

/* The new key's region is open here and in no worker. */
static void assert_handed_out(int count)
{
    struct pkeyguard_region *region;

    ck_assert_int_eq(create(), 0);
    region = new_region(keys[VICTIM]);
    assert_allowed(WRITE_BYTE, address_of(region));
    for (int i = 0; i < count; i++)
        assert_denied_there(&workers[i], region);
    assert_allowed(WRITE_BYTE, address_of(region));
    destroy(region, NULL);
}

/* ---- threads that say what they have closed ---- */

START_TEST(every_thread_must_have_said_so)
{
    static void (*const say_so[])(void *) = {do_reset, do_register};

    /* Both did once, but before the key was destroyed. */
    assert_kept();
    tell(&workers[0], say_so[_i], NULL);
    assert_kept();
    tell(&workers[1], say_so[_i], NULL);
    assert_handed_out(2);
}
END_TEST

START_TEST(it_is_counted_as_free)
{
    ck_assert_int_eq(count_resources().pkeys, 0);
    do_reset(NULL);
    tell(&workers[0], do_reset, NULL);
    ck_assert_int_eq(count_resources().pkeys, 0);
    tell(&workers[1], do_reset, NULL);
    ck_assert_int_eq(count_resources().pkeys, 1);
    assert_handed_out(2);
}
END_TEST

static struct worker child;

static void do_start_child(void *unused)
{
    (void)unused;
    start(&child);
}

START_TEST(a_thread_born_of_an_open_one)
{
    tell(&workers[0], do_start_child, NULL);
    for (int i = 0; i < 2; i++)
        tell(&workers[i], do_reset, NULL);
    assert_kept();
    tell(&child, do_reset, NULL);
    assert_handed_out(2);
    end(&child);
}
END_TEST

/* Once a pkey was seen closed everywhere it stays so, whoever is born. */
START_TEST(a_thread_born_of_a_closed_one)
{
    do_reset(NULL);
    for (int i = 0; i < 2; i++)
        tell(&workers[i], do_reset, NULL);
    ck_assert_int_eq(count_resources().pkeys, 1);
    tell(&workers[0], do_start_child, NULL);
    assert_handed_out(2);
    end(&child);
}
END_TEST

START_TEST(a_thread_that_ended)
{
    tell(&workers[1], do_reset, NULL);
    assert_kept();
    end(&workers[0]);
    assert_handed_out(0);
    start(&workers[0]);
}
END_TEST

static void reset_in_handler(int unused)
{
    (void)unused;
    pkeyguard_thread_reset();
}

static void do_raise(void *unused)
{
    (void)unused;
    raise(SIGUSR1);
}

/* What the handler closes its return opens again. */
START_TEST(a_reset_in_a_handler_says_nothing)
{
    signal(SIGUSR1, reset_in_handler);
    tell(&workers[0], do_raise, NULL);
    tell(&workers[1], do_reset, NULL);
    assert_kept();
    tell(&workers[0], do_reset, NULL);
    assert_handed_out(2);
}
END_TEST

START_TEST(some_pkeys_were_closed)
{
    int first = pkeyguard_key_number(keys[0]);

    tell(&workers[0], do_reset, NULL);
    destroy(NULL, keys[0]);
    tell(&workers[1], do_reset, NULL);
    /* Only the one that both have reset after. */
    assert_handed_out(2);
    ck_assert_int_ne(pkeyguard_key_number(keys[VICTIM]), first);
    keys[0] = NULL;
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_READ_WRITE, 0, &keys[0]), -ENOSPC);
}
END_TEST

START_TEST(the_threads_cannot_be_counted)
{
    for (int i = 0; i < 2; i++)
        tell(&workers[i], do_reset, NULL);
    fail_call(CALL_OPENAT, 0, EACCES, 2);
    ck_assert_int_eq(create(), -ENOSPC);
    ck_assert(stop_failing());
    assert_handed_out(2);
}
END_TEST

START_TEST(a_child_has_one_thread)
{
    pid_t pid = fork();

    if (pid == 0) {
        assert_handed_out(0);
        _exit(0);
    }
    assert_exits(pid, 0);
    assert_kept();
}
END_TEST

/* The pool takes it when there is nothing else; its first owner finds it closed everywhere. */
START_TEST(virtual_keys_take_it)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    struct pkeyguard_region *region = new_region(key);
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), -ENOSPC);
    for (int i = 0; i < 2; i++)
        tell(&workers[i], do_register, NULL);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    assert_allowed(WRITE_BYTE, address_of(region));
    for (int i = 0; i < 2; i++)
        assert_denied_there(&workers[i], region);
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

int main(void)
{
    Suite *suite = suite_create("revocation");
    TCase *fresh = tcase_create("before any key");
    TCase *said = tcase_create("threads that say so");

    suite_add_tcase(suite, fresh);
    tcase_add_test(fresh, registering_takes_no_pkey);
    suite_add_tcase(suite, said);
    if (test_enforcement() == PKEYGUARD_PKU)
        tcase_add_checked_fixture(said, set_up, tear_down);
    tcase_set_timeout(said, 60);
    add_pku_loop_test(said, every_thread_must_have_said_so, 0, 2);
    add_pku_test(said, it_is_counted_as_free);
    add_pku_test(said, a_thread_born_of_an_open_one);
    add_pku_test(said, a_thread_born_of_a_closed_one);
    add_pku_test(said, a_thread_that_ended);
    add_pku_test(said, a_reset_in_a_handler_says_nothing);
    add_pku_test(said, some_pkeys_were_closed);
    add_pku_test(said, the_threads_cannot_be_counted);
    add_pku_test(said, a_child_has_one_thread);
    add_pku_test(said, virtual_keys_take_it);
    return run_suite(suite);
}
