/* SPDX-License-Identifier: MIT */
/* What works as promised in every build: with PKEYGUARD_DEBUG, too, it does not abort. */
#define PKEYGUARD_DEBUG

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "failing.h"
#include "place.h"
#include "test_debug.h"

static struct pkeyguard_guard first, second, third;

START_TEST(guards_are_released_in_any_order_and_moved)
{
    struct pkeyguard_guard moved;

    remake_key(_i);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &first), 0);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &second), 0);
    ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_NO_ACCESS, &third), 0);
    pkeyguard_release(&third);
    pkeyguard_release(&first);
    moved = second;
    pkeyguard_release(&moved);
    pkeyguard_release(&moved);
    pkeyguard_scoped_write (int, number, region) {
        pkeyguard_scoped_restrict (narrow, region, PKEYGUARD_READ_ONLY) {
        }
        *number = 1;
    }
    pkeyguard_scoped_key_read (whole, key) {
        pkeyguard_release(&whole);
    }
    assert_denied(READ_BYTE, address, key);
    tear_down();
}
END_TEST

START_TEST(bad_arguments_are_errors)
{
    struct pkeyguard_guard zero = {0};

    ck_assert_int_eq(pkeyguard_acquire(NULL, PKEYGUARD_READ_ONLY, &first), -EINVAL);
    ck_assert_mem_eq(&first, &zero, sizeof(zero));
    ck_assert_int_eq(pkeyguard_key_acquire(key, (enum pkeyguard_rights)7, &first), -EINVAL);
    ck_assert_int_eq(pkeyguard_restrict(region, (enum pkeyguard_rights)0, &first), -EINVAL);
    pkeyguard_try_scoped_write (char[PAGE_BYTES + 1], bytes, region) {
        (*bytes)[0] = 1;
        ck_abort();
    } else {
        ck_assert_int_eq(errno, EINVAL);
    }
    pkeyguard_release(&first);
}
END_TEST

/* @timed: NULL for the function without a time limit. */
static void *open_again_inside_acquire_all(void *timed)
{
    enum pkeyguard_rights rights[] = {PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY};
    struct pkeyguard_region *regions[] = {region, new_region(key)};
    struct pkeyguard_guard guards[2];

    ck_assert_int_eq(timed == NULL ? pkeyguard_acquire_all(2, regions, rights, guards)
                                   : pkeyguard_acquire_all_timed(2, regions, rights, 0, guards),
                     0);
    pkeyguard_scoped_read (int, number, region) {
        ck_assert_int_eq(*number, 0);
    }
    pkeyguard_release(&guards[0]);
    pkeyguard_release(&guards[1]);
    assert_denied(READ_BYTE, address, key);
    destroy(regions[1], NULL);
    return timed;
}

static void *open_again_inside_timed_guards(void *unused)
{
    ck_assert_int_eq(pkeyguard_acquire_timed(region, PKEYGUARD_READ_WRITE, 0, &first), 0);
    ck_assert_int_eq(pkeyguard_key_acquire_timed(key, PKEYGUARD_READ_ONLY, 0, &second), 0);
    pkeyguard_scoped_read (int, number, region) {
        ck_assert_int_eq(*number, 0);
    }
    pkeyguard_release(&second);
    pkeyguard_release(&first);
    assert_denied(READ_BYTE, address, key);
    return unused;
}

/* These guards are checked as others are: their regions can be opened again, also in a thread that
 * is not the first. */
START_TEST(guards_of_other_functions_open_for_this_thread)
{
    static char timed;
    static const struct {
        void *(*open)(void *argument);
        void *argument;
    } cases[] = {{open_again_inside_acquire_all, NULL},
                 {open_again_inside_acquire_all, &timed},
                 {open_again_inside_timed_guards, NULL}};
    pthread_t thread;

    (void)cases[_i].open(cases[_i].argument);
    ck_assert_int_eq(pthread_create(&thread, NULL, cases[_i].open, cases[_i].argument), 0);
    pthread_join(thread, NULL);
}
END_TEST

/* ---- fork ---- */

static void fork_inside_scopes(void *unused)
{
    pid_t child;

    (void)unused;
    pkeyguard_scoped_read (int, seen, region) {
        pkeyguard_scoped_write (int, number, region) {
            *number = 1;
            child = fork();
            *number += *seen;
        }
    }
    assert_denied(READ_BYTE, address, key);
    if (child == 0)
        _exit(0);
    assert_exits(child, 0);
}

/* A fork child ends the scopes of the thread that called fork. */
START_TEST(fork_child_ends_the_scopes)
{
    remake_key(_i);
    assert_allowed_use(fork_inside_scopes, NULL);
    tear_down();
}
END_TEST

static void fork_with_region_of_parent(void *unused)
{
    struct pkeyguard_region *of_parent;
    pid_t child;

    (void)unused;
    ck_assert_int_eq(pkeyguard_region_create(key, 1, PAGE_RW, PKEYGUARD_REGION_NO_FORK, &of_parent),
                     0);
    pkeyguard_scoped_write (char, byte, of_parent) {
        *byte = 1;
        child = fork();
    }
    if (child == 0)
        _exit(0);
    assert_exits(child, 0);
}

/* Also those on regions that the child does not have. */
START_TEST(fork_child_ends_the_scope_of_a_region_it_does_not_have)
{
    remake_key(_i);
    assert_allowed_use(fork_with_region_of_parent, NULL);
    tear_down();
}
END_TEST

/* ---- coroutines ---- */

static struct pkeyguard_thread_rights of_coroutine, of_scheduler;
static ucontext_t coroutine, scheduler;
static int steps;

static void leave_coroutine(void)
{
    ck_assert_int_eq(pkeyguard_thread_switch(&of_coroutine, &of_scheduler), 0);
    ck_assert_int_eq(swapcontext(&coroutine, &scheduler), 0);
}

static void run_coroutine(void)
{
    pkeyguard_scoped_read (int, seen, region) {
        pkeyguard_scoped_write (int, number, region) {
            *number = 1;
            leave_coroutine();
            *number += *seen; /* in the other thread */
            steps++;
        }
        leave_coroutine();
    }
    steps++;
    leave_coroutine();
    abort();
}

/* A thread that has a scope of its own, and goes on with the coroutine. */
static void *resume_coroutine(void *unused)
{
    pkeyguard_thread_reset();
    pkeyguard_scoped_read (int, seen, region) {
        ck_assert_int_le(*seen, 2);
        ck_assert_int_eq(pkeyguard_thread_switch(&of_scheduler, &of_coroutine), 0);
        ck_assert_int_eq(swapcontext(&scheduler, &coroutine), 0);
    }
    return unused;
}

START_TEST(coroutine_goes_on_in_another_thread)
{
    static char stack[64 << 10];
    pthread_t thread;

    remake_key(_i);
    ck_assert_int_eq(getcontext(&coroutine), 0);
    coroutine.uc_stack.ss_sp = stack;
    coroutine.uc_stack.ss_size = sizeof(stack);
    makecontext(&coroutine, run_coroutine, 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(steps, i == 2);
        ck_assert_int_eq(pthread_create(&thread, NULL, resume_coroutine, NULL), 0);
        pthread_join(thread, NULL);
    }
    ck_assert_int_eq(steps, 2);
    assert_denied(READ_BYTE, address, key);
    tear_down();
}
END_TEST

/* ---- handlers and jumps ---- */

static int pipe_ends[2];
static atomic_int waiting_thread;

static void *wait_inside_scopes(void *unused)
{
    char byte;

    pkeyguard_thread_reset();
    pkeyguard_scoped_read (int, seen, region) {
        pkeyguard_scoped_write (int, number, region) {
            pkeyguard_scoped_restrict (narrow, region, PKEYGUARD_READ_ONLY) {
                destroy(NULL, new_key(PKEYGUARD_READ_WRITE, 0)); /* changes other bits of PKRU */
                waiting_thread = gettid() + *seen;
                for (;;)
                    (void)!read(pipe_ends[0], &byte, 1); /* cancelled here */
            }
            *number = 1;
        }
    }
    return unused;
}

/* True if the thread sleeps in the kernel. */
static bool is_asleep(int thread)
{
    char path[64], state = '?';
    FILE *stat;

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
    stat = fopen(path, "r");
    ck_assert_ptr_nonnull(stat);
    ck_assert_int_eq(fscanf(stat, "%*d %*s %c", &state), 1);
    fclose(stat);
    return state == 'S';
}

static void cancel_inside_scopes(void *unused)
{
    pthread_t thread;
    void *result;

    (void)unused;
    ck_assert_int_eq(pipe(pipe_ends), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_inside_scopes, NULL), 0);
    while (waiting_thread == 0 || !is_asleep(waiting_thread))
        sched_yield();
    ck_assert_int_eq(pthread_cancel(thread), 0);
    pthread_join(thread, &result);
    ck_assert_ptr_eq(result, PTHREAD_CANCELED);
    assert_denied(READ_BYTE, address, key);
}

/* glibc unwinds the thread from a signal handler, where rights are the kernel's. */
START_TEST(cancelled_thread_ends_its_scopes)
{
    remake_key(_i);
    assert_allowed_use(cancel_inside_scopes, NULL);
    tear_down();
}
END_TEST

static void open_in_handler(int signal)
{
    (void)signal;
    pkeyguard_scoped_write (int, number, region) {
        pkeyguard_scoped_read (int, seen, region) {
            *number = *seen + 1;
        }
    }
}

START_TEST(handlers_have_scopes_of_their_own)
{
    remake_key(_i);
    signal(SIGUSR1, open_in_handler);
    pkeyguard_scoped_read (int, seen, region) {
        raise(SIGUSR1);
        ck_assert_int_eq(*seen, 1);
    }
    assert_denied(READ_BYTE, address, key);
    tear_down();
}
END_TEST

static sigjmp_buf away;

static void jump_away(int signal)
{
    (void)signal;
    siglongjmp(away, 1);
}

START_TEST(jumps_out_of_handlers_and_scopes_with_restored_rights)
{
    struct pkeyguard_thread_rights rights;
    volatile int jumps = 0;

    signal(SIGUSR1, jump_away);
    pkeyguard_scoped_write (int, number, region) {
        pkeyguard_thread_save(&rights);
        if (sigsetjmp(away, 1) == 0) {
            ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &first), 0);
            raise(SIGUSR1);
        } else {
            pkeyguard_thread_restore(&rights);
            jumps++;
        }
        *number = 1;
    }
    ck_assert_int_eq(jumps, 1);
    pkeyguard_scoped_write (int, number, region) {
        *number = 2;
    }
    if (pku())
        assert_denied(READ_BYTE, address, key);
    else
        pkeyguard_release(&first);
}
END_TEST

static struct pkeyguard_region *software;
static int result_in_handler;

static void acquire_in_handler(int signal)
{
    (void)signal;
    result_in_handler = pkeyguard_acquire(software, PKEYGUARD_READ_ONLY, &first);
}

static void trap_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    raise(SIGTRAP);
}

/* On the thread's stack (_i 0), or on a signal stack that lies above it (_i 1). */
START_TEST(handler_that_interrupted_the_library_gets_an_error)
{
    char on_this_stack[1 << 16];
    struct sigaction action = {.sa_handler = acquire_in_handler,
                               .sa_flags = _i == 1 ? SA_ONSTACK : 0};
    stack_t stack = {.ss_sp = on_this_stack, .ss_size = sizeof(on_this_stack)};

    software = new_region(NULL);
    ck_assert_int_eq(sigaltstack(&stack, NULL), 0);
    ck_assert_int_eq(sigaction(SIGTRAP, &action, NULL), 0);
    before_call(CALL_MPROTECT, trap_inside_library);
    result_in_handler = 1;
    pkeyguard_scoped_write (int, number, software) {
        ck_assert_int_eq(result_in_handler, -EDEADLK);
        *number = 1;
    }
    destroy(software, NULL);
}
END_TEST

static bool acquires_in_fork;
static int results_in_fork; /* how many were -EDEADLK */

static void acquire_in_fork(void)
{
    if (acquires_in_fork && pkeyguard_acquire(software, PKEYGUARD_READ_ONLY, &first) == -EDEADLK)
        results_in_fork++;
}

/* Registered before the library's own fork handlers, so called while fork holds the lock. */
__attribute__((constructor(101))) static void register_early(void)
{
    pthread_atfork(acquire_in_fork, acquire_in_fork, acquire_in_fork);
}

START_TEST(early_fork_handlers_get_an_error)
{
    pid_t child;

    software = new_region(NULL);
    acquires_in_fork = true;
    child = fork();
    acquires_in_fork = false;
    ck_assert_int_eq(results_in_fork, 2);
    if (child == 0)
        _exit(0);
    assert_exits(child, 0);
    pkeyguard_scoped_write (int, number, software) {
        *number = 1;
    }
    destroy(software, NULL);
}
END_TEST

/* ---- code with and without PKEYGUARD_DEBUG ---- */

/* The guard is acquired with the checks (_i / KINDS is 0) or without them, and released the other
 * way. */
START_TEST(guard_passes_between_code_with_and_without_checks)
{
    struct pkeyguard_guard inner;

    remake_key(_i % KINDS);
    if (_i / KINDS == 0)
        ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &first), 0);
    else
        acquire_unchecked(&first);
    pkeyguard_scoped_write (int, number, region) {
        *number = 1;
    }
    acquire_unchecked(&inner);
    pkeyguard_release(&inner);
    if (_i / KINDS == 0)
        release_unchecked(&first);
    else
        pkeyguard_release(&first);
    assert_denied(READ_BYTE, address, key);
    tear_down();
}
END_TEST

void add_allowed(Suite *suite)
{
    TCase *tests = add_case(suite, "allowed", set_up, NULL);

    tcase_add_loop_test(tests, guards_are_released_in_any_order_and_moved, 0, KINDS);
    tcase_add_test(tests, bad_arguments_are_errors);
    tcase_add_loop_test(tests, guards_of_other_functions_open_for_this_thread, 0, 3);
    tcase_add_loop_test(tests, fork_child_ends_the_scopes, 0, KINDS);
    tcase_add_loop_test(tests, fork_child_ends_the_scope_of_a_region_it_does_not_have, 0, KINDS);
    add_loop_test_if(HAS_SWAPCONTEXT, NO_SWAPCONTEXT, tests, coroutine_goes_on_in_another_thread, 0,
                     KINDS);
    add_loop_test_if(HAS_UNWINDING, NO_UNWINDING, tests, cancelled_thread_ends_its_scopes, 0,
                     KINDS);
    tcase_add_loop_test(tests, handlers_have_scopes_of_their_own, 0, KINDS);
    tcase_add_test(tests, jumps_out_of_handlers_and_scopes_with_restored_rights);
    tcase_add_loop_test(tests, handler_that_interrupted_the_library_gets_an_error, 0, 2);
    tcase_add_test(tests, early_fork_handlers_get_an_error);
    tcase_add_loop_test(tests, guard_passes_between_code_with_and_without_checks, 0, 2 * KINDS);
}
