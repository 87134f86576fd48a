/* SPDX-License-Identifier: MIT */
/* A child is made while another thread is inside the library, which it never leaves in the child.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>

#include "test_processes.h"

static struct pkeyguard_guard of_other;

static void do_acquire(void *i)
{
    ck_assert_int_eq(pkeyguard_acquire(regions[(intptr_t)i], PKEYGUARD_READ_WRITE, &of_other), 0);
}

static void do_release(void *unused)
{
    (void)unused;
    pkeyguard_release(&of_other);
}

/* The call by which page rights change. */
static enum call page_change(void)
{
    return pku() && pkeyguard_key_enforcement(keys[0]) == PKEYGUARD_PKU ? CALL_PKEY_MPROTECT
                                                                        : CALL_MPROTECT;
}

static int every_key_opens_and_is_closed(void *unused)
{
    int error = open_every_key(-1);

    (void)unused;
    if (error != 0)
        return -error;
    for (int i = 0; i < KEYS; i++) {
        if (reads(regions[i]) || writes(regions[i]))
            return 100 + i;
    }
    return 0;
}

/* A key beside those of the other thread is enough for the child to notice what it is. */
static int first_call_closes_the_rest(void *unused)
{
    struct pkeyguard_guard guard;

    (void)unused;
    if (pkeyguard_acquire(regions[1], PKEYGUARD_READ_WRITE, &guard) != 0)
        return 1;
    if (reads(regions[0]))
        return 2;
    pkeyguard_release(&guard);
    return every_key_opens_and_is_closed(NULL);
}

/*
 * The other thread has the library's lock, before or after the system call that opens its region.
 * (A fork(3) waits for the lock, as vfork(2)'s child would.)
 */
START_TEST(child_works_when_another_thread_had_the_lock)
{
    enum way way = FIRST_BARE_WAY + _i / 2;

    make_keys(PKEYGUARD_KEY_SOFTWARE);
    if (_i % 2 == 0)
        before_call(CALL_MPROTECT, stop_here);
    else
        after_call(CALL_MPROTECT, 0, stop_here);
    run_other_until_stop(do_acquire, (void *)0);
    ck_assert_int_eq(run_as_child(way, first_call_closes_the_rest, NULL), 0);
    finish_other();
    ck_assert(writes(regions[0]));
    run_on(&other, do_release, NULL);
    ck_assert_int_eq(every_key_opens_and_is_closed(NULL), 0);
}
END_TEST

/* The same while it takes the rights away. */
START_TEST(child_works_when_another_thread_was_closing)
{
    enum way way = FIRST_BARE_WAY + _i / 2;

    make_keys(PKEYGUARD_KEY_SOFTWARE);
    run_on(&other, do_acquire, (void *)0);
    if (_i % 2 == 0)
        before_call(CALL_MPROTECT, stop_here);
    else
        after_call(CALL_MPROTECT, 0, stop_here);
    run_other_until_stop(do_release, NULL);
    ck_assert_int_eq(run_as_child(way, first_call_closes_the_rest, NULL), 0);
    finish_other();
    ck_assert_int_eq(every_key_opens_and_is_closed(NULL), 0);
}
END_TEST

/*
 * The other thread moves a pkey from one virtual key to another: it has closed the pages of the one
 * (_i / 3 is 0), or given it to the pages of the other (1).
 */
START_TEST(child_works_when_another_thread_was_evicting)
{
    enum way way = FIRST_BARE_WAY + _i % 3;

    make_keys(PKEYGUARD_KEY_VIRTUAL);
    run_on(&other, do_acquire, (void *)0);
    run_on(&other, do_release, NULL);
    ck_assert_int_eq(open_every_key(-1), 0);
    ck_assert_int_eq(pkeyguard_key_number(keys[0]), -1);
    after_call(page_change(), _i / 3, stop_here);
    run_other_until_stop(do_acquire, (void *)0);
    ck_assert_int_eq(run_as_child(way, every_key_opens_and_is_closed, NULL), 0);
    finish_other();
    ck_assert_int_gt(pkeyguard_key_number(keys[0]), 0);
    run_on(&other, do_release, NULL);
    ck_assert_int_eq(every_key_opens_and_is_closed(NULL), 0);
}
END_TEST

static void do_protect(void *prot)
{
    ck_assert_int_eq(pkeyguard_region_protect(regions[0], (int)(intptr_t)prot), 0);
}

static int page_rights_are_read_only(void *unused)
{
    struct pkeyguard_guard guard;

    (void)unused;
    if (pkeyguard_region_protect(regions[0], PROT_READ) != 0 ||
        pkeyguard_acquire(regions[0], PKEYGUARD_READ_WRITE, &guard) != 0)
        return 1;
    return !reads(regions[0]) ? 2 : writes(regions[0]) ? 3 : 0;
}

/* The other thread has changed page rights, and not yet noted it. The child wants others. */
START_TEST(child_works_when_another_thread_changed_page_rights)
{
    static const unsigned kinds[] = {0, PKEYGUARD_KEY_VIRTUAL};

    keys[0] = new_key(PKEYGUARD_NO_ACCESS, kinds[_i / 3]);
    regions[0] = new_region(keys[0]);
    pkeyguard_scoped_write (char, byte, regions[0])
        *byte = 1;
    ck_assert_int_eq(pkeyguard_region_protect(regions[0], PROT_READ), 0);
    after_call(page_change(), 0, stop_here);
    run_other_until_stop(do_protect, (void *)PAGE_RW);
    ck_assert_int_eq(run_as_child(FIRST_BARE_WAY + _i % 3, page_rights_are_read_only, NULL), 0);
    finish_other();
}
END_TEST

static atomic_int hammering;

/* Each guard changes page rights; each key joins and leaves the library's lists. */
static void do_hammer(void *unused)
{
    (void)unused;
    while (hammering) {
        struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
        struct pkeyguard_region *region = new_region(key);

        pkeyguard_scoped_write (char, byte, region)
            *byte = 1;
        pkeyguard_scoped_write (char, byte, regions[0])
            *byte = 1;
        ck_assert_int_eq(pkeyguard_region_associate(region, keys[1]), 0);
        ck_assert_int_eq(pkeyguard_key_destroy(key), 0);
        ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    }
}

static int all_is_whole(void *unused)
{
    int wrong = first_call_closes_the_rest(unused);

    if (wrong != 0)
        return wrong;
    for (int i = 0; i < KEYS; i++) {
        struct pkeyguard_region *more = NULL;

        /* Key 1 may have lost a region that the other thread was moving. */
        if (i != 1 &&
            (pkeyguard_region_create(keys[i], 1, PAGE_RW, 0, &more) != 0 ||
             pkeyguard_region_destroy(more) != 0 || pkeyguard_region_destroy(regions[i]) != 0 ||
             pkeyguard_key_destroy(keys[i]) != 0))
            return 50 + i;
    }
    return 0;
}

/* Wherever the other thread is in the library. */
START_TEST(children_work_beside_a_thread_that_never_rests)
{
    int children = in_guest() ? 21 : 200;

    make_keys(_i == 0 ? PKEYGUARD_KEY_SOFTWARE : PKEYGUARD_KEY_VIRTUAL);
    if (_i != 0) {
        run_on(&other, do_acquire, (void *)0);
        run_on(&other, do_release, NULL);
    }
    hammering = 1;
    begin_on(&other, do_hammer, NULL);
    for (int i = 0; i < children; i++)
        ck_assert_int_eq(run_as_child(FIRST_BARE_WAY + i % 3, all_is_whole, NULL), 0);
    hammering = 0;
    wait_for(&other);
    ck_assert_int_eq(every_key_opens_and_is_closed(NULL), 0);
}
END_TEST

void add_locks(Suite *suite)
{
    TCase *tests = add_case(suite, "locks", set_up_other, tear_down_other);
    int ways = LAST_BARE_WAY - FIRST_BARE_WAY + 1;

    tcase_add_loop_test(tests, child_works_when_another_thread_had_the_lock, 0, 2 * ways);
    tcase_add_loop_test(tests, child_works_when_another_thread_was_closing, 0, 2 * ways);
    add_pku_loop_test(tests, child_works_when_another_thread_was_evicting, 0, 2 * ways);
    add_pku_loop_test(tests, child_works_when_another_thread_changed_page_rights, 0, 2 * ways);
    tcase_add_test(tests, children_work_beside_a_thread_that_never_rests);
    add_pku_loop_test(tests, children_work_beside_a_thread_that_never_rests, 1, 2);
}
