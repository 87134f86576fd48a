/* SPDX-License-Identifier: MIT */
/* Protected records in child processes. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "children.h"
#include "failing.h"
#include "test_records.h"

/* Exits with 42, or is killed by libcheck. */
static void change_all_and_exit(void)
{
    assert_protected(region);
    use_library();
    destroy(region, NULL);
    region = new_region(key);
    assert_protected(region);
    _exit(42);
}

/* What a child does to its records, and its own child to those, happens to them alone. */
START_TEST(fork_child_has_protected_records_of_its_own)
{
    pid_t child;

    use_library();
    protect();
    use_library();
    pkeyguard_scoped_write (int, number, region) {
        *number = 5;
    }
    child = fork();
    if (child == 0) {
        child = fork();
        if (child == 0)
            change_all_and_exit();
        assert_exits(child, 42);
        change_all_and_exit();
    }
    assert_exits(child, 42);
    pkeyguard_scoped_read (int, number, region) {
        ck_assert_int_eq(*number, 5);
    }
    ck_assert_ptr_eq(pkeyguard_region_of(address), region);
    use_library();
    tear_down();
}
END_TEST

static atomic_bool stop;
static atomic_int rounds;

static void *change_records_until_stopped(void *unused)
{
    while (!stop) {
        destroy(new_region(key), NULL);
        destroy(new_region(NULL), NULL);
        rounds++;
    }
    return unused;
}

START_TEST(fork_child_has_whole_records_beside_a_busy_thread)
{
    enum { FORKS = 20 };
    pthread_t thread;

    protect();
    ck_assert_int_eq(pthread_create(&thread, NULL, change_records_until_stopped, NULL), 0);
    for (int i = 0; i < FORKS; i++) {
        int before = rounds;
        pid_t child = fork();

        if (child == 0) {
            struct pkeyguard_region *made;

            if (pkeyguard_region_create(key, 1, PAGE_RW, 0, &made) != 0 ||
                pkeyguard_region_destroy(made) != 0 || pkeyguard_region_of(address) != region)
                _exit(1);
            pkeyguard_scoped_write (int, number, region) {
                *number = i;
            }
            _exit(42);
        }
        assert_exits(child, 42);
        while (rounds == before)
            sched_yield();
    }
    stop = true;
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    use_library();
}
END_TEST

/* ---- children without records ---- */

static int read_record(void *unused)
{
    (void)unused;
    access_byte(READ_BYTE, region);
    return 0;
}

static int call_library(void *unused)
{
    struct pkeyguard_region *made;

    (void)unused;
    return pkeyguard_region_create(NULL, 1, PAGE_RW, 0, &made);
}

/* fork(3) runs the library's handlers there. */
static int fork_again(void *unused)
{
    pid_t child = fork();

    (void)unused;
    if (child == 0)
        _exit(0);
    return end_of_child(child);
}

static void assert_child_has_no_records(enum way way)
{
    ck_assert_int_eq(run_as_child(way, read_record, NULL), 128 + SIGSEGV);
    ck_assert_int_eq(run_as_child(way, call_library, NULL), 128 + SIGABRT);
    ck_assert_int_eq(run_as_child(way, fork_again, NULL), 0);
}

/* Before the call such a child has a copy of the records. */
START_TEST(child_without_fork_handlers_has_no_records)
{
    ck_assert_int_eq(run_as_child((enum way)_i, read_record, NULL), 0);
    ck_assert_int_eq(run_as_child((enum way)_i, call_library, NULL), 0);
    protect();
    assert_child_has_no_records((enum way)_i);
    ck_assert_int_eq(run_as_child(BY_VFORK, read_record, NULL), 0);
    ck_assert_int_eq(run_as_child(BY_FORK, call_library, NULL), 0);
    use_library();
}
END_TEST

static void call_in_bare_child(void *unused)
{
    int status = run_as_child(BY_FORK_ONLY, call_library, unused);

    _exit(status == 128 + SIGABRT ? 0 : 1);
}

START_TEST(child_without_records_says_why_it_aborts)
{
    protect();
    assert_ends(call_in_bare_child, NULL,
                "libpkeyguard: a fork child without fork handlers, as of _Fork(3), does not have "
                "the records that pkeyguard_protect_records() protects\n",
                0);
}
END_TEST

/* There was no memory for the copy (skip 0), or none in the child. */
static pid_t fork_without_memory(int skip)
{
    pid_t child;

    fail_call(CALL_MMAP, skip, ENOMEM, 1);
    child = fork();
    stop_failing();
    return child;
}

static bool blocks_signals(void)
{
    sigset_t blocked;

    sigprocmask(SIG_BLOCK, NULL, &blocked);
    return sigismember(&blocked, SIGUSR1);
}

START_TEST(fork_child_without_memory_has_no_records)
{
    pid_t child;

    protect();
    child = fork_without_memory(_i);
    if (child == 0)
        _exit(blocks_signals() ? 1 : fork_again(NULL));
    ck_assert_int_eq(end_of_child(child), 0);
    child = fork_without_memory(_i);
    if (child == 0)
        _exit(call_library(NULL));
    ck_assert_int_eq(end_of_child(child), 128 + SIGABRT);
    ck_assert_int_eq(run_as_child(BY_FORK, call_library, NULL), 0);
    use_library();
}
END_TEST

void add_forks(Suite *suite)
{
    TCase *tests = add_case(suite, "forks", set_up, NULL);

    add_pku_test(tests, fork_child_has_protected_records_of_its_own);
    add_pku_test(tests, fork_child_has_whole_records_beside_a_busy_thread);
    add_pku_loop_test(tests, child_without_fork_handlers_has_no_records, FIRST_BARE_WAY,
                      LAST_BARE_WAY + 1);
    add_pku_test(tests, child_without_records_says_why_it_aborts);
    add_pku_loop_test(tests, fork_child_without_memory_has_no_records, 0, 2);
}
