/* SPDX-License-Identifier: MIT */
/* Copies in and out of a region. */
#include <errno.h>
#include <string.h>

#include "failing.h"
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

static int copy_into_itself(void *from)
{
    return pkeyguard_region_read(region, 0, from, 8);
}

/* A copy out of the region opens it for reading only: it cannot write there. */
START_TEST(copy_out_opens_for_reading)
{
    struct pkeyguard_fault fault;
    int result;

    ck_assert_int_eq(pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_RECOVER), 0);
    ck_assert_int_eq(pkeyguard_try_call(copy_into_itself, address_of(region) + 64, &result, &fault),
                     -EFAULT);
    ck_assert_int_eq(fault.access, PKEYGUARD_WRITE_ACCESS);
    ck_assert_int_eq(fault.offset, 64);
    ck_assert_int_eq(fault.rights, PKEYGUARD_READ_ONLY);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(copy_whose_guard_is_refused_copies_nothing)
{
    struct pkeyguard_region *software = new_region(NULL);
    char byte = 1;

    fail_call(CALL_MPROTECT, 0, ENOMEM, 1);
    ck_assert_int_eq(pkeyguard_region_read(software, 0, &byte, 1), -ENOMEM);
    ck_assert_int_eq(byte, 1);
    fail_call(CALL_MPROTECT, 0, ENOMEM, 1);
    ck_assert_int_eq(pkeyguard_region_write(software, 0, &byte, 1), -ENOMEM);
    ck_assert_int_eq(pkeyguard_region_read(software, 0, &byte, 1), 0);
    ck_assert_int_eq(byte, 0);
    destroy(software, NULL);
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
    /* ThreadSanitizer does not follow a jump out of a handler. */
    if (!under_tool("tsan"))
        tcase_add_test(tests, copy_out_opens_for_reading);
    tcase_add_test(tests, copy_whose_guard_is_refused_copies_nothing);
    tcase_add_test(tests, sizes_are_told_to_bindings);
}
