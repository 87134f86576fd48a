/* SPDX-License-Identifier: MIT */
/*
 * At each instruction of a guard that is nested in another one on a software key, a signal handler
 * releases the outer guard, or acquires more. At the next instructions handlers have guards of
 * their own.
 */
#include "stepping.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_steps.h"

/* The guards of the code around the nested one, and of the handler. */
static struct pkeyguard_guard outer, of_handler;
static enum pkeyguard_rights nested_rights;
static bool of_key;

static void acquire_here(int i, struct pkeyguard_guard *ret_guard)
{
    EXPECT((of_key ? pkeyguard_key_acquire(keys[i], nested_rights, ret_guard)
                   : pkeyguard_acquire(regions[i], nested_rights, ret_guard)) == 0);
}

/* ---- what the handler does ---- */

static void release_outer(void)
{
    pkeyguard_release(&outer);
}

static void replace_outer(void)
{
    pkeyguard_release(&outer);
    acquire_here(0, &outer);
}

static void add_guard(void)
{
    acquire_here(0, &of_handler);
}

static void open_other_instead(void)
{
    pkeyguard_release(&outer);
    acquire_here(1, &of_handler);
}

static void (*const actions[])(void) = {release_outer, replace_outer, add_guard,
                                        open_other_instead};
enum { ACTIONS = sizeof(actions) / sizeof(*actions) };
static void (*action)(void);

/* ---- when it does it ---- */

static unsigned wanted_step; /* the instruction before which the signal arrives */
static bool has_arrived;

static void on_signal(int signal)
{
    struct pkeyguard_guard guard;

    (void)signal;
    if (!has_arrived) {
        has_arrived = true;
        action();
        return;
    }
    acquire_here(1, &guard);
    pkeyguard_release(&guard);
}

static void send_signal(void)
{
    enum { SIGNALS = 4 };

    if (steps_taken() >= wanted_step)
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
    if (steps_taken() >= wanted_step + SIGNALS)
        stop_stepping();
}

/* If the region is not open the access ends the test. */
static void nest_guard(void *unused)
{
    struct pkeyguard_guard nested;
    volatile char *byte = address_of(regions[0]);

    (void)unused;
    acquire_here(0, &nested);
    if (nested_rights == PKEYGUARD_READ_WRITE)
        *byte = 1;
    else
        (void)*byte;
    pkeyguard_release(&nested);
}

static bool is_open(int i)
{
    return !try_access(READ_BYTE, address_of(regions[i])).happened;
}

/* Returns false if the nested guard is over before that instruction. */
static bool step_to_wanted(void)
{
    of_handler = (struct pkeyguard_guard){0};
    has_arrived = false;
    acquire_here(0, &outer);
    step_through(nest_guard, NULL, send_signal);
    if (has_arrived) {
        ck_assert_int_eq(is_open(0), action != release_outer && action != open_other_instead);
        ck_assert_int_eq(is_open(1), action == open_other_instead);
    }
    pkeyguard_release(&outer);
    ck_assert_int_eq(is_open(0), has_arrived && action == add_guard);
    pkeyguard_release(&of_handler);
    ck_assert_int_eq(find_difference(2), 0);
    return has_arrived;
}

/* _i: the rights, whether the guards are on the key, and the action. */
START_TEST(handler_at_every_instruction_of_a_nested_guard)
{
    struct sigaction handled = {.sa_handler = on_signal};

    nested_rights = _i & 1 ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY;
    of_key = _i & 2;
    action = actions[_i / 4];
    set_up_kind(SOFTWARE);
    sigaction(SIGUSR1, &handled, NULL);
    for (wanted_step = 1; step_to_wanted(); wanted_step++)
        ;
    ck_assert_uint_gt(wanted_step, 50);
    tear_down_kind();
}
END_TEST

void add_nesting_tests(Suite *suite)
{
    TCase *tests = add_case(suite, "nesting", NULL, NULL);

    /* A software key is the same in the emulated machine, and faster here. */
    if (!pku())
        tcase_add_loop_test(tests, handler_at_every_instruction_of_a_nested_guard, 0, 4 * ACTIONS);
}
