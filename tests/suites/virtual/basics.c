/* SPDX-License-Identifier: MIT */
/* Virtual keys, whether PKU or mprotect enforces them. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "failing.h"
#include "test_virtual.h"

START_TEST(contradictory_flags_and_rights_are_refused)
{
    static const struct {
        enum pkeyguard_rights rights;
        unsigned flags;
    } bad[] = {
        {PKEYGUARD_READ_ONLY, PKEYGUARD_KEY_VIRTUAL},
        {PKEYGUARD_READ_WRITE, PKEYGUARD_KEY_VIRTUAL},
        {PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL | PKEYGUARD_KEY_HARDWARE},
        {PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL | PKEYGUARD_KEY_SOFTWARE},
        {PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL | PKEYGUARD_KEY_OPTIONAL},
    };
    struct pkeyguard_key *none = NULL;

    ck_assert_int_eq(pkeyguard_key_create(bad[_i].rights, bad[_i].flags, &none), -EINVAL);
    ck_assert_ptr_null(none);
}
END_TEST

START_TEST(set_rights_is_refused)
{
    for (int rights = PKEYGUARD_NO_ACCESS; rights <= PKEYGUARD_READ_WRITE; rights++)
        ck_assert_int_eq(pkeyguard_key_set_rights(keys[0], (enum pkeyguard_rights)rights), -EINVAL);
    ck_assert_int_eq(pkeyguard_key_rights(keys[0]), PKEYGUARD_NO_ACCESS);
    assert_closed(0);
}
END_TEST

START_TEST(more_keys_than_pkeys_all_work)
{
    ck_assert_int_eq(pkeyguard_key_enforcement(keys[0]), test_enforcement());
    assert_all_closed();
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < KEYS; i++) {
            pkeyguard_scoped_write (int, number, regions[i]) {
                if (round > 0)
                    ck_assert_int_eq(*number, 1000 * (round - 1) + i);
                *number = 1000 * round + i;
                assert_allowed(WRITE_BYTE, address_of(regions[i]));
                *number = 1000 * round + i;
            }
            assert_closed(i);
        }
        assert_all_closed();
        for (int i = 0; i < KEYS; i++) {
            pkeyguard_scoped_read (int, number, regions[i]) {
                ck_assert_int_eq(*number, 1000 * round + i);
                assert_denied(WRITE_BYTE, address_of(regions[i]), keys[i]);
            }
            ck_assert_int_eq(pkeyguard_key_rights(keys[i]), PKEYGUARD_NO_ACCESS);
        }
    }
}
END_TEST

START_TEST(thousands_of_keys_work)
{
    make_keys(MANY);
    for (int i = 0; i < MANY; i += 7) {
        pkeyguard_scoped_write (int, number, regions[i])
            *number = i;
    }
    for (int i = 0; i < MANY; i += 7) {
        pkeyguard_scoped_read (int, number, regions[i])
            ck_assert_int_eq(*number, i);
        assert_closed(i);
    }
    destroy_keys(MANY);
}
END_TEST

START_TEST(nested_guards_widen_and_narrow)
{
    struct pkeyguard_guard read, write, again, narrow;

    ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_ONLY, &read), 0);
    assert_denied(WRITE_BYTE, address_of(regions[0]), keys[0]);
    ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_WRITE, &write), 0);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    ck_assert_int_eq(pkeyguard_key_acquire(keys[0], PKEYGUARD_READ_ONLY, &again), 0);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    ck_assert_int_eq(pkeyguard_restrict(regions[0], PKEYGUARD_READ_ONLY, &narrow), 0);
    assert_allowed(READ_BYTE, address_of(regions[0]));
    if (pku())
        assert_denied(WRITE_BYTE, address_of(regions[0]), keys[0]);
    pkeyguard_release(&narrow);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    pkeyguard_release(&again);
    pkeyguard_release(&write);
    assert_allowed(READ_BYTE, address_of(regions[0]));
    assert_denied(WRITE_BYTE, address_of(regions[0]), keys[0]);
    pkeyguard_release(&read);
    assert_closed(0);
    pkeyguard_release(&read);
    assert_closed(0);
}
END_TEST

/*
 * Three guards of one key, released in any order, leave it closed and pin nothing: the key can be
 * destroyed. _i / 8 is the order, the bits of _i % 8 say which guards write.
 */
START_TEST(any_order_of_release_ends_closed)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

    for (int g = 0; g < 3; g++)
        ck_assert_int_eq(pkeyguard_acquire(regions[0],
                                           _i >> g & 1 ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY,
                                           &guards[g]),
                         0);
    for (int g = 0; g < 3; g++)
        pkeyguard_release(&guards[orders[_i / 8][g]]);
    assert_closed(0);
    destroy(regions[0], keys[0]);
    keys[0] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    regions[0] = new_region(keys[0]);
}
END_TEST

START_TEST(restrict_narrows_open_rights)
{
    struct pkeyguard_guard nothing, inner;
    enum pkeyguard_rights base = _i ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY;

    ck_assert_int_eq(pkeyguard_restrict(regions[0], PKEYGUARD_READ_ONLY, &nothing), 0);
    assert_closed(0);
    pkeyguard_release(&nothing);
    ck_assert_int_eq(acquire(0, base), 0);
    ck_assert_int_eq(pkeyguard_restrict(regions[0], PKEYGUARD_NO_ACCESS, &nothing), 0);
    if (pku()) {
        ck_assert_int_eq(pkeyguard_key_rights(keys[0]), PKEYGUARD_NO_ACCESS);
        ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_ONLY, &inner), 0);
        assert_allowed(READ_BYTE, address_of(regions[0]));
        assert_denied(WRITE_BYTE, address_of(regions[0]), keys[0]);
        pkeyguard_release(&inner);
        assert_denied(READ_BYTE, address_of(regions[0]), keys[0]);
    }
    pkeyguard_release(&nothing);
    assert_allowed(READ_BYTE, address_of(regions[0]));
    if (_i)
        assert_allowed(WRITE_BYTE, address_of(regions[0]));
    else
        assert_denied(WRITE_BYTE, address_of(regions[0]), keys[0]);
    pkeyguard_release(&guards[0]);
    assert_closed(0);
}
END_TEST

/* In both orders: the guards inside a restrict guard may be released in any order. */
START_TEST(end_of_restrict_gives_back_what_it_took)
{
    struct pkeyguard_guard nothing, inner[2];

    open_and_close(1); /* its pkey is now closed by both bits */
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    ck_assert_int_eq(pkeyguard_restrict(regions[0], PKEYGUARD_NO_ACCESS, &nothing), 0);
    ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_ONLY, &inner[0]), 0);
    ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_WRITE, &inner[1]), 0);
    pkeyguard_release(&inner[_i]);
    pkeyguard_release(&inner[1 - _i]);
    pkeyguard_release(&nothing);
    assert_allowed(READ_BYTE, address_of(regions[0]));
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    pkeyguard_release(&guards[0]);
    assert_closed(0);
}
END_TEST

/*
 * The destruction of a region opens and closes the key. No other pkey of the thread has both deny
 * bits set.
 */
START_TEST(restrict_holds_after_a_narrower_one_in_it)
{
    struct pkeyguard_region *other = new_region(keys[0]);
    struct pkeyguard_guard to_read, to_nothing;

    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    assert_allowed(WRITE_BYTE, address_of(other));
    ck_assert_int_eq(pkeyguard_restrict(regions[0], PKEYGUARD_READ_ONLY, &to_read), 0);
    ck_assert_int_eq(pkeyguard_restrict(regions[0], PKEYGUARD_NO_ACCESS, &to_nothing), 0);
    ck_assert_int_eq(pkeyguard_region_destroy(other), 0);
    assert_denied(READ_BYTE, address_of(regions[0]), keys[0]);
    pkeyguard_release(&to_nothing);
    assert_allowed(READ_BYTE, address_of(regions[0]));
    assert_denied(WRITE_BYTE, address_of(regions[0]), keys[0]);
    pkeyguard_release(&to_read);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    pkeyguard_release(&guards[0]);
    assert_closed(0);
}
END_TEST

START_TEST(bad_arguments_are_refused)
{
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_acquire(regions[0], (enum pkeyguard_rights)0, &guard), -EINVAL);
    ck_assert_int_eq(pkeyguard_acquire(regions[0], (enum pkeyguard_rights)4, &guard), -EINVAL);
    ck_assert_uint_eq(guard.cleared | guard.undo, 0);
    ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_NO_ACCESS, &guard), 0);
    ck_assert_uint_eq(guard.cleared | guard.undo, 0);
    pkeyguard_release(&guard);
    errno = 0;
    pkeyguard_try_scoped_read (char[2 * PAGE_BYTES], whole, regions[0]) {
        ck_abort_msg("larger than the region");
    } else {
        ck_assert_int_eq(errno, EINVAL);
    }
    assert_closed(0);
}
END_TEST

/* A key is destroyed when its guards are released, bound or not; until then that is -EBUSY. */
START_TEST(key_with_an_open_guard_is_not_destroyed)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_key_destroy(keys[0]), -EBUSY);
    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &guard), 0);
    ck_assert_int_eq(pkeyguard_key_destroy(key), -EBUSY);
    ck_assert_int_eq(pkeyguard_key_rights(key), PKEYGUARD_READ_ONLY);
    pkeyguard_release(&guard);
    ck_assert_int_eq(pkeyguard_key_destroy(key), 0);
    for (int i = 0; i < KEYS; i++)
        open_and_close(i);
}
END_TEST

START_TEST(region_moves_between_keys)
{
    struct pkeyguard_region *more;
    struct pkeyguard_key *dedicated = new_key(PKEYGUARD_NO_ACCESS, 0);
    int content = 77;

    if (_i) /* the key is bound; else it is not */
        open_and_close(0);
    ck_assert_int_eq(
        pkeyguard_region_create_with(keys[0], &content, sizeof(content), PROT_READ, 0, &more), 0);
    assert_denied(READ_BYTE, address_of(more), keys[0]);
    if (!_i) {
        for (int i = 1; i < KEYS; i++)
            open_and_close(i);
    }
    pkeyguard_scoped_read (int, number, more) {
        ck_assert_int_eq(*number, 77);
        if (pku())
            assert_allowed(READ_BYTE, address_of(regions[0]));
        ck_assert(try_access(WRITE_BYTE, address_of(more)).happened);
    }
    ck_assert_int_eq(pkeyguard_region_protect(more, PAGE_RW), 0);
    pkeyguard_scoped_write (int, number, more)
        *number = 78;
    if (!_i) {
        for (int i = 1; i < KEYS; i++)
            open_and_close(i);
    }
    ck_assert_int_eq(pkeyguard_region_protect(more, PROT_READ), 0);
    ck_assert_int_eq(pkeyguard_region_associate(more, keys[1]), 0);
    ck_assert_ptr_eq(pkeyguard_region_key(more), keys[1]);
    pkeyguard_scoped_write (int, other, regions[0]) {
        *other = 1;
        ck_assert(try_access(READ_BYTE, address_of(more)).happened);
    }
    pkeyguard_scoped_read (int, number, more)
        ck_assert_int_eq(*number, 78);
    ck_assert_int_eq(pkeyguard_region_associate(more, dedicated), 0);
    assert_denied(READ_BYTE, address_of(more), dedicated);
    pkeyguard_scoped_read (int, number, more)
        ck_assert_int_eq(*number, 78);
    ck_assert_int_eq(pkeyguard_region_associate(more, keys[2]), 0);
    ck_assert_int_eq(pkeyguard_region_associate(more, NULL), 0);
    pkeyguard_scoped_read (int, number, more)
        ck_assert_int_eq(*number, 78);
    ck_assert_int_eq(pkeyguard_region_associate(more, keys[2]), 0);
    pkeyguard_scoped_read (int, number, more)
        ck_assert_int_eq(*number, 78);
    destroy(more, dedicated);
}
END_TEST

/* Also if they have no page rights, which a key without a pkey gives them anyway. */
START_TEST(region_of_a_dedicated_key_loses_its_pkey)
{
    struct pkeyguard_key *dedicated = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *moved = new_region(dedicated);

    ck_assert_int_eq(pkeyguard_region_protect(moved, PROT_NONE), 0);
    ck_assert_int_eq(pkey_of_mapping(address_of(moved)), pkeyguard_key_number(dedicated));
    ck_assert_int_eq(pkeyguard_region_associate(moved, keys[0]), 0);
    ck_assert_int_eq(pkey_of_mapping(address_of(moved)), 0);
    destroy(moved, dedicated);
}
END_TEST

START_TEST(acquire_all_opens_all_or_nothing)
{
    enum pkeyguard_rights rights[KEYS];
    struct pkeyguard_key *other = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *mixed[] = {regions[0], new_region(other), new_region(NULL), regions[1],
                                        regions[0]};
    enum { MIXED = sizeof(mixed) / sizeof(*mixed) };

    for (int i = 0; i < KEYS; i++)
        rights[i] = i % 2 ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE;
    ck_assert_int_eq(pkeyguard_acquire_all(MIXED, mixed, rights, guards), 0);
    assert_allowed(WRITE_BYTE, address_of(mixed[0]));
    assert_allowed(READ_BYTE, address_of(mixed[1]));
    assert_denied(WRITE_BYTE, address_of(mixed[1]), other);
    assert_allowed(WRITE_BYTE, address_of(mixed[2]));
    assert_allowed(READ_BYTE, address_of(mixed[3]));
    for (int i = 0; i < MIXED; i++)
        pkeyguard_release(&guards[MIXED - 1 - i]);
    assert_all_closed();
    ck_assert_int_eq(pkeyguard_acquire_all(0, NULL, NULL, NULL), 0);

    memset(guards, 0x5a, sizeof(*guards) * MIXED);
    mixed[4] = NULL;
    ck_assert_int_eq(pkeyguard_acquire_all(MIXED, mixed, rights, guards), -EINVAL);
    rights[4] = (enum pkeyguard_rights)0;
    mixed[4] = regions[4];
    ck_assert_int_eq(pkeyguard_acquire_all(MIXED, mixed, rights, guards), -EINVAL);
    for (int i = 0; i < MIXED; i++)
        ck_assert_uint_eq(guards[i].cleared | guards[i].undo, 0);
    /* The guard on the third region, which has no key, needs mprotect(2). */
    fail_call(CALL_MPROTECT, 0, ENOMEM, 1);
    ck_assert_int_eq(pkeyguard_acquire_all(4, mixed, rights, guards), -ENOMEM);
    ck_assert(stop_failing());
    for (int i = 0; i < MIXED; i++)
        ck_assert_uint_eq(guards[i].cleared | guards[i].undo, 0);
    assert_all_closed();
    assert_denied(READ_BYTE, address_of(mixed[1]), other);
    assert_denied(READ_BYTE, address_of(mixed[2]), NULL);
    destroy(mixed[1], other);
    destroy(mixed[2], NULL);
}
END_TEST

START_TEST(registering_twice_is_fine)
{
    ck_assert_int_eq(pkeyguard_thread_register(), 0);
    ck_assert_int_eq(pkeyguard_thread_register(), 0);
}
END_TEST

void add_basics(Suite *suite)
{
    TCase *tests = add_case(suite, "basics", set_up_keys, tear_down_keys);
    TCase *many = add_case(suite, "many keys", NULL, NULL);

    tcase_add_loop_test(tests, contradictory_flags_and_rights_are_refused, 0, 5);
    tcase_add_test(tests, set_rights_is_refused);
    tcase_add_test(tests, more_keys_than_pkeys_all_work);
    tcase_add_test(tests, nested_guards_widen_and_narrow);
    tcase_add_loop_test(tests, any_order_of_release_ends_closed, 0, 48);
    tcase_add_loop_test(tests, restrict_narrows_open_rights, 0, 2);
    tcase_add_loop_test(tests, end_of_restrict_gives_back_what_it_took, 0, 2);
    add_pku_test(tests, restrict_holds_after_a_narrower_one_in_it);
    tcase_add_test(tests, bad_arguments_are_refused);
    tcase_add_test(tests, key_with_an_open_guard_is_not_destroyed);
    tcase_add_loop_test(tests, region_moves_between_keys, 0, 2);
    add_pku_test(tests, region_of_a_dedicated_key_loses_its_pkey);
    tcase_add_test(tests, acquire_all_opens_all_or_nothing);
    tcase_add_test(tests, registering_twice_is_fine);
    tcase_add_test(many, thousands_of_keys_work);
}
