/* SPDX-License-Identifier: MIT */
/*
 * At each instruction of a guard whose key has a pkey, until it has pinned it, another thread takes
 * the pkey away, once. The guard finds out that it has pinned another key's pkey.
 */
#include "stepping.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_steps.h"

/* If the region is not open an access ends the test. */
static void write_in_scope(void *unused)
{
    (void)unused;
    pkeyguard_scoped_write (char, byte, regions[0])
        *(volatile char *)byte = 1;
}

static void read_in_scope(void *unused)
{
    (void)unused;
    pkeyguard_scoped_read (char, byte, regions[0])
        (void)*(const volatile char *)byte;
}

static void open_key_in_scope(void *unused)
{
    (void)unused;
    pkeyguard_scoped_key_write (guard, keys[0])
        *(volatile char *)address_of(regions[0]) = 1;
}

static void (*const guarded[])(void *unused) = {acquire_to_write, write_in_scope, read_in_scope,
                                                open_key_in_scope};
enum { GUARDED = sizeof(guarded) / sizeof(*guarded) };

/* A guard that unpins the pkey and starts over has pinned it for fewer instructions. */
enum { KEPT_FOR_GOOD = 40 };
static void (*guarded_now)(void *unused);
static unsigned wanted_step; /* the instruction before which the pkey is taken */
static bool has_arrived;     /* the signal, before the guard was over */
static unsigned taken;       /* how often the pkey was */
static unsigned kept;        /* how often in a row it was not, because the guard had pinned it */

static void on_signal(int signal)
{
    (void)signal;
    has_arrived = true;
    run_on(&neighbour, evict_first_key, NULL);
    if (pkeyguard_key_number(keys[0]) > 0) {
        kept++;
    } else {
        taken++;
        kept = 0;
    }
}

static void send_signal(void)
{
    if (steps_taken() < wanted_step)
        return;
    stop_stepping();
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
}

static void step_through_guarded(int unused)
{
    (void)unused;
    step_through(guarded_now, NULL, send_signal);
}

/* In a handler a guard takes another path: a pkey is closed there by one bit of its two. */
START_TEST(pkey_is_taken_at_every_instruction)
{
    struct sigaction taking = {.sa_handler = on_signal};
    struct sigaction stepping = {.sa_handler = step_through_guarded};
    bool in_handler = _i == GUARDED;

    set_up_kind(VIRTUAL);
    sigaction(SIGUSR1, &taking, NULL);
    sigaction(SIGUSR2, &stepping, NULL);
    guarded_now = in_handler ? acquire_to_write : guarded[_i];
    do {
        guarded_now(NULL);
        ck_assert_int_gt(pkeyguard_key_number(keys[0]), 0);
        has_arrived = false;
        wanted_step++;
        if (in_handler)
            raise(SIGUSR2);
        else
            step_through_guarded(0);
        ck_assert_int_eq(find_difference(2), 0);
    } while (has_arrived && kept < KEPT_FOR_GOOD);
    ck_assert_uint_ge(taken, 5);
    tear_down_kind();
}
END_TEST

void add_eviction_tests(Suite *suite)
{
    TCase *tests = add_case(suite, "eviction", NULL, NULL);

    add_pku_loop_test(tests, pkey_is_taken_at_every_instruction, 0, GUARDED + 1);
}
