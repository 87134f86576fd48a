/* SPDX-License-Identifier: MIT */
/* Copies in and out of a region. */
#include <errno.h>
#include <string.h>

#include "test_guard.h"

START_TEST(copies_go_in_and_out_and_leave_nothing_open)
{
    char text[] = "secret", read[sizeof(text)] = "";

    ck_assert_int_eq(pkeyguard_region_write(region, 4, text, sizeof(text)), 0);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    ck_assert_int_eq(pkeyguard_region_read(region, 4, read, sizeof(read)), 0);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    ck_assert_str_eq(read, text);
    pkeyguard_scoped_read (char, start, region) {
        ck_assert_int_eq(start[3], 0);
        ck_assert_str_eq(start + 4, text);
        ck_assert_int_eq(pkeyguard_region_read(region, 5, read, 2), 0);
        assert_open_for(PKEYGUARD_READ_ONLY, region);
    }
    ck_assert_int_eq(memcmp(read, "ec", 2), 0);
}
END_TEST

/* Under mprotect, page rights without PROT_WRITE are a fault like any other; no copy begins here.
 */
START_TEST(copies_outside_the_region_are_refused)
{
    size_t size = pkeyguard_region_size(region);
    char byte = 1;

    ck_assert_int_eq(pkeyguard_region_read(NULL, 0, &byte, 1), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_read(region, 0, NULL, 1), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_read(region, size, &byte, 1), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_read(region, (size_t)-1, &byte, 2), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_read(region, 1, &byte, (size_t)-1), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_write(region, size, &byte, 1), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_write(region, 0, NULL, 1), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_read(region, size, NULL, 0), 0);
    ck_assert_int_eq(pkeyguard_region_write(region, size, NULL, 0), 0);
    ck_assert_int_eq(pkeyguard_region_write(region, size - 1, &byte, 1), 0);
    ck_assert_int_eq(pkeyguard_region_read(region, size - 1, &byte, 1), 0);
    ck_assert_int_eq(byte, 1);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(sizes_are_told_to_bindings)
{
    ck_assert_uint_eq(pkeyguard_guard_size(), sizeof(struct pkeyguard_guard));
    ck_assert_uint_eq(pkeyguard_thread_rights_size(), sizeof(struct pkeyguard_thread_rights));
}
END_TEST

void add_copies(Suite *suite)
{
    TCase *tests = add_case(suite, "copies", set_up, tear_down);

    tcase_add_test(tests, copies_go_in_and_out_and_leave_nothing_open);
    tcase_add_test(tests, copies_outside_the_region_are_refused);
    tcase_add_test(tests, sizes_are_told_to_bindings);
}
