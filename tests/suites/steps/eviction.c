/* SPDX-License-Identifier: MIT */
/*
 * At each instruction of a guard whose key has a pkey, another thread takes the pkey away, once.
 * The guard then finds out that it has pinned another key's pkey, or has pinned its own in time.
 */
#include "stepping.h"

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test_steps.h"

/* If the region is not open the access ends the test. */
static void acquire(void *unused)
{
    struct pkeyguard_guard guard;

    (void)unused;
    EXPECT(pkeyguard_acquire(regions[0], PKEYGUARD_READ_WRITE, &guard) == 0);
    *(volatile char *)address_of(regions[0]) = 1;
    pkeyguard_release(&guard);
}

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

static void (*const guarded[])(void *unused) = {acquire, write_in_scope, read_in_scope,
                                                open_key_in_scope};
enum { GUARDED = sizeof(guarded) / sizeof(*guarded) };

static unsigned wanted_step; /* the instruction before which the pkey is taken */
static bool was_taken;

static void on_signal(int signal)
{
    (void)signal;
    run_on(&neighbour, evict_first_key, NULL);
}

static void send_signal(void)
{
    if (steps_taken() < wanted_step)
        return;
    was_taken = true;
    stop_stepping();
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
}

START_TEST(pkey_is_taken_at_every_instruction)
{
    struct sigaction handled = {.sa_handler = on_signal};

    set_up_kind(VIRTUAL);
    sigaction(SIGUSR1, &handled, NULL);
    for (wanted_step = 1, was_taken = true; was_taken; wanted_step++) {
        guarded[_i](NULL);
        ck_assert_int_gt(pkeyguard_key_number(keys[0]), 0);
        was_taken = false;
        step_through(guarded[_i], NULL, send_signal);
        ck_assert_int_eq(find_difference(2), 0);
    }
    ck_assert_uint_gt(wanted_step, 30);
    tear_down_kind();
}
END_TEST

void add_eviction_tests(Suite *suite)
{
    TCase *tests = add_case(suite, "eviction", NULL, NULL);

    add_pku_loop_test(tests, pkey_is_taken_at_every_instruction, 0, GUARDED);
}
