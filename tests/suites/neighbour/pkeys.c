/* SPDX-License-Identifier: MIT */
/* Which pkeys the library and the neighbour have: no pkey is both's. */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

#include "failing.h"
#include "test_neighbour.h"

/* Creates keys and, in between, takes pkeys for the neighbour. Every pkey has one owner at last. */
START_TEST(every_pkey_has_one_owner)
{
    struct pkeyguard_key *keys[PKEYS_OF_CPU];
    int count = 0, taken[PKEYS_OF_CPU], taken_count = 0;
    unsigned owned = 1u << pkeyguard_key_number(key);

    for (int i = 0; i < NEIGHBOURS_PAGES; i++)
        owned |= 1u << neighbour.pkeys[i];
    while (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &keys[count]) == 0) {
        unsigned bit = 1u << pkeyguard_key_number(keys[count]);

        ck_assert_uint_eq(owned & bit, 0);
        owned |= bit;
        count++;
        taken[taken_count] = pkey_alloc(0, 0);
        if (taken[taken_count] < 0)
            continue;
        ck_assert_uint_eq(owned & 1u << taken[taken_count], 0);
        owned |= 1u << taken[taken_count++];
    }
    ck_assert_uint_eq(owned, 0xfffe);
    ck_assert_int_eq(pkey_alloc(0, 0), -1);
    ck_assert_int_eq(errno, ENOSPC);
    /* The library keeps the pkeys of destroyed keys: a thread may have them open. */
    while (count > 0)
        destroy(NULL, keys[--count]);
    ck_assert_int_eq(pkey_alloc(0, 0), -1);
    while (taken_count > 0)
        ck_assert_int_eq(pkey_free(taken[--taken_count]), 0);
    ck_assert_int_gt(pkey_alloc(0, 0), 0);
}
END_TEST

START_TEST(virtual_keys_share_no_pkey_of_the_neighbours)
{
    enum { COUNT = PKEYS_OF_CPU + 5 };
    struct pkeyguard_key *keys[COUNT];

    for (int i = 0; i < COUNT; i++)
        keys[i] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < COUNT; i++) {
            pkeyguard_scoped_key_write (guard, keys[i]) {
                ck_assert(!is_neighbours(pkeyguard_key_number(keys[i])));
                ck_assert_int_ne(pkeyguard_key_number(keys[i]), pkeyguard_key_number(key));
            }
        }
    }
    for (int i = 0; i < COUNT; i++)
        destroy(NULL, keys[i]);
}
END_TEST

/* ---- a pkey that the neighbour frees, and leaves open in a thread ---- */

static struct worker engine; /* a thread of the neighbour's */

static void do_open_everything(void *unused)
{
    (void)unused;
    open_everything();
}

static void do_reset(void *unused)
{
    (void)unused;
    pkeyguard_thread_reset();
}

static void free_pkey_that_is_open_in_the_engine(int i)
{
    start_worker(&engine);
    run_on(&engine, do_open_everything, NULL);
    run_on(&engine, do_write, neighbour.pages[i]);
    ck_assert(!fault_of_worker.happened);
    ck_assert_int_eq(pkey_mprotect(neighbour.pages[i], PAGE_BYTES, PAGE_RW, 0), 0);
    ck_assert_int_eq(pkey_free(neighbour.pkeys[i]), 0);
}

/*
 * Creates keys until there is no pkey. Returns true if one of them has the freed pkey. Its region
 * is closed in the engine then, and can be opened here.
 */
static bool freed_pkey_gets_a_key(int freed)
{
    struct pkeyguard_key *keys[PKEYS_OF_CPU];
    bool found = false;
    int count = 0;

    while (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &keys[count]) == 0) {
        if (pkeyguard_key_number(keys[count]) == freed) {
            struct pkeyguard_region *of_freed = new_region(keys[count]);

            found = true;
            assert_denied_on(&engine, of_freed);
            pkeyguard_scoped_write (char, byte, of_freed) {
                *byte = 'f';
            }
            destroy(of_freed, NULL);
        }
        count++;
    }
    while (count > 0)
        destroy(NULL, keys[--count]);
    return found;
}

/* The library's signal closes it there. */
START_TEST(signal_closes_a_freed_pkey)
{
    int freed = neighbour.pkeys[_i];

    set_clock(0);
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGURG), 0);
    free_pkey_that_is_open_in_the_engine(_i);
    ck_assert(freed_pkey_gets_a_key(freed));
    neighbour.pkeys[_i] = -1;
    end_worker(&engine);
}
END_TEST

/*
 * Without a signal the pkey waits until the engine has reset its rights: the kernel gave the
 * library a higher pkey before, that of the fixture's key, so the freed one had another user.
 */
START_TEST(freed_pkey_waits_for_a_reset)
{
    int freed = neighbour.pkeys[_i];

    free_pkey_that_is_open_in_the_engine(_i);
    ck_assert(!freed_pkey_gets_a_key(freed));
    run_on(&engine, do_reset, NULL);
    ck_assert(freed_pkey_gets_a_key(freed));
    neighbour.pkeys[_i] = -1;
    end_worker(&engine);
}
END_TEST

/* The neighbour frees pkeys that it does not have: no other key gets them, and pages stay closed.
 */
START_TEST(neighbour_frees_a_pkey_of_the_library)
{
    int pkey = pkeyguard_key_number(key);

    ck_assert_int_eq(pkey_free(pkey), 0);
    start_worker(&engine);
    ck_assert(!freed_pkey_gets_a_key(pkey));
    assert_denied(READ_BYTE, address, key);
    pkeyguard_scoped_write (char, byte, region) {
        *byte = 'k';
    }
    assert_denied(WRITE_BYTE, address, key);
    end_worker(&engine);
}
END_TEST

void add_pkeys(Suite *suite)
{
    TCase *tests = add_case(suite, "pkeys", move_in, move_out);

    add_pku_test(tests, every_pkey_has_one_owner);
    add_pku_test(tests, virtual_keys_share_no_pkey_of_the_neighbours);
    add_pku_loop_test(tests, signal_closes_a_freed_pkey, 0, NEIGHBOURS_PAGES);
    add_pku_loop_test(tests, freed_pkey_waits_for_a_reset, 0, NEIGHBOURS_PAGES);
    add_pku_test(tests, neighbour_frees_a_pkey_of_the_library);
}
