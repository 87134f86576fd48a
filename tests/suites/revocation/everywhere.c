/* SPDX-License-Identifier: MIT */
/* pkeyguard_key_set_rights_everywhere(). */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include "test_revocation.h"

static struct pkeyguard_key *key;
static struct pkeyguard_region *region;
static struct worker older;
static int ends[2];

static void read_into_region(void *unused)
{
    (void)unused;
    ck_assert_int_eq(read(ends[0], address_of(region), 1), -1);
    ck_assert_int_eq(errno, EFAULT);
}

/* A worker that is older than the key. */
static void set_up(void)
{
    start_worker(&older);
    key = new_key(PKEYGUARD_READ_WRITE, 0);
    region = new_region(key);
}

static void set_up_with_signal(void)
{
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGURG), 0);
    set_up();
}

static void tear_down(void)
{
    end_worker(&older);
    destroy(region, key);
}

static struct fault fault_of_worker;

static void try_to_read(void *unused)
{
    (void)unused;
    fault_of_worker = try_access(READ_BYTE, address_of(region));
}

static bool can_read_on(struct worker *worker)
{
    run_on(worker, try_to_read, NULL);
    return !fault_of_worker.happened;
}

START_TEST(everywhere_refuses_bad_arguments)
{
    struct pkeyguard_key *virtual = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);

    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(NULL, PKEYGUARD_READ_ONLY), -EINVAL);
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, 0), -EINVAL);
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(virtual, PKEYGUARD_READ_ONLY), -EINVAL);
    destroy(NULL, virtual);
}
END_TEST

/* Without a signal, and beside another thread; under mprotect rights are the process's anyway. */
START_TEST(everywhere_needs_a_signal_beside_other_threads)
{
    int expected = pku() ? -EAGAIN : 0;

    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_NO_ACCESS), expected);
    ck_assert_int_eq(pkeyguard_key_rights(key), pku() ? PKEYGUARD_READ_WRITE : PKEYGUARD_NO_ACCESS);
}
END_TEST

START_TEST(everywhere_reaches_older_threads)
{
    ck_assert(can_read_on(&older) == !pku());
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_READ_ONLY), 0);
    ck_assert(can_read_on(&older));
    ck_assert(!can_write_on(&older, region));
    ck_assert_int_eq(pkeyguard_key_rights(key), PKEYGUARD_READ_ONLY);
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_READ_WRITE), 0);
    ck_assert(can_write_on(&older, region));
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_NO_ACCESS), 0);
    ck_assert(!can_read_on(&older));
    ck_assert_int_eq(pkeyguard_key_rights(key), PKEYGUARD_NO_ACCESS);
}
END_TEST

/* The thread sleeps in read(2) into the region when its rights go. */
START_TEST(everywhere_reaches_a_thread_in_a_system_call)
{
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_READ_WRITE), 0);
    ck_assert_int_eq(pipe(ends), 0);
    begin_on(&older, read_into_region, NULL);
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_NO_ACCESS), 0);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    wait_for(&older);
}
END_TEST

static void block_every_signal(void *unused)
{
    sigset_t all;

    (void)unused;
    sigfillset(&all);
    ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, &all, NULL), 0);
}

/* One thread answers and the other does not: neither changes. */
START_TEST(everywhere_changes_nothing_where_a_thread_does_not_answer)
{
    struct worker deaf;

    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_READ_WRITE), 0);
    start_worker(&deaf);
    run_on(&deaf, block_every_signal, NULL);
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_NO_ACCESS), -EAGAIN);
    ck_assert(can_write_on(&older, region));
    ck_assert(can_write_on(&deaf, region));
    assert_allowed(WRITE_BYTE, address_of(region));
    end_worker(&deaf);
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_NO_ACCESS), 0);
    ck_assert(!can_read_on(&older));
}
END_TEST

void add_everywhere(Suite *suite)
{
    TCase *plain = add_case(suite, "everywhere, no signal", set_up, tear_down);
    TCase *tests = add_case(suite, "everywhere", set_up_with_signal, tear_down);

    tcase_add_test(plain, everywhere_refuses_bad_arguments);
    tcase_add_test(plain, everywhere_needs_a_signal_beside_other_threads);
    tcase_add_test(tests, everywhere_reaches_older_threads);
    add_pku_test(tests, everywhere_reaches_a_thread_in_a_system_call);
    add_pku_test(tests, everywhere_changes_nothing_where_a_thread_does_not_answer);
}
