/* SPDX-License-Identifier: MIT */
/* The inaccessible pages around a region. */
#include <unistd.h>

#include "test_region.h"

START_TEST(access_beyond_either_end_faults)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = region_with_flags(key, PAGE_BYTES + 1, each_flag[_i]);
    char *address = address_of(region);
    pid_t child;

    ck_assert_uint_eq(pkeyguard_region_size(region), PAGE_BYTES + 1);
    assert_guard_pages(region, each_flag[_i], false);
    for (int round = 0; round < 2; round++) {
        pkeyguard_scoped_write (char[PAGE_BYTES + 1], bytes, region) {
            assert_guard_pages(region, each_flag[_i], true);
            assert_allowed(WRITE_BYTE, *bytes);
            assert_allowed(WRITE_BYTE, address + 2 * PAGE_BYTES - 1);
        }
        assert_guard_pages(region, each_flag[_i], false);
        ck_assert_int_eq(pkeyguard_region_associate(region, NULL), 0);
    }
    if (each_flag[_i] != PKEYGUARD_REGION_NO_FORK && each_flag[_i] != PKEYGUARD_REGION_SECRET) {
        child = fork();
        if (child == 0) {
            pkeyguard_scoped_write (char, byte, region) {
                assert_allowed(WRITE_BYTE, byte);
                assert_guard_pages(region, each_flag[_i], true);
            }
            _exit(0);
        }
        assert_exits(child, 0);
    }
    destroy(region, key);
}
END_TEST

/*
 * Where guard pages are inside, a region is one mapping, and neighbours do not merge with it or
 * split it.
 */
START_TEST(region_takes_few_mappings)
{
    enum { MANY = 8 };
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, _i & PKEYGUARD_KEY_SOFTWARE);
    struct resources before = count_resources();
    struct pkeyguard_region *regions[MANY];

    for (int i = 0; i < MANY; i++)
        regions[i] =
            region_with_flags(key, PAGE_BYTES, _i % 2 == 0 ? 0 : PKEYGUARD_REGION_DUMPABLE);
    /* Not under a tool: valgrind places mappings as it likes. */
    for (int i = 0; i < MANY && guard_pages_inside(0) && !under_tool(NULL); i++) {
        ck_assert_int_eq(bytes_of_mapping(address_of(regions[i])), 3 * PAGE_BYTES);
        pkeyguard_scoped_write (char, byte, regions[i]) {
            *byte = 1;
            ck_assert_int_eq(bytes_of_mapping(byte), 3 * PAGE_BYTES);
        }
        ck_assert_int_eq(pkeyguard_region_name(regions[i], "one of many"), 0);
        ck_assert_int_eq(bytes_of_mapping(address_of(regions[i])), 3 * PAGE_BYTES);
    }
    ck_assert_int_le(count_resources().mappings - before.mappings,
                     guard_pages_inside(0) ? MANY : 3 * MANY);
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(pkeyguard_region_destroy(regions[i]), 0);
    assert_resources(before);
    destroy(NULL, key);
}
END_TEST

START_TEST(region_without_guard_pages_is_one_mapping)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region;

    ck_assert_int_eq(pkeyguard_region_create(key, 8 * PAGE_BYTES, PAGE_RW,
                                             PKEYGUARD_REGION_NO_GUARD_PAGES, &region),
                     0);
    ck_assert_int_eq(bytes_of_mapping(address_of(region)), 8 * PAGE_BYTES);
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    destroy(NULL, key);
}
END_TEST

void add_guard_pages(Suite *suite)
{
    TCase *tests = add_case(suite, "guard pages", NULL, NULL);

    tcase_add_loop_test(tests, access_beyond_either_end_faults, 0, supported_flags());
    /* With no flag and with PKEYGUARD_KEY_SOFTWARE, not dumpable and dumpable. */
    tcase_add_loop_test(tests, region_takes_few_mappings, 0, 4);
    tcase_add_test(tests, region_without_guard_pages_is_one_mapping);
}
