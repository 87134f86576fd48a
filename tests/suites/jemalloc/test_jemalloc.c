/* SPDX-License-Identifier: MIT */
/* Regions in blocks of jemalloc, the allocator that this program is linked with. */
#include <stdlib.h>
#include <string.h>

#include <jemalloc/jemalloc.h>

#include "support.h"

enum { BLOCKS = 8, BLOCK = 3 * PAGE_BYTES };

static void *new_block(size_t size)
{
    void *address = aligned_alloc(PAGE_BYTES, size);

    ck_assert_ptr_nonnull(address);
    return address;
}

START_TEST(allocator_is_jemalloc)
{
    const char *version = NULL;
    size_t size = sizeof(version);

    ck_assert_int_eq(mallctl("version", &version, &size, NULL, 0), 0);
    ck_assert_ptr_nonnull(version);
    /* jemalloc knows the blocks of aligned_alloc: it tells their sizes. */
    ck_assert_uint_ge(malloc_usable_size(new_block(BLOCK)), BLOCK);
    ck_assert_uint_eq(sallocx(new_block(PAGE_BYTES), 0), PAGE_BYTES);
}
END_TEST

/*
 * Neighbours of the blocks stay usable, and the allocator can resize and free each block
 * afterwards.
 */
START_TEST(blocks_are_adopted_and_given_back)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, _i);
    struct pkeyguard_region *regions[BLOCKS];
    char *blocks[BLOCKS], *between[BLOCKS];

    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < BLOCKS; i++) {
            blocks[i] = new_block(BLOCK);
            between[i] = new_block(PAGE_BYTES);
            memset(blocks[i], 'b', BLOCK);
            ck_assert_int_eq(pkeyguard_region_adopt(key, blocks[i], BLOCK, PAGE_RW, 0, &regions[i]),
                             0);
        }
        for (int i = 0; i < BLOCKS; i++) {
            assert_denied(READ_BYTE, blocks[i], key);
            assert_denied(WRITE_BYTE, blocks[i] + BLOCK - 1, key);
            memset(between[i], 'n', PAGE_BYTES);
            free(between[i]);
            pkeyguard_scoped_write (char[BLOCK], bytes, regions[i]) {
                ck_assert_int_eq((*bytes)[0], 'b');
                ck_assert_int_eq((*bytes)[BLOCK - 1], 'b');
                (*bytes)[1] = 'w';
            }
        }
        for (int i = 0; i < BLOCKS; i++) {
            ck_assert_int_eq(pkeyguard_region_destroy(regions[i]), 0);
            ck_assert_int_eq(blocks[i][1], 'w');
            blocks[i] = realloc(blocks[i], 2 * BLOCK);
            ck_assert_ptr_nonnull(blocks[i]);
            memset(blocks[i], 'r', 2 * BLOCK);
            free(blocks[i]);
        }
    }
    destroy(NULL, key);
}
END_TEST

/* A block that shares a page with other objects. */
START_TEST(parts_of_a_page_are_not_adopted)
{
    struct pkeyguard_region *region = NULL;
    char *small = malloc(100), *odd = aligned_alloc(64, BLOCK);

    ck_assert_int_eq(pkeyguard_region_adopt(NULL, small, 100, PAGE_RW, 0, &region), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_adopt(NULL, odd + 64, BLOCK, PAGE_RW, 0, &region), -EINVAL);
    ck_assert_ptr_null(region);
    memset(small, 1, 100);
    memset(odd, 1, BLOCK);
    free(small);
    free(odd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("jemalloc");
    TCase *tests = add_case(suite, "jemalloc", NULL, NULL);

    tcase_add_test(tests, allocator_is_jemalloc);
    /* With no flag, and with PKEYGUARD_KEY_SOFTWARE, which is 2. */
    tcase_add_test(tests, blocks_are_adopted_and_given_back);
    tcase_add_loop_test(tests, blocks_are_adopted_and_given_back, 2, 3);
    tcase_add_test(tests, parts_of_a_page_are_not_adopted);
    return run_suite(suite);
}
