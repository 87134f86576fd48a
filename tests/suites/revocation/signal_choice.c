/* SPDX-License-Identifier: MIT */
/* The signals that a program may let the library use. */
#include <errno.h>
#include <signal.h>

#include "failing.h"
#include "test_revocation.h"

START_TEST(unusable_signals_are_refused)
{
    const int bad[] = {-1,     0,       SIGKILL, SIGSTOP, SIGSEGV,      SIGBUS,       SIGILL,
                       SIGFPE, SIGTRAP, SIGSYS,  32,      SIGRTMIN - 1, SIGRTMAX + 1, 1000};

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        ck_assert_int_eq(pkeyguard_thread_use_signal(bad[i]), -EINVAL);
}
END_TEST

static volatile sig_atomic_t signals_seen;

static void count_signal(int unused)
{
    (void)unused;
    signals_seen++;
}

START_TEST(signals_with_a_handler_are_refused)
{
    int busy = pku() ? -EBUSY : 0;

    signal(SIGUSR1, count_signal);
    signal(SIGUSR2, SIG_IGN);
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGUSR1), busy);
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGUSR2), busy);
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGRTMAX), 0);
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGRTMAX), 0);
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGURG), busy);
    raise(SIGUSR1);
    ck_assert_int_eq(signals_seen, 1);
}
END_TEST

static int result_in_handler;

static void use_in_handler(int unused)
{
    (void)unused;
    result_in_handler = pkeyguard_thread_use_signal(SIGURG);
}

static void raise_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    raise(SIGTRAP);
}

START_TEST(use_signal_is_refused_inside_the_library)
{
    struct pkeyguard_region *region;

    signal(SIGTRAP, use_in_handler);
    before_call(CALL_MPROTECT, raise_inside_library);
    region = new_region(NULL);
    pkeyguard_scoped_write (char, byte, region) {
        *byte = 1;
    }
    destroy(region, NULL);
    ck_assert_int_eq(result_in_handler, -EDEADLK);
}
END_TEST

void add_signal_choice(Suite *suite)
{
    TCase *tests = add_case(suite, "choice of the signal", NULL, NULL);

    tcase_add_test(tests, unusable_signals_are_refused);
    tcase_add_test(tests, signals_with_a_handler_are_refused);
    tcase_add_test(tests, use_signal_is_refused_inside_the_library);
}
