/* SPDX-License-Identifier: MIT */
/* The neighbour's threads and signal handlers. */
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "failing.h"
#include "test_neighbour.h"

static struct worker engine, other;

/* ---- the neighbour writes 0 to PKRU: every key is open, but only in its thread ---- */

static void do_open_everything(void *unused)
{
    (void)unused;
    neighbour_denies(3);
    open_everything();
    assert_allowed(WRITE_BYTE, address);
}

static void do_reset(void *unused)
{
    (void)unused;
    pkeyguard_thread_reset();
    assert_denied(WRITE_BYTE, address, key);
    assert_neighbour_denies(0);
}

/* This is a limit of protection keys. A reset ends it, and leaves the neighbour what it has. */
START_TEST(wide_open_thread_opens_keys_for_itself_alone)
{
    start_worker(&other);
    start_worker(&engine);
    run_on(&engine, do_open_everything, NULL);
    assert_denied(READ_BYTE, address, key);
    assert_denied_on(&other, region);
    run_on(&engine, do_reset, NULL);
    end_worker(&engine);
    end_worker(&other);
}
END_TEST

/* The end of a scope closes what the scope opened, whatever was written to PKRU inside it. */
START_TEST(scope_ends_closed_after_a_wide_open_write)
{
    pkeyguard_scoped_write (char, byte, region) {
        neighbour_denies(3);
        open_everything();
        *byte = 'w';
    }
    assert_denied(READ_BYTE, address, key);
    assert_neighbour_denies(0);
}
END_TEST

/* A scope that finds its key open closes nothing at its end. A gate closes, a restore does too. */
START_TEST(scope_after_a_wide_open_write_changes_nothing)
{
    struct pkeyguard_thread_rights rights;

    pkeyguard_thread_save(&rights);
    open_everything();
    pkeyguard_scoped_write (char, byte, region) {
        *byte = 'w';
    }
    assert_allowed(READ_BYTE, address);
    pkeyguard_scoped_closed (gate) {
        assert_denied(READ_BYTE, address, key);
        assert_neighbour_denies(0);
    }
    pkeyguard_thread_restore(&rights);
    assert_denied(READ_BYTE, address, key);
    assert_neighbour_denies(0);
}
END_TEST

/* ---- the neighbour's signal handlers ---- */

static void open_everything_in_handler(int signal)
{
    (void)signal;
    assert_denied(READ_BYTE, address, key);
    open_everything();
    assert_allowed(WRITE_BYTE, address);
    neighbour_denies(0);
}

/* What a handler writes to PKRU lasts until it returns: then the scope is as it was. */
START_TEST(handler_that_opens_everything_leaves_the_scope_alone)
{
    signal(SIGUSR1, open_everything_in_handler);
    neighbour_denies((unsigned)_i);
    raise(SIGUSR1);
    assert_denied(READ_BYTE, address, key);
    pkeyguard_scoped_read (char, byte, region) {
        raise(SIGUSR1);
        ck_assert_int_eq(*byte, 'w');
        assert_denied(WRITE_BYTE, address, key);
    }
    assert_neighbour_denies((unsigned)_i);
    assert_denied(READ_BYTE, address, key);
}
END_TEST

/* ---- both at work at the same time ---- */

static atomic_bool over;
static atomic_int violations, rounds_of_engine;
static atomic_uint ours, theirs; /* the pkeys that each has: bit k stands for pkey k */

/* Changes its own bits all the time, as a JIT engine does that opens its code to write it. */
static void do_change_rights(void *unused)
{
    int pkey = neighbour.pkeys[0];

    (void)unused;
    for (unsigned denial = 0; !over; denial = (denial + 1) % DENIALS) {
        pkey_set(pkey, denial);
        for (int i = 0; i < 10; i++)
            violations += (pkeyguard_pkru_read() >> (2 * pkey) & 3) != denial;
        rounds_of_engine++;
    }
    neighbour_denies(0);
}

/* Takes pkeys, tags its page with them, and frees them when nothing has them open or tagged. */
static void do_take_pkeys(void *unused)
{
    (void)unused;
    while (!over) {
        int pkey = pkey_alloc(0, 0);

        rounds_of_engine++;
        if (pkey < 0)
            continue;
        theirs |= 1u << pkey;
        violations += (ours & 1u << pkey) != 0;
        violations += pkey_mprotect(neighbour.pages[0], PAGE_BYTES, PAGE_RW, pkey) != 0;
        access_byte(WRITE_BYTE, neighbour.pages[0]);
        violations += pkey_mprotect(neighbour.pages[0], PAGE_BYTES, PAGE_RW, 0) != 0;
        pkey_set(pkey, PKEY_DISABLE_ACCESS);
        theirs &= ~(1u << pkey);
        violations += pkey_free(pkey) != 0;
    }
}

/* One round of what makes the library change PKRU, in every thread and by evictions. */
static void use_the_library(struct pkeyguard_region *virtual_regions[], int count)
{
    struct pkeyguard_key *second = NULL;

    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_READ_WRITE), 0);
    run_on(&other, do_write, address);
    ck_assert(!fault_of_worker.happened);
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_NO_ACCESS), 0);
    assert_denied_on(&other, region);
    if (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &second) == 0) {
        ours |= 1u << pkeyguard_key_number(second);
        violations += (theirs & 1u << pkeyguard_key_number(second)) != 0;
        destroy(NULL, second);
    }
    for (int i = 0; i < count; i++) {
        pkeyguard_scoped_write (char, byte, virtual_regions[i]) {
            *byte = 'v';
        }
        assert_denied(READ_BYTE, address_of(virtual_regions[i]),
                      pkeyguard_region_key(virtual_regions[i]));
    }
}

static void (*const works[])(void *) = {do_change_rights, do_take_pkeys};

START_TEST(both_work_at_the_same_time)
{
    enum { COUNT = PKEYS_OF_CPU + 1, ROUNDS = 6 };
    struct pkeyguard_region *regions[COUNT];

    set_clock(0); /* the library asks the threads until all have answered */
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGURG), 0);
    ours = 1u << pkeyguard_key_number(key);
    start_worker(&engine);
    start_worker(&other);
    for (int i = 0; i < COUNT; i++)
        regions[i] = new_region(new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL));
    begin_on(&engine, works[_i], NULL);
    for (int round = 0; round < ROUNDS; round++) {
        int begun = rounds_of_engine;

        use_the_library(regions, COUNT);
        while (rounds_of_engine == begun)
            sched_yield();
    }
    over = true;
    wait_for(&engine);
    ck_assert_int_eq(violations, 0);
    assert_denied_on(&engine, region);
    for (int i = 0; i < COUNT; i++) {
        struct pkeyguard_key *owner = pkeyguard_region_key(regions[i]);

        destroy(regions[i], owner);
    }
    end_worker(&engine);
    end_worker(&other);
}
END_TEST

void add_threads(Suite *suite)
{
    TCase *tests = add_case(suite, "threads", move_in, move_out);

    add_pku_test(tests, wide_open_thread_opens_keys_for_itself_alone);
    add_pku_test(tests, scope_ends_closed_after_a_wide_open_write);
    add_pku_test(tests, scope_after_a_wide_open_write_changes_nothing);
    add_pku_loop_test(tests, handler_that_opens_everything_leaves_the_scope_alone, 0, DENIALS);
    add_pku_loop_test(tests, both_work_at_the_same_time, 0, 2);
}
