/* SPDX-License-Identifier: MIT */
/* Acquiring, restricting and releasing guards. */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "test_guard.h"

static const enum pkeyguard_rights every_right[] = {PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY,
                                                    PKEYGUARD_READ_WRITE};

/*
 * With each default and each guard: acquire gives at least the rights asked for, restrict leaves at
 * most those. Release restores the default.
 */
START_TEST(acquire_widens_and_restrict_narrows)
{
    enum pkeyguard_rights base = every_right[_i / 3], asked = every_right[_i % 3];
    struct pkeyguard_key *other_key = new_key(base, 0);
    struct pkeyguard_region *other = new_region(other_key);
    struct pkeyguard_guard guard;

    assert_open_for(base, other);
    ck_assert_int_eq(pkeyguard_acquire(other, asked, &guard), 0);
    assert_open_for(asked > base ? asked : base, other);
    pkeyguard_release(&guard);
    assert_open_for(base, other);
    ck_assert_int_eq(pkeyguard_restrict(other, asked, &guard), 0);
    assert_open_for(asked < base ? asked : base, other);
    pkeyguard_release(&guard);
    assert_open_for(base, other);
    ck_assert_int_eq(pkeyguard_key_acquire(other_key, asked, &guard), 0);
    assert_open_for(asked > base ? asked : base, other);
    ck_assert_int_eq(pkeyguard_key_rights(other_key), asked > base ? asked : base);
    pkeyguard_release(&guard);
    assert_open_for(base, other);
    destroy(other, other_key);
}
END_TEST

START_TEST(nested_guards_restore_rights_one_by_one)
{
    struct pkeyguard_guard read, write, nothing, again;

    read = acquire(region, PKEYGUARD_READ_ONLY);
    assert_open_for(PKEYGUARD_READ_ONLY, region);
    write = acquire(region, PKEYGUARD_READ_WRITE);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_NO_ACCESS, &nothing), 0);
    assert_open_for(pku() ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_WRITE, region);
    again = acquire(region, PKEYGUARD_READ_ONLY);
    assert_open_for(pku() ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&again);
    assert_open_for(pku() ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&nothing);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&write);
    assert_open_for(PKEYGUARD_READ_ONLY, region);
    pkeyguard_release(&read);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(restrict_inside_a_write_guard_leaves_reading)
{
    struct pkeyguard_guard write = acquire(region, PKEYGUARD_READ_WRITE), read_only;

    ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_READ_ONLY, &read_only), 0);
    assert_open_for(pku() ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&read_only);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&write);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

/*
 * Under mprotect a restrict guard narrows the rights of its own region only, and acquire guards add
 * to what it leaves.
 */
START_TEST(software_restrict_narrows_one_region)
{
    struct pkeyguard_key *open_key = new_key(PKEYGUARD_READ_WRITE, PKEYGUARD_KEY_SOFTWARE);
    struct pkeyguard_region *narrowed = new_region(open_key), *sibling = new_region(open_key);
    struct pkeyguard_guard to_read, to_nothing, write;

    ck_assert_int_eq(pkeyguard_restrict(narrowed, PKEYGUARD_READ_ONLY, &to_read), 0);
    ck_assert_int_eq(pkeyguard_restrict(narrowed, PKEYGUARD_NO_ACCESS, &to_nothing), 0);
    assert_open_for(PKEYGUARD_NO_ACCESS, narrowed);
    assert_open_for(PKEYGUARD_READ_WRITE, sibling);
    write = acquire(narrowed, PKEYGUARD_READ_WRITE);
    assert_open_for(PKEYGUARD_READ_WRITE, narrowed);
    pkeyguard_release(&write);
    pkeyguard_release(&to_nothing);
    assert_open_for(PKEYGUARD_READ_ONLY, narrowed);
    pkeyguard_release(&to_read);
    assert_open_for(PKEYGUARD_READ_WRITE, narrowed);
    destroy(narrowed, NULL);
    destroy(sibling, open_key);
}
END_TEST

/* Three guards of one key, released in any order, leave it closed. _i / 8 is the order. */
START_TEST(any_order_of_release_ends_closed)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    struct pkeyguard_guard guards[3];

    /* The bits of _i % 8 say which guards write. */
    for (int g = 0; g < 3; g++)
        guards[g] = acquire(region, _i >> g & 1 ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY);
    for (int g = 0; g < 3; g++)
        pkeyguard_release(&guards[orders[_i / 8][g]]);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

/* The rule of guard.h for a guard that is released after the one that opened the key. */
START_TEST(releasing_the_opener_closes_the_key)
{
    struct pkeyguard_guard opener = acquire(region, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard later = acquire(region, PKEYGUARD_READ_WRITE);

    pkeyguard_release(&opener);
    assert_open_for(pku() ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&later);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(guards_of_two_keys_interleave)
{
    struct pkeyguard_key *other_key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *other = new_region(other_key);
    struct pkeyguard_guard first = acquire(region, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard second = acquire(other, PKEYGUARD_READ_ONLY);

    pkeyguard_release(&first);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    assert_open_for(PKEYGUARD_READ_ONLY, other);
    first = acquire(region, PKEYGUARD_READ_ONLY);
    pkeyguard_release(&second);
    assert_open_for(PKEYGUARD_READ_ONLY, region);
    assert_open_for(PKEYGUARD_NO_ACCESS, other);
    pkeyguard_release(&first);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    assert_open_for(PKEYGUARD_NO_ACCESS, other);
    destroy(other, other_key);
}
END_TEST

/* A guard that restored the whole PKRU it had saved would undo the new key's default rights. */
START_TEST(key_created_inside_a_scope_keeps_its_rights)
{
    struct pkeyguard_key *created = NULL;
    struct pkeyguard_region *of_created = NULL;

    pkeyguard_scoped_write (int, number, region) {
        created = new_key(every_right[_i], 0);
        of_created = new_region(created);
        *number = 1;
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    assert_open_for(every_right[_i], of_created);
    destroy(of_created, created);
}
END_TEST

START_TEST(second_release_does_nothing)
{
    struct pkeyguard_guard outer = acquire(region, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard empty = {0}, inner = acquire(region, PKEYGUARD_READ_WRITE);

    pkeyguard_release(&empty);
    pkeyguard_release(&inner);
    pkeyguard_release(&inner);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&outer);
    inner = acquire(region, PKEYGUARD_READ_WRITE);
    pkeyguard_release(&outer);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&inner);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(release_keeps_errno)
{
    struct pkeyguard_guard guard = acquire(region, PKEYGUARD_READ_WRITE), narrow;

    ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_NO_ACCESS, &narrow), 0);
    errno = 4321;
    pkeyguard_release(&narrow);
    pkeyguard_release(&guard);
    ck_assert_int_eq(errno, 4321);
}
END_TEST

START_TEST(bad_arguments_leave_an_empty_guard)
{
    static const struct pkeyguard_guard zero;
    struct pkeyguard_guard guard;

#define assert_refused(call)                            \
    do {                                                \
        memset(&guard, 0x5a, sizeof(guard));            \
        ck_assert_int_eq(call, -EINVAL);                \
        ck_assert_mem_eq(&guard, &zero, sizeof(guard)); \
        pkeyguard_release(&guard);                      \
    } while (0)
    assert_refused(pkeyguard_acquire(NULL, PKEYGUARD_READ_ONLY, &guard));
    assert_refused(pkeyguard_restrict(NULL, PKEYGUARD_READ_ONLY, &guard));
    assert_refused(pkeyguard_key_acquire(NULL, PKEYGUARD_READ_ONLY, &guard));
    for (int rights = 0; rights <= 4; rights += 4) {
        assert_refused(pkeyguard_acquire(region, (enum pkeyguard_rights)rights, &guard));
        assert_refused(pkeyguard_restrict(region, (enum pkeyguard_rights)rights, &guard));
        assert_refused(pkeyguard_key_acquire(key, (enum pkeyguard_rights)rights, &guard));
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(key_guard_opens_every_region_of_the_key)
{
    struct pkeyguard_region *second = new_region(key), *third;
    struct pkeyguard_guard guard, inner;

    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_WRITE, &guard), 0);
    third = new_region(key);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    assert_open_for(PKEYGUARD_READ_WRITE, second);
    assert_open_for(PKEYGUARD_READ_WRITE, third);
    inner = acquire(second, PKEYGUARD_READ_ONLY);
    pkeyguard_release(&inner);
    assert_open_for(PKEYGUARD_READ_WRITE, second);
    pkeyguard_release(&guard);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    assert_open_for(PKEYGUARD_NO_ACCESS, second);
    assert_open_for(PKEYGUARD_NO_ACCESS, third);
    destroy(second, NULL);
    destroy(third, NULL);
}
END_TEST

START_TEST(nested_guard_does_not_write_pkru)
{
    struct pkeyguard_guard outer = acquire(region, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard inner = acquire(region, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard reader = acquire(region, PKEYGUARD_READ_ONLY);

    ck_assert_uint_eq(inner.cleared | inner.undo, 0);
    ck_assert_uint_eq(reader.cleared | reader.undo, 0);
    ck_assert_uint_ne(outer.cleared, 0);
    pkeyguard_release(&reader);
    pkeyguard_release(&inner);
    pkeyguard_release(&outer);
}
END_TEST

/*
 * Signal handlers, and threads older than the key, have access-disable set and write-disable clear.
 * Each kind of guard opens then, too, and restores exactly that.
 */
START_TEST(guard_restores_access_disable_alone)
{
    uint32_t ad = 1u << (2 * pkeyguard_key_number(key)), wd = 2 * ad;
    uint32_t start = (pkeyguard_pkru_read() | ad) & ~wd;
    struct pkeyguard_guard guard, inner;

    pkeyguard_pkru_write(start);
    guard = acquire(region, PKEYGUARD_READ_ONLY);
    assert_open_for(PKEYGUARD_READ_ONLY, region);
    inner = acquire(region, PKEYGUARD_READ_WRITE);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&inner);
    assert_open_for(PKEYGUARD_READ_ONLY, region);
    pkeyguard_release(&guard);
    ck_assert_uint_eq(pkeyguard_pkru_read(), start);
    guard = acquire(region, PKEYGUARD_READ_WRITE);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&guard);
    ck_assert_uint_eq(pkeyguard_pkru_read(), start);
    /* A restrict guard also sets write-disable, which marks that the program chose these rights. */
    ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_READ_ONLY, &guard), 0);
    ck_assert_uint_eq(pkeyguard_pkru_read(), start | wd);
    pkeyguard_release(&guard);
    ck_assert_uint_eq(pkeyguard_pkru_read(), start);
    for (int i = 0; i < 4; i++) {
        pkeyguard_scoped_restrict (narrowed, region,
                                   i % 2 == 0 ? PKEYGUARD_READ_ONLY : PKEYGUARD_NO_ACCESS) {
            ck_assert_uint_eq(pkeyguard_pkru_read(), start | wd);
            if (i < 2)
                continue;
            pkeyguard_release(&narrowed);
            ck_assert_uint_eq(pkeyguard_pkru_read(), start);
        }
        ck_assert_uint_eq(pkeyguard_pkru_read(), start);
    }
    /* Released out of order, both leave the key closed. */
    guard = acquire(region, PKEYGUARD_READ_ONLY);
    inner = acquire(region, PKEYGUARD_READ_WRITE);
    pkeyguard_release(&guard);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    pkeyguard_release(&inner);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(many_regions_are_held_at_once)
{
    enum { MANY = 400 }; /* more than fit into one page of the thread's own records */
    static struct pkeyguard_region *regions[MANY];
    static struct pkeyguard_guard guards[MANY];

    for (int i = 0; i < MANY; i++) {
        regions[i] = new_region(NULL);
        guards[i] = acquire(regions[i], PKEYGUARD_READ_WRITE);
    }
    for (int i = 0; i < MANY; i += 2)
        pkeyguard_release(&guards[i]);
    for (int i = 0; i < MANY; i++)
        assert_open_for(i % 2 ? PKEYGUARD_READ_WRITE : PKEYGUARD_NO_ACCESS, regions[i]);
    for (int i = 1; i < MANY; i += 2)
        pkeyguard_release(&guards[i]);
    for (int i = 0; i < MANY; i++)
        destroy(regions[i], NULL);
}
END_TEST

/* Software guards work when no thread-specific data key is left, and change no other's data. */
START_TEST(guards_use_no_thread_specific_data)
{
    static void *before[PTHREAD_KEYS_MAX];
    struct pkeyguard_region *software_one = new_region(NULL);
    struct pkeyguard_guard guard;
    pthread_key_t last;

    while (pthread_key_create(&last, NULL) == 0)
        ;
    for (unsigned i = 0; i < PTHREAD_KEYS_MAX; i++)
        before[i] = pthread_getspecific(i);
    guard = acquire(software_one, PKEYGUARD_READ_WRITE);
    for (unsigned i = 0; i < PTHREAD_KEYS_MAX; i++)
        ck_assert_ptr_eq(pthread_getspecific(i), before[i]);
    pkeyguard_release(&guard);
    destroy(software_one, NULL);
}
END_TEST

void add_guards(Suite *suite)
{
    TCase *tests = add_case(suite, "guards", set_up, tear_down);

    tcase_add_loop_test(tests, acquire_widens_and_restrict_narrows, 0, 9);
    tcase_add_test(tests, nested_guards_restore_rights_one_by_one);
    tcase_add_test(tests, restrict_inside_a_write_guard_leaves_reading);
    tcase_add_test(tests, software_restrict_narrows_one_region);
    tcase_add_loop_test(tests, any_order_of_release_ends_closed, 0, 48);
    tcase_add_test(tests, releasing_the_opener_closes_the_key);
    tcase_add_test(tests, guards_of_two_keys_interleave);
    tcase_add_loop_test(tests, key_created_inside_a_scope_keeps_its_rights, 0, 3);
    tcase_add_test(tests, second_release_does_nothing);
    tcase_add_test(tests, release_keeps_errno);
    tcase_add_test(tests, bad_arguments_leave_an_empty_guard);
    tcase_add_test(tests, key_guard_opens_every_region_of_the_key);
    add_pku_test(tests, nested_guard_does_not_write_pkru);
    add_pku_test(tests, guard_restores_access_disable_alone);
    tcase_add_test(tests, many_regions_are_held_at_once);
    tcase_add_test(tests, guards_use_no_thread_specific_data);
}
