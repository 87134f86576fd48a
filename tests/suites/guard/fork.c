/* SPDX-License-Identifier: MIT */
/* Guards in a fork child. */
#include <pthread.h>
#include <unistd.h>

#include "failing.h"
#include "test_guard.h"

static struct pkeyguard_key *software;
static struct pkeyguard_region *software_region;

static pthread_barrier_t about_to_fork;
static struct pkeyguard_region *of_other_thread;

static void *hold_while_main_forks(void *unused)
{
    struct pkeyguard_guard guards[3] = {acquire(of_other_thread, PKEYGUARD_READ_WRITE),
                                        acquire(software_region, PKEYGUARD_READ_WRITE)};

    (void)unused;
    ck_assert_int_eq(pkeyguard_key_acquire(pkeyguard_region_key(software_region),
                                           PKEYGUARD_READ_ONLY, &guards[2]),
                     0);
    pthread_barrier_wait(&about_to_fork);
    pthread_barrier_wait(&about_to_fork);
    for (int i = 0; i < 3; i++)
        pkeyguard_release(&guards[i]);
    return NULL;
}

static void assert_only_own_guards_are_open(struct pkeyguard_guard *own)
{
    assert_open_for(PKEYGUARD_READ_ONLY, software_region);
    assert_denied(READ_BYTE, address_of(of_other_thread), pkeyguard_region_key(of_other_thread));
    pkeyguard_release(own);
    assert_open_for(PKEYGUARD_NO_ACCESS, software_region);
    pkeyguard_scoped_write (int, number, of_other_thread) {
        *number = 1;
    }
}

/*
 * Surprise: fork copies rights. Guards under mprotect are counted for the whole process, but a fork
 * child has one thread, so only the guards of the thread that forked stay open in it.
 */
START_TEST(fork_child_keeps_only_the_forking_threads_guards)
{
    struct pkeyguard_guard own;
    pthread_t thread;
    pid_t child;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    of_other_thread = new_region(_i == 0 ? NULL : software);
    own = acquire(software_region, PKEYGUARD_READ_ONLY);
    pthread_barrier_init(&about_to_fork, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, hold_while_main_forks, NULL), 0);
    pthread_barrier_wait(&about_to_fork);
    child = fork();
    if (child == 0) {
        assert_only_own_guards_are_open(&own);
        _exit(42);
    }
    assert_exits(child, 42);
    assert_open_for(PKEYGUARD_READ_WRITE, software_region);
    pthread_barrier_wait(&about_to_fork);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    assert_open_for(PKEYGUARD_READ_ONLY, software_region);
    pkeyguard_release(&own);
    assert_open_for(PKEYGUARD_NO_ACCESS, software_region);
    destroy(of_other_thread, NULL);
    destroy(software_region, software);
}
END_TEST

static pid_t forked_inside;

static void fork_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    forked_inside = fork();
}

static void open_and_destroy(struct pkeyguard_region *third)
{
    struct pkeyguard_guard guard = acquire(third, PKEYGUARD_READ_WRITE);

    pkeyguard_release(&guard);
    destroy(third, NULL);
}

START_TEST(fork_inside_the_library_works)
{
    struct pkeyguard_guard own;
    pthread_t thread;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    of_other_thread = new_region(NULL);
    pthread_barrier_init(&about_to_fork, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, hold_while_main_forks, NULL), 0);
    pthread_barrier_wait(&about_to_fork);
    own = acquire(software_region, PKEYGUARD_READ_ONLY);
    /* A guard on a third region calls mprotect, from which the hook forks. */
    before_call(CALL_MPROTECT, fork_inside_library);
    open_and_destroy(new_region(NULL));
    if (forked_inside == 0) {
        assert_only_own_guards_are_open(&own);
        _exit(42);
    }
    assert_exits(forked_inside, 42);
    pthread_barrier_wait(&about_to_fork);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    pkeyguard_release(&own);
    destroy(of_other_thread, NULL);
    destroy(software_region, software);
}
END_TEST

void add_fork(Suite *suite)
{
    TCase *tests = add_case(suite, "fork", set_up, tear_down);

    tcase_add_loop_test(tests, fork_child_keeps_only_the_forking_threads_guards, 0, 2);
    tcase_add_test(tests, fork_inside_the_library_works);
}
