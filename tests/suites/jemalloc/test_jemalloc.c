/* SPDX-License-Identifier: MIT */
/* Blocks of another allocator, the one this program is linked with, belong to a key for a while. */
#include <stdlib.h>
#include <string.h>

#include <jemalloc/jemalloc.h>

#include "support.h"

enum { BLOCKS = 8, BLOCK = 3 * PAGE_BYTES };

static void *block(size_t size)
{
    void *address = aligned_alloc(PAGE_BYTES, size);

    ck_assert_ptr_nonnull(address);
    return address;
}

START_TEST(the_allocator_is_jemalloc)
{
    const char *version = NULL;
    size_t size = sizeof(version);

    ck_assert_int_eq(mallctl("version", &version, &size, NULL, 0), 0);
    ck_assert_ptr_nonnull(version);
    /* It gave what aligned_alloc gives: it knows the block's size class. */
    ck_assert_uint_ge(malloc_usable_size(block(BLOCK)), BLOCK);
    ck_assert_uint_eq(sallocx(block(PAGE_BYTES), 0), PAGE_BYTES);
}
END_TEST

/* Neighbours stay usable, and the allocator takes every block back and hands it out again. */
START_TEST(blocks_join_a_key_and_leave_it)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, _i);
    struct pkeyguard_region *regions[BLOCKS];
    char *blocks[BLOCKS], *between[BLOCKS];

    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < BLOCKS; i++) {
            blocks[i] = block(BLOCK);
            between[i] = block(PAGE_BYTES);
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

/* Smaller than a page, or inside one, it is another object's memory too. */
START_TEST(parts_of_a_page_are_refused)
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
    TCase *tests = tcase_create("jemalloc");

    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 20);
    tcase_add_test(tests, the_allocator_is_jemalloc);
    /* With no flag and with PKEYGUARD_KEY_SOFTWARE. */
    tcase_add_test(tests, blocks_join_a_key_and_leave_it);
    tcase_add_loop_test(tests, blocks_join_a_key_and_leave_it, 2, 3);
    tcase_add_test(tests, parts_of_a_page_are_refused);
    return run_suite(suite);
}
