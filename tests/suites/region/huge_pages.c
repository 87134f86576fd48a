/* SPDX-License-Identifier: MIT */
/* Large regions: aligned for huge pages, and PKEYGUARD_REGION_HUGE_PAGES, which asks for them. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "place.h"
#include "test_region.h"

enum { TWO_MIB = 2 << 20 };

/* The process's address space in pages (proc(5), /proc/PID/statm). */
static long address_space(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long pages;

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(fscanf(file, "%ld", &pages), 1);
    fclose(file);
    return pages;
}

static bool address_space_is_known(void)
{
    return MALLOC_IS_IN_HEAP && !under_tool(NULL);
}

static bool is_aligned(const struct pkeyguard_region *region)
{
    return (uintptr_t)address_of(region) % TWO_MIB == 0;
}

/* What the library reserves to align a region is unmapped again. */
START_TEST(region_of_2_mib_or_more_is_aligned)
{
    static const size_t sizes[] = {TWO_MIB - PAGE_BYTES + 1, TWO_MIB, TWO_MIB + 1, 2 * TWO_MIB - 1};
    unsigned more_flags = _i % 2 == 0 ? 0 : PKEYGUARD_REGION_NO_GUARD_PAGES;
    unsigned flags = each_flag[_i / 2] | more_flags;
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct resources before = count_resources();
    long guard_pages = more_flags == 0 ? 2 : 0;

    for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(*sizes); i += in_guest() ? 3 : 1) {
        size_t size = sizes[i / 2];
        long pages = (long)((size + PAGE_BYTES - 1) / PAGE_BYTES), had = address_space();
        struct pkeyguard_region *region = region_with_flags(key, size, flags);

        ck_assert(is_aligned(region));
        if (address_space_is_known())
            ck_assert_int_eq(address_space(), had + pages + guard_pages);
        if (guard_pages != 0)
            assert_guard_pages(region, flags, false);
        pkeyguard_scoped_write (char, bytes, region) {
            bytes[0] = bytes[size - 1] = 'l';
        }
        assert_denied(READ_BYTE, address_of(region) + size - 1, key);
        ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
        if (address_space_is_known())
            ck_assert_int_eq(address_space(), had);
    }
    assert_resources(before);
    destroy(NULL, key);
}
END_TEST

/* Of two of the same kind one may be aligned by chance, beside the other one. */
START_TEST(smaller_region_and_plain_heap_are_not_aligned)
{
    struct pkeyguard_region *first = region_with_flags(NULL, TWO_MIB / 2, 0);
    struct pkeyguard_region *second = region_with_flags(NULL, TWO_MIB / 2, 0);
    struct pkeyguard_heap *heap, *other;

    ck_assert(!is_aligned(first) || !is_aligned(second));
    ck_assert_int_eq(pkeyguard_heap_create(NULL, 2 * TWO_MIB, 0, &heap), 0);
    ck_assert_int_eq(pkeyguard_heap_create(NULL, 2 * TWO_MIB, 0, &other), 0);
    ck_assert(!is_aligned(pkeyguard_heap_region(heap)) ||
              !is_aligned(pkeyguard_heap_region(other)));
    ck_assert_int_eq(pkeyguard_heap_destroy(heap), 0);
    ck_assert_int_eq(pkeyguard_heap_destroy(other), 0);
    ck_assert_int_eq(pkeyguard_heap_create(NULL, TWO_MIB, PKEYGUARD_REGION_HUGE_PAGES, &heap), 0);
    ck_assert(is_aligned(pkeyguard_heap_region(heap)));
    ck_assert(has_vm_flag(address_of(pkeyguard_heap_region(heap)), " hg"));
    ck_assert_ptr_nonnull(pkeyguard_heap_alloc(heap, 100));
    ck_assert_int_eq(pkeyguard_heap_destroy(heap), 0);
    destroy(first, NULL);
    destroy(second, NULL);
}
END_TEST

START_TEST(flag_advises_the_kernel)
{
    struct pkeyguard_region *region = region_with_flags(NULL, PAGE_BYTES, each_flag[_i]);

    ck_assert(has_vm_flag(address_of(region), " hg") ==
              (each_flag[_i] == PKEYGUARD_REGION_HUGE_PAGES));
    if (guard_pages_inside(each_flag[_i]))
        ck_assert_int_eq(bytes_of_mapping(address_of(region)), 3 * PAGE_BYTES);
    destroy(region, NULL);
}
END_TEST

static int huge_kilobytes(const void *address)
{
    char text[64];

    read_smaps(address, "AnonHugePages:", text, sizeof(text));
    return atoi(text);
}

/*
 * Two huge pages, and small pages behind them. They stay while the region is opened and closed and
 * its key changes. They are counted while it is open: some kernels do not count pages without
 * rights.
 */
static void check_huge_pages(struct pkeyguard_key *key, unsigned more_flags)
{
    size_t size = 2 * TWO_MIB + 3 * PAGE_BYTES;
    struct pkeyguard_region *region =
        region_with_flags(key, size, PKEYGUARD_REGION_HUGE_PAGES | more_flags);

    for (int round = 0; round < 3; round++) {
        pkeyguard_scoped_write (char, bytes, region) {
            memset(bytes, 'h' + round, size);
            ck_assert_int_eq(huge_kilobytes(bytes), 4096);
        }
        assert_denied(READ_BYTE, address_of(region) + TWO_MIB, pkeyguard_region_key(region));
        ck_assert_int_eq(pkeyguard_region_associate(region, round == 0 ? NULL : key), 0);
    }
    assert_guard_pages(region, more_flags, false);
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
}

START_TEST(huge_pages_serve_a_region)
{
    static const unsigned kinds[] = {0, PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_VIRTUAL};
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, kinds[_i]);

    check_huge_pages(key, 0);
    check_huge_pages(key, PKEYGUARD_REGION_LOCKED);
    destroy(NULL, key);
}
END_TEST

static bool huge_pages_are_on(void)
{
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    char setting[64] = "[never]"; /* "always [madvise] never": the one in brackets */

    if (file != NULL) {
        (void)!fgets(setting, sizeof(setting), file);
        fclose(file);
    }
    return strstr(setting, "[never]") == NULL;
}

void add_huge_pages(Suite *suite)
{
    TCase *tests = add_case(suite, "huge pages", NULL, NULL);

    tcase_add_loop_test(tests, region_of_2_mib_or_more_is_aligned, 0, 2 * supported_flags());
    tcase_add_test(tests, smaller_region_and_plain_heap_are_not_aligned);
    tcase_add_loop_test(tests, flag_advises_the_kernel, 0, supported_flags());
    add_loop_test_if(huge_pages_are_on(), "transparent huge pages are off", tests,
                     huge_pages_serve_a_region, 0, 3);
}
