/* SPDX-License-Identifier: MIT */
/* Guards in signal handlers, and in handlers that interrupted the library. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
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

/* The signal of an instruction, a trap of a debugger say, which cannot wait. */
static void trap_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    raise(SIGTRAP);
}

/* The handler runs while this thread is in the library, before its call of mprotect. */
START_TEST(trap_handler_inside_the_library_gets_edeadlk)
{
    struct pkeyguard_guard guard;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    signal(SIGTRAP, use_software_key);
    before_call(CALL_MPROTECT, trap_inside_library);
    guard = acquire(software_region, PKEYGUARD_READ_WRITE);
    ck_assert_int_eq(result_of_acquire, -EDEADLK);
    ck_assert_int_eq(result_of_set_rights, -EDEADLK);
    assert_open_for(PKEYGUARD_READ_WRITE, software_region);
    pkeyguard_release(&guard);
    assert_open_for(PKEYGUARD_NO_ACCESS, software_region);
    destroy(software_region, software);
}
END_TEST

/* Other signals wait until the library is done: their handlers use it as any code does. */
START_TEST(handler_runs_when_the_library_is_done)
{
    struct pkeyguard_guard guard;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    signal(SIGUSR1, use_software_key);
    result_of_acquire = result_of_set_rights = 1;
    before_call(CALL_MPROTECT, raise_inside_library);
    guard = acquire(software_region, PKEYGUARD_READ_WRITE);
    ck_assert_int_eq(result_of_acquire, 0);
    ck_assert_int_eq(result_of_set_rights, 0);
    assert_open_for(PKEYGUARD_READ_WRITE, software_region);
    pkeyguard_release(&guard);
    assert_open_for(PKEYGUARD_READ_ONLY, software_region);
}
END_TEST

static sigjmp_buf away;

static void jump_away(int signal)
{
    (void)signal;
    siglongjmp(away, 1);
}

static void *use_region_in_thread(void *unused)
{
    struct pkeyguard_guard guard = acquire(software_region, PKEYGUARD_READ_WRITE);

    assert_open_for(PKEYGUARD_READ_WRITE, software_region);
    pkeyguard_release(&guard);
    return unused;
}

/*
 * A jump out of a handler that arrived while the library had its lock: out of acquire (_i 0), whose
 * guard is lost, and out of release. Everybody goes on.
 */
START_TEST(library_works_after_a_siglongjmp_out_of_it)
{
    struct pkeyguard_guard guard = {0};
    pthread_t thread;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    signal(SIGUSR1, jump_away);
    if (_i == 1)
        guard = acquire(software_region, PKEYGUARD_READ_ONLY);
    before_call(CALL_MPROTECT, raise_inside_library);
    if (sigsetjmp(away, 1) == 0) {
        if (_i == 0)
            guard = acquire(software_region, PKEYGUARD_READ_ONLY);
        else
            pkeyguard_release(&guard);
        ck_abort_msg("the handler did not run");
    }
    ck_assert_int_eq(pthread_create(&thread, NULL, use_region_in_thread, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    (void)use_region_in_thread(NULL);
    assert_open_for(_i == 0 ? PKEYGUARD_READ_ONLY : PKEYGUARD_NO_ACCESS, software_region);
}
END_TEST

static void acquire_then_release_in_handler(int signal)
{
    static struct pkeyguard_guard held;

    (void)signal;
    if (held.undo != 0)
        pkeyguard_release(&held);
    else if (pkeyguard_acquire(software_region, PKEYGUARD_READ_ONLY, &held) != 0)
        _exit(1);
}

static void release_inside_library(void *unused)
{
    struct pkeyguard_guard guard;

    (void)unused;
    software_region = new_region(NULL);
    signal(SIGTRAP, acquire_then_release_in_handler);
    raise(SIGTRAP);
    before_call(CALL_MPROTECT, trap_inside_library);
    guard = acquire(software_region, PKEYGUARD_READ_WRITE);
    pkeyguard_release(&guard);
}

START_TEST(release_inside_the_library_aborts)
{
    assert_aborts(release_inside_library, NULL,
                  "libpkeyguard: a guard cannot be released: this thread is inside the library "
                  "already: called from a fork handler, or from the handler of a signal that an "
                  "instruction raised\n");
}
END_TEST

static bool uses_region_in_fork;

static void use_region_in_fork(void)
{
    if (uses_region_in_fork)
        (void)use_region_in_thread(NULL);
}

/* The library's own fork handlers are registered first, so they run next to the fork itself. */
START_TEST(fork_handlers_of_the_program_use_the_library)
{
    pid_t child;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    uses_region_in_fork = true;
    child = fork();
    uses_region_in_fork = false;
    if (child == 0) {
        assert_open_for(PKEYGUARD_NO_ACCESS, software_region);
        (void)use_region_in_thread(NULL);
        _exit(42);
    }
    assert_exits(child, 42);
    (void)use_region_in_thread(NULL);
    destroy(software_region, software);
}
END_TEST

static sigjmp_buf out_of_release;

static void jump_out_of_release(int unused)
{
    (void)unused;
    siglongjmp(out_of_release, 1);
}

/* The signal waits until the library releases its lock, at the end of the release. */
static void raise_inside_release(void *unused, unsigned long unused_too)
{
    (void)unused, (void)unused_too;
    raise(SIGUSR1);
}

/*
 * The guard is released, but does not know it. The code releases it again; with _i 1 inside another
 * guard on the same region, which is then released, too.
 */
START_TEST(siglongjmp_out_of_a_release)
{
    struct pkeyguard_guard outer = {0}, inner;
    struct pkeyguard_region *of;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    of = new_region(software);
    if (_i == 1)
        outer = acquire(of, PKEYGUARD_READ_ONLY);
    inner = acquire(of, _i == 1 ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY);
    signal(SIGUSR1, jump_out_of_release);
    before_call(CALL_MPROTECT, raise_inside_release);
    if (sigsetjmp(out_of_release, 1) == 0) {
        pkeyguard_release(&inner);
        ck_abort_msg("the release was not left");
    }
    assert_open_for(_i == 1 ? PKEYGUARD_READ_ONLY : PKEYGUARD_NO_ACCESS, of);
    pkeyguard_release(&inner);
    pkeyguard_release(&outer);
    assert_open_for(PKEYGUARD_NO_ACCESS, of);
    outer = acquire(of, PKEYGUARD_READ_WRITE);
    assert_open_for(PKEYGUARD_READ_WRITE, of);
    pkeyguard_release(&outer);
    destroy(of, software);
}
END_TEST

void add_handlers(Suite *suite)
{
    TCase *tests = add_case(suite, "handlers", set_up, tear_down);

    pthread_atfork(use_region_in_fork, use_region_in_fork, use_region_in_fork);
    /* ThreadSanitizer fails when a jump ends a fault inside a handler. */
    if (!under_tool("tsan"))
        tcase_add_test(tests, handler_starts_closed_and_opens_for_itself);
    tcase_add_test(tests, trap_handler_inside_the_library_gets_edeadlk);
    tcase_add_test(tests, handler_runs_when_the_library_is_done);
    tcase_add_loop_test(tests, library_works_after_a_siglongjmp_out_of_it, 0, 2);
    tcase_add_loop_test(tests, siglongjmp_out_of_a_release, 0, 2);
    tcase_add_test(tests, fork_handlers_of_the_program_use_the_library);
    tcase_add_test(tests, release_inside_the_library_aborts);
}
