/* SPDX-License-Identifier: MIT */
/* Rights on virtual keys, whose pkeys go to other keys meanwhile. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "failing.h"
#include "place.h"
#include "test_thread.h"
#include "worker.h"

static jmp_buf after_longjmp;

/* More keys than the pool has pkeys. The first others_open of them have a guard open. */
enum { OTHERS = 16 };
static struct pkeyguard_key *other_keys[OTHERS];
static struct pkeyguard_region *other_regions[OTHERS];
static struct pkeyguard_guard other_guards[OTHERS];
static int others_open;

static void set_up_others(void)
{
    set_up_virtual_key();
    for (int i = 0; i < OTHERS; i++) {
        other_keys[i] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
        other_regions[i] = new_region(other_keys[i]);
    }
}

static void tear_down_others(void)
{
    for (int i = 0; i < OTHERS; i++)
        destroy(other_regions[i], other_keys[i]);
    tear_down_keys();
}

static void pin_every_pkey(void)
{
    int error = 0;

    while (error == 0) {
        error = pkeyguard_acquire(other_regions[others_open], PKEYGUARD_READ_WRITE,
                                  &other_guards[others_open]);
        others_open += error == 0;
    }
    ck_assert_int_eq(error, -EBUSY);
}

static void assert_others_open(void)
{
    for (int i = 0; i < others_open; i++)
        assert_allowed(WRITE_BYTE, address_of(other_regions[i]));
}

static void release_others(void)
{
    while (others_open > 0)
        pkeyguard_release(&other_guards[--others_open]);
}

/* Pins every pkey for the other keys. A key that is pinned already keeps its pkey. */
static bool is_evicted_by_others(void)
{
    pin_every_pkey();
    release_others();
    return pkeyguard_key_number(key) < 0;
}

/* The key stays pinned until the last of its guards is released. */
START_TEST(switch_pins_for_every_guard_again)
{
    struct pkeyguard_thread_rights left, entered;
    struct pkeyguard_guard first, second;

    open_key(key, &first);
    open_key(key, &second);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), 0);
    pkeyguard_release(&second);
    ck_assert(!is_evicted_by_others());
    pkeyguard_release(&first);
    ck_assert(is_evicted_by_others());
}
END_TEST

static struct pkeyguard_thread_rights moving;
static struct pkeyguard_guard moving_guard;

static void *continue_pinned(void *unused)
{
    struct pkeyguard_thread_rights left;

    ck_assert_int_eq(pkeyguard_thread_switch(&left, &moving), 0);
    ck_assert(!is_evicted_by_others());
    assert_allowed(WRITE_BYTE, address_of(region));
    pkeyguard_release(&moving_guard);
    ck_assert(is_evicted_by_others());
    return unused;
}

/* The switch is the first that this thread does with the library. The key still has its pkey. */
START_TEST(switch_pins_in_a_thread_that_has_not_registered)
{
    open_key(key, &moving_guard);
    ck_assert_int_eq(pkeyguard_thread_switch(&moving, NULL), 0);
    ck_assert_int_gt(pkeyguard_key_number(key), 0);
    run_in_thread(continue_pinned, NULL);
}
END_TEST

/*
 * Surprise: a coroutine switch leaks rights. A coroutine that does not run has nothing open and
 * pins nothing, so other keys take the pkey of its open key. When it runs again the key has another
 * pkey.
 */
START_TEST(pkey_goes_to_other_keys_between_switches)
{
    struct pkeyguard_thread_rights left, entered;
    struct pkeyguard_guard first, second;
    int pkey;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &first), 0);
    ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_READ_ONLY, &second), 0);
    pkey = pkeyguard_key_number(key);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    assert_defaults();
    pin_every_pkey();
    ck_assert_int_lt(pkeyguard_key_number(key), 0);
    release_others();
    /* Uses the pkey that the key had, so that this pkey is taken last. */
    for (int i = 0; i < OTHERS; i++) {
        if (pkeyguard_key_number(other_keys[i]) == pkey)
            pkeyguard_scoped_write (char, byte, other_regions[i])
                *byte = 1;
    }
    ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), 0);
    ck_assert_int_ne(pkeyguard_key_number(key), pkey);
    assert_rights(PKEYGUARD_READ_ONLY, PKEYGUARD_READ_ONLY);
    assert_allowed(READ_BYTE, address_of(region));
    assert_denied(WRITE_BYTE, address_of(region), key);
    pkeyguard_release(&second);
    assert_allowed(WRITE_BYTE, address_of(region));
    pkeyguard_release(&first);
    assert_defaults();
    ck_assert(is_evicted_by_others());
}
END_TEST

START_TEST(switch_without_a_free_pkey_changes_nothing)
{
    struct pkeyguard_thread_rights left, untouched, entered;
    struct pkeyguard_guard guard, other;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    ck_assert_int_eq(pkeyguard_acquire(other_regions[OTHERS - 1], PKEYGUARD_READ_ONLY, &other), 0);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    pin_every_pkey();
    memset(&entered, 1, sizeof(entered));
    untouched = entered;
    for (int room = 0; room < 2; room++) {
        ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), -EBUSY);
        ck_assert_mem_eq(&entered, &untouched, sizeof(entered));
        assert_others_open();
        assert_rights(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
        pkeyguard_release(&other_guards[--others_open]);
    }
    ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), 0);
    assert_allowed(WRITE_BYTE, address_of(region));
    assert_allowed(READ_BYTE, address_of(other_regions[OTHERS - 1]));
    assert_denied(READ_BYTE, address_of(other_regions[0]), other_keys[0]);
    pkeyguard_release(&guard);
    pkeyguard_release(&other);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, &entered), 0);
    assert_others_open();
    release_others();
    assert_defaults();
}
END_TEST

START_TEST(switch_that_the_kernel_refuses_changes_nothing)
{
    struct pkeyguard_thread_rights left, entered;
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    pin_every_pkey();
    pkeyguard_release(&other_guards[--others_open]);
    fail_call(CALL_PKEY_MPROTECT, 0, ENOMEM, 1);
    ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), -ENOMEM);
    ck_assert(stop_failing());
    assert_others_open();
    assert_rights(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
    ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), 0);
    assert_allowed(WRITE_BYTE, address_of(region));
    pkeyguard_release(&guard);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, &entered), 0);
    release_others();
}
END_TEST

START_TEST(switch_leaves_out_destroyed_keys)
{
    struct pkeyguard_thread_rights left, entered;
    struct pkeyguard_guard guard, lost;

    ck_assert_int_eq(pkeyguard_acquire(other_regions[0], PKEYGUARD_READ_WRITE, &lost), 0);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    destroy(other_regions[0], other_keys[0]);
    other_keys[0] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    other_regions[0] = new_region(other_keys[0]);
    pkeyguard_scoped_write (char, byte, other_regions[0])
        *byte = 1;
    ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), 0);
    assert_allowed(WRITE_BYTE, address_of(region));
    assert_denied(READ_BYTE, address_of(other_regions[0]), other_keys[0]);
    pkeyguard_release(&guard);
    assert_defaults();
}
END_TEST

static __attribute__((noreturn)) void jump_out_of_two_scopes(void)
{
    struct pkeyguard_guard guard;

    open_key(key, &guard);
    ck_assert_int_eq(pkeyguard_acquire(other_regions[0], PKEYGUARD_READ_WRITE, &other_guards[0]),
                     0);
    longjmp(after_longjmp, 1);
}

START_TEST(restore_drops_pins_that_longjmp_skipped)
{
    struct pkeyguard_thread_rights rights;
    struct pkeyguard_guard outer;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &outer), 0);
    pkeyguard_thread_save(&rights);
    if (setjmp(after_longjmp) == 0)
        jump_out_of_two_scopes();
    assert_allowed(WRITE_BYTE, address_of(region));
    assert_allowed(WRITE_BYTE, address_of(other_regions[0]));
    pkeyguard_thread_restore(&rights);
    assert_rights(PKEYGUARD_READ_ONLY, PKEYGUARD_READ_ONLY);
    assert_denied(WRITE_BYTE, address_of(other_regions[0]), other_keys[0]);
    ck_assert(!is_evicted_by_others());
    assert_allowed(READ_BYTE, address_of(region));
    pkeyguard_release(&outer);
    ck_assert(is_evicted_by_others());
}
END_TEST

static struct pkeyguard_thread_rights saved_outside;

static void restore_in_handler(int signal)
{
    (void)signal;
    pkeyguard_thread_restore(&saved_outside);
    /* With write-disable set, too, the library would not take this for a handler. */
    if (pkey_get(pkeyguard_key_number(key)) != PKEY_DISABLE_ACCESS)
        _exit(1);
}

START_TEST(restore_in_a_handler_keeps_the_pins)
{
    struct pkeyguard_guard guard;

    signal(SIGUSR1, restore_in_handler);
    pkeyguard_thread_save(&saved_outside);
    open_key(key, &guard);
    raise(SIGUSR1);
    ck_assert(!is_evicted_by_others());
    assert_allowed(WRITE_BYTE, address_of(region));
    pkeyguard_release(&guard);
    ck_assert(is_evicted_by_others());
}
END_TEST

static struct worker pinning;

static void do_pin(void *unused)
{
    (void)unused;
    pin_every_pkey();
}

static void do_release(void *unused)
{
    (void)unused;
    release_others();
}

static void let_others_go(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    begin_on(&pinning, do_release, NULL);
}

/*
 * Another thread pins all pkeys inside the gate. Its end, or the restore after a jump out of it,
 * waits for one.
 */
START_TEST(gate_waits_for_a_pkey_to_open_its_callers_key)
{
    struct pkeyguard_thread_rights rights;
    struct pkeyguard_guard guard;

    start_worker(&pinning);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    pkeyguard_thread_save(&rights);
    if (setjmp(after_longjmp) == 0) {
        pkeyguard_scoped_closed (gate) {
            run_on(&pinning, do_pin, NULL);
            before_call(CALL_FUTEX_WAIT, let_others_go);
            if (_i == 1)
                longjmp(after_longjmp, 1);
        }
    }
    pkeyguard_thread_restore(&rights);
    assert_allowed(WRITE_BYTE, address_of(region));
    wait_for(&pinning);
    ck_assert_int_eq(others_open, 0);
    pkeyguard_release(&guard);
    end_worker(&pinning);
}
END_TEST

/* The key's pkey goes to another key inside the gate, and its pages cannot get a new one. */
static void leave_gate_without_pkey(void *by_jump)
{
    struct pkeyguard_thread_rights rights;
    struct pkeyguard_guard guard;

    open_key(key, &guard);
    pkeyguard_thread_save(&rights);
    if (setjmp(after_longjmp) == 0) {
        pkeyguard_scoped_closed (gate) {
            if (!is_evicted_by_others())
                break;
            fail_call(CALL_PKEY_MPROTECT, 0, ENOMEM, 1 << 30);
            if (by_jump != NULL)
                longjmp(after_longjmp, 1);
        }
    }
    pkeyguard_thread_restore(&rights);
}

/* The gate ends by its scope, or by a restore after a jump out of it. */
START_TEST(gate_that_cannot_open_virtual_keys_again_aborts)
{
#define NO_MEMORY                                                                              \
    "out of memory, of memory mappings, of file descriptors or of memory that may be locked, " \
    "or memory that is not mapped, as that of a destroyed region\n"

    assert_aborts(leave_gate_without_pkey, NULL,
                  "libpkeyguard: a call gate cannot open virtual keys again: " NO_MEMORY);
    assert_aborts(leave_gate_without_pkey, &after_longjmp,
                  "libpkeyguard: virtual keys that a call gate has closed cannot be opened "
                  "again: " NO_MEMORY);
}
END_TEST

void add_virtual_keys(Suite *suite)
{
    TCase *tests = add_case(suite, "virtual keys", set_up_others, tear_down_others);

    add_pku_test(tests, switch_pins_for_every_guard_again);
    add_pku_test(tests, switch_pins_in_a_thread_that_has_not_registered);
    add_pku_test(tests, pkey_goes_to_other_keys_between_switches);
    add_pku_test(tests, switch_without_a_free_pkey_changes_nothing);
    add_pku_test(tests, switch_that_the_kernel_refuses_changes_nothing);
    add_pku_test(tests, switch_leaves_out_destroyed_keys);
    add_pku_test(tests, restore_drops_pins_that_longjmp_skipped);
    add_pku_test(tests, restore_in_a_handler_keeps_the_pins);
    add_pku_loop_test(tests, gate_waits_for_a_pkey_to_open_its_callers_key, 0, 2);
    add_pku_test(tests, gate_that_cannot_open_virtual_keys_again_aborts);
}
