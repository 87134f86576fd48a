/* SPDX-License-Identifier: MIT */
/* Guards in signal handlers, and in handlers that interrupted the library. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "failing.h"
#include "test_guard.h"

static struct fault read_in_handler, write_in_handler, read_of_opened_in_handler;
static int handler_result;

static void use_region_in_handler(int signal)
{
    struct pkeyguard_guard guard;

    (void)signal;
    read_in_handler = try_access(READ_BYTE, address);
    handler_result = pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &guard);
    read_of_opened_in_handler = try_access(READ_BYTE, address);
    write_in_handler = try_access(WRITE_BYTE, address);
    /* Not released under PKU: what a handler opens ends when it returns. */
    if (!pku())
        pkeyguard_release(&guard);
}

/*
 * Surprise: a signal handler starts with every key closed, even inside a scope. Guards open in it,
 * for it alone. A handler's PKRU has access-disable set and write-disable clear, so clearing
 * access-disable would open for writing, too: a read guard must not.
 */
START_TEST(handler_starts_closed_and_opens_for_itself)
{
    signal(SIGUSR1, use_region_in_handler);
    pkeyguard_scoped_write (int, number, region) {
        raise(SIGUSR1);
        ck_assert_int_eq(read_in_handler.happened, pku());
        ck_assert_int_eq(write_in_handler.happened, pku());
        if (pku()) {
            ck_assert_int_eq(read_in_handler.code, SEGV_PKUERR);
            ck_assert_int_eq(write_in_handler.code, SEGV_PKUERR);
            ck_assert_int_eq(write_in_handler.pkey, pkeyguard_key_number(key));
        }
        ck_assert_int_eq(handler_result, 0);
        ck_assert(!read_of_opened_in_handler.happened);
        *number = 1;
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    raise(SIGUSR1);
    ck_assert(read_in_handler.happened);
    ck_assert(!read_of_opened_in_handler.happened);
    ck_assert(write_in_handler.happened);
    ck_assert_int_eq(write_in_handler.code, denial_code(key));
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

static struct pkeyguard_key *software;
static struct pkeyguard_region *software_region;
static int result_of_acquire, result_of_set_rights;

static void use_software_key(int signal)
{
    struct pkeyguard_guard guard;

    (void)signal;
    result_of_acquire = pkeyguard_acquire(software_region, PKEYGUARD_READ_ONLY, &guard);
    result_of_set_rights = pkeyguard_key_set_rights(software, PKEYGUARD_READ_ONLY);
}

static void raise_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    raise(SIGUSR1);
}

/* The handler runs while this thread is in the library, before its call of mprotect. */
START_TEST(handler_inside_the_library_gets_edeadlk)
{
    struct pkeyguard_guard guard;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    signal(SIGUSR1, use_software_key);
    before_call(CALL_MPROTECT, raise_inside_library);
    guard = acquire(software_region, PKEYGUARD_READ_WRITE);
    ck_assert_int_eq(result_of_acquire, -EDEADLK);
    ck_assert_int_eq(result_of_set_rights, -EDEADLK);
    assert_open_for(PKEYGUARD_READ_WRITE, software_region);
    pkeyguard_release(&guard);
    assert_open_for(PKEYGUARD_NO_ACCESS, software_region);
    destroy(software_region, software);
}
END_TEST

static int results_inside[7];

static void manage_inside_library(void *unused, unsigned long length)
{
    struct pkeyguard_key *new_one;
    struct pkeyguard_region *of_it;

    (void)unused, (void)length;
    results_inside[0] = pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &new_one);
    results_inside[1] = pkeyguard_key_destroy(software);
    results_inside[2] = pkeyguard_region_create(NULL, 1, PAGE_RW, 0, &of_it);
    results_inside[3] = pkeyguard_region_create_with(NULL, "", 1, PAGE_RW, 0, &of_it);
    results_inside[4] = pkeyguard_region_associate(region, NULL);
    results_inside[5] = pkeyguard_region_protect(region, PROT_READ);
    results_inside[6] = pkeyguard_region_destroy(region);
}

/*
 * Functions that are not for signal handlers. In a handler that interrupted the library they return
 * -EDEADLK.
 */
START_TEST(management_inside_the_library_gets_edeadlk)
{
    struct pkeyguard_guard guard;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    before_call(CALL_MPROTECT, manage_inside_library);
    guard = acquire(software_region, PKEYGUARD_READ_WRITE);
    for (int i = 0; i < 7; i++)
        ck_assert_int_eq(results_inside[i], -EDEADLK);
    pkeyguard_release(&guard);
    ck_assert_int_eq(pkeyguard_region_prot(region), PAGE_RW);
    destroy(software_region, software);
}
END_TEST

static void acquire_then_release_in_handler(int signal)
{
    static struct pkeyguard_guard held;

    (void)signal;
    if (held.how != 0)
        pkeyguard_release(&held);
    else if (pkeyguard_acquire(software_region, PKEYGUARD_READ_ONLY, &held) != 0)
        _exit(1);
}

static void release_inside_library(void *unused)
{
    struct pkeyguard_guard guard;

    (void)unused;
    software_region = new_region(NULL);
    signal(SIGUSR1, acquire_then_release_in_handler);
    raise(SIGUSR1);
    before_call(CALL_MPROTECT, raise_inside_library);
    guard = acquire(software_region, PKEYGUARD_READ_WRITE);
    pkeyguard_release(&guard);
}

START_TEST(release_inside_the_library_aborts)
{
    assert_aborts(release_inside_library, NULL,
                  "libpkeyguard: a guard cannot be released: called from a signal handler that "
                  "interrupted the library\n");
}
END_TEST

static bool interrupts_fork;

/*
 * The last pthread_atfork(3) handler that runs before the fork: the library's own have taken its
 * lock by then. Handlers run in reverse order of registration, and this one is registered before
 * the library registers its own.
 */
static void interrupt_fork(void)
{
    if (interrupts_fork)
        raise(SIGUSR1);
}

START_TEST(handler_that_interrupts_fork_gets_edeadlk)
{
    pid_t child;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    signal(SIGUSR1, use_software_key);
    interrupts_fork = true;
    child = fork();
    interrupts_fork = false;
    if (child == 0) {
        assert_open_for(PKEYGUARD_NO_ACCESS, software_region);
        pkeyguard_scoped_write (int, number, software_region) {
            *number = 1;
        }
        _exit(42);
    }
    assert_exits(child, 42);
    ck_assert_int_eq(result_of_acquire, -EDEADLK);
    ck_assert_int_eq(result_of_set_rights, -EDEADLK);
    destroy(software_region, software);
}
END_TEST

void add_handlers(Suite *suite)
{
    TCase *tests = add_case(suite, "handlers", set_up, tear_down, 60);

    pthread_atfork(interrupt_fork, NULL, NULL);
    /* ThreadSanitizer fails when a jump ends a fault inside a handler. */
    if (!under_tool("tsan"))
        tcase_add_test(tests, handler_starts_closed_and_opens_for_itself);
    tcase_add_test(tests, handler_inside_the_library_gets_edeadlk);
    tcase_add_test(tests, handler_that_interrupts_fork_gets_edeadlk);
    tcase_add_test(tests, management_inside_the_library_gets_edeadlk);
    tcase_add_test(tests, release_inside_the_library_aborts);
}
