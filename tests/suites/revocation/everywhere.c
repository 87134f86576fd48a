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

/* ---- rights that a thread has saved before ---- */

static struct pkeyguard_thread_rights saved, of_other_coroutine;
static struct pkeyguard_closed gate;

static void save(void *unused)
{
    (void)unused;
    pkeyguard_thread_save(&saved);
}

static void restore(void *unused)
{
    (void)unused;
    pkeyguard_thread_restore(&saved);
}

static void stop_coroutine(void *unused)
{
    (void)unused;
    ck_assert_int_eq(pkeyguard_thread_switch(&saved, NULL), 0);
}

static void go_on_with_coroutine(void *unused)
{
    (void)unused;
    ck_assert_int_eq(pkeyguard_thread_switch(&of_other_coroutine, &saved), 0);
}

static void enter_gate(void *unused)
{
    (void)unused;
    pkeyguard_closed_enter(&gate);
}

static void leave_gate(void *unused)
{
    (void)unused;
    pkeyguard_closed_leave(&gate);
}

static const struct {
    void (*before)(void *), (*after)(void *);
} of_saved_rights[] = {
    {save, restore}, {stop_coroutine, go_on_with_coroutine}, {enter_gate, leave_gate}};
enum { WAYS = sizeof(of_saved_rights) / sizeof(*of_saved_rights) };

/* The new rights hold, whether they are less than the saved ones or more. */
START_TEST(rights_saved_before_everywhere_do_not_come_back)
{
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_READ_WRITE), 0);
    run_on(&older, of_saved_rights[_i].before, NULL);
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_NO_ACCESS), 0);
    run_on(&older, of_saved_rights[_i].after, NULL);
    ck_assert(!can_read_on(&older));
    run_on(&older, of_saved_rights[_i].before, NULL);
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_READ_ONLY), 0);
    run_on(&older, of_saved_rights[_i].after, NULL);
    ck_assert(can_read_on(&older));
    ck_assert(!can_write_on(&older, region));
}
END_TEST

static char *closed_byte;

static int wait_and_fault(void *unused)
{
    char byte;

    (void)unused;
    ck_assert_int_eq(read(ends[0], &byte, 1), 1);
    access_byte(WRITE_BYTE, closed_byte);
    return 1;
}

static void try_and_fault(void *unused)
{
    struct pkeyguard_fault fault;
    int result;

    (void)unused;
    ck_assert_int_eq(pkeyguard_try_call(wait_and_fault, NULL, &result, &fault), -EFAULT);
}

START_TEST(rights_before_a_tried_call_do_not_come_back)
{
    struct pkeyguard_key *closed_key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *closed = new_region(closed_key);

    closed_byte = address_of(closed);
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_RECOVER), 0);
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_READ_WRITE), 0);
    begin_on(&older, try_and_fault, NULL);
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_READ_ONLY), 0);
    ck_assert_int_eq(write(ends[1], "x", 1), 1);
    wait_for(&older);
    ck_assert(can_read_on(&older));
    ck_assert(!can_write_on(&older, region));
    destroy(closed, closed_key);
}
END_TEST

/* The same where the thread is alone, which needs no signal. */
START_TEST(rights_saved_before_do_not_come_back_in_a_single_thread)
{
    end_worker(&older);
    of_saved_rights[_i].before(NULL);
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_NO_ACCESS), 0);
    of_saved_rights[_i].after(NULL);
    ck_assert_int_eq(pkeyguard_key_rights(key), PKEYGUARD_NO_ACCESS);
    start_worker(&older);
}
END_TEST

/* Those are this thread's choice, even if another key is created before they come back. */
START_TEST(rights_saved_after_everywhere_come_back)
{
    struct pkeyguard_key *another;

    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_READ_ONLY), 0);
    ck_assert_int_eq(pkeyguard_key_set_rights(key, PKEYGUARD_READ_WRITE), 0);
    pkeyguard_thread_save(&saved);
    another = new_key(PKEYGUARD_NO_ACCESS, 0);
    pkeyguard_thread_restore(&saved);
    ck_assert_int_eq(pkeyguard_key_rights(key), PKEYGUARD_READ_WRITE);
    destroy(NULL, another);
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
    tcase_add_loop_test(tests, rights_saved_before_everywhere_do_not_come_back, 0, WAYS);
    tcase_add_test(tests, rights_saved_after_everywhere_come_back);
    add_pku_test(tests, rights_before_a_tried_call_do_not_come_back);
    tcase_add_loop_test(tests, rights_saved_before_do_not_come_back_in_a_single_thread, 0, WAYS);
}
