/* SPDX-License-Identifier: MIT */
/* Opening and closing a region: guards, and what programs use instead. */
#include "bench.h"

#include <sodium.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include <pkeyguard.h>

enum { PAGE = 4096, MANY_PAGES = 256, MOST_PAGES = 1024, PAGE_RW = PROT_READ | PROT_WRITE };

static struct pkeyguard_key *key;
static struct pkeyguard_region *region, *one_page, *many_pages;
static struct pkeyguard_guard outer, outer_of_key;
static int key_number;
static uint32_t deny_bits;
static volatile int *number, *page, *pages; /* the start of region, one_page, many_pages */
static volatile int plain;
static volatile int *volatile plain_pointer = &plain; /* loaded for each access, as a region's is */

/*
 * The baseline: the one access that each operation makes too. Its loop is not unrolled, because the
 * loops of the operations are too large for it.
 */
static void store(unsigned count)
{
#pragma GCC unroll 1
    for (unsigned i = 0; i < count; i++) {
        *plain_pointer = 1;
    }
}

static void write_scope(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pkeyguard_scoped_write (volatile int, object, region) {
            *object = 1;
        }
    }
}

static void read_scope(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pkeyguard_scoped_read (volatile int, object, region) {
            (void)*object;
        }
    }
}

static void auto_guard(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pkeyguard_auto_write(volatile int, object, region);

        *object = 1;
    }
}

static void bare_guard(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct pkeyguard_guard guard;

        if (pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard) == 0)
            *number = 1;
        pkeyguard_release(&guard);
    }
}

static void key_scope(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pkeyguard_scoped_key_write (guard, key) {
            *number = 1;
        }
    }
}

static void by_hand(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        __asm__ volatile("rdpkru\n\tandl %0, %%eax\n\twrpkru"
                         :
                         : "r"(~deny_bits), "c"(0)
                         : "eax", "edx", "cc", "memory");
        *number = 1;
        __asm__ volatile("rdpkru\n\torl %0, %%eax\n\twrpkru"
                         :
                         : "r"(deny_bits), "c"(0)
                         : "eax", "edx", "cc", "memory");
    }
}

static void glibc_pair(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pkey_set(key_number, 0);
        *number = 1;
        pkey_set(key_number, PKEY_DISABLE_ACCESS | PKEY_DISABLE_WRITE);
    }
}

static void mprotect_pair(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        mprotect((void *)page, PAGE, PAGE_RW);
        *page = 1;
        mprotect((void *)page, PAGE, PROT_NONE);
    }
}

static void mprotect_pair_on_many(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        mprotect((void *)pages, MANY_PAGES * PAGE, PAGE_RW);
        *pages = 1;
        mprotect((void *)pages, MANY_PAGES * PAGE, PROT_NONE);
    }
}

static const struct bench_row closed_rows[] = {
    {"write scope", write_scope, .writes = 2, .at_most = 18},
    {"read scope", read_scope, .writes = 2, .at_most = 19},
    {"auto guard for writing", auto_guard, .writes = 2, .at_most = 18},
    {"acquire and release for writing", bare_guard, .writes = 2, .at_most = 18},
    {"key write scope", key_scope, .writes = 2, .at_most = 18},
    {"hand-written assembly", by_hand, .writes = 2},
    {"glibc: two `pkey_set`", glibc_pair, .writes = 2},
    {"two `mprotect`, 1 page", mprotect_pair, .writes = 0},
    {"two `mprotect`, 256 pages", mprotect_pair_on_many, .writes = 0},
    {0},
};

static const struct bench_row nested_rows[] = {
    {"write scope", write_scope, .writes = 0, .at_most = 15},
    {"read scope", read_scope, .writes = 0, .at_most = 15},
    {0},
};

static const struct bench_row nested_software_rows[] = {
    {"write scope", write_scope, .writes = 0, .at_most = 60},
    {"read scope", read_scope, .writes = 0, .at_most = 60},
    {"acquire and release for writing", bare_guard, .writes = 0, .at_most = 60},
    {"key write scope", key_scope, .writes = 0, .at_most = 60},
    {0},
};

/*
 * Creates a region without a key and writes to all its pages. Pairs of mprotect(2) are measured on
 * such regions: their cost depends on the neighbouring mappings, so these are the same for all
 * rows.
 */
static struct pkeyguard_region *software_region(size_t size, unsigned flags)
{
    struct pkeyguard_region *created;

    bench_require(pkeyguard_region_create(NULL, size, PAGE_RW, flags, &created) == 0,
                  "pkeyguard_region_create");
    pkeyguard_scoped_write (char, bytes, created) {
        memset(bytes, 1, size);
    }
    return created;
}

static void create_keyed_region(void)
{
    bench_require(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE, &key) == 0,
                  "pkeyguard_key_create");
    bench_require(pkeyguard_region_create(key, PAGE, PAGE_RW, 0, &region) == 0,
                  "pkeyguard_region_create");
    key_number = pkeyguard_key_number(key);
    deny_bits = 3u << (2 * key_number);
    number = pkeyguard_region_unsafe_address(region);
    one_page = software_region(PAGE, 0);
    page = pkeyguard_region_unsafe_address(one_page);
    many_pages = software_region(MANY_PAGES * (size_t)PAGE, 0);
    pages = pkeyguard_region_unsafe_address(many_pages);
}

static void destroy_keyed_region(void)
{
    bench_require(pkeyguard_region_destroy(region) == 0, "pkeyguard_region_destroy");
    bench_require(pkeyguard_key_destroy(key) == 0, "pkeyguard_key_destroy");
    bench_require(pkeyguard_region_destroy(one_page) == 0, "pkeyguard_region_destroy");
    bench_require(pkeyguard_region_destroy(many_pages) == 0, "pkeyguard_region_destroy");
}

static void create_open_region(void)
{
    create_keyed_region();
    bench_require(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &outer) == 0,
                  "pkeyguard_acquire");
}

static void destroy_open_region(void)
{
    pkeyguard_release(&outer);
    destroy_keyed_region();
}

static void create_open_software_key(void)
{
    bench_require(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE, &key) == 0,
                  "pkeyguard_key_create");
    bench_require(pkeyguard_region_create(key, PAGE, PAGE_RW, 0, &region) == 0,
                  "pkeyguard_region_create");
    number = pkeyguard_region_unsafe_address(region);
    bench_require(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &outer) == 0,
                  "pkeyguard_acquire");
    bench_require(pkeyguard_key_acquire(key, PKEYGUARD_READ_WRITE, &outer_of_key) == 0,
                  "pkeyguard_key_acquire");
}

static void destroy_open_software_key(void)
{
    pkeyguard_release(&outer_of_key);
    pkeyguard_release(&outer);
    bench_require(pkeyguard_region_destroy(region) == 0, "pkeyguard_region_destroy");
    bench_require(pkeyguard_key_destroy(key) == 0, "pkeyguard_key_destroy");
}

static void *sodium; /* from sodium_malloc() */

static void raw_pair(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        mprotect((void *)number, pkeyguard_region_size(region), PAGE_RW);
        *number = 1;
        mprotect((void *)number, pkeyguard_region_size(region), PROT_NONE);
    }
}

static void sodium_pair(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        sodium_mprotect_readwrite(sodium);
        *(volatile int *)sodium = 1;
        sodium_mprotect_noaccess(sodium);
    }
}

static void create_software_region(unsigned page_count, unsigned flags)
{
    size_t size = page_count * (size_t)PAGE;

    region = software_region(size, flags);
    number = pkeyguard_region_unsafe_address(region);
    bench_require(sodium_init() >= 0, "sodium_init");
    sodium = sodium_malloc(size);
    bench_require(sodium != NULL, "sodium_malloc");
    memset(sodium, 1, size);
    sodium_mprotect_noaccess(sodium);
}

static void create_small_software_region(void)
{
    create_software_region(1, 0);
}

static void create_large_software_region(void)
{
    create_software_region(MANY_PAGES, 0);
}

static void create_largest_software_region(void)
{
    create_software_region(MOST_PAGES, 0);
}

static void create_software_region_of_huge_pages(void)
{
    create_software_region(MOST_PAGES, PKEYGUARD_REGION_HUGE_PAGES);
}

static void destroy_software_region(void)
{
    sodium_free(sodium);
    bench_require(pkeyguard_region_destroy(region) == 0, "pkeyguard_region_destroy");
}

static const struct bench_row largest_software_rows[] = {
    {"write scope", write_scope, .at_most = 1.05},
    {0},
};

static const struct bench_row software_rows[] = {
    {"write scope", write_scope, .at_most = 1.05},
    {"libsodium: `sodium_mprotect_readwrite` and `_noaccess`", sodium_pair, .at_most = 0},
    {0},
};

const struct bench_group bench_groups[] = {
    {.name = "dedicated key, region of 1 page",
     .unit = INSTRUCTIONS,
     .set_up = create_keyed_region,
     .tear_down = destroy_keyed_region,
     .baseline = store,
     .rows = closed_rows},
    {.name = "dedicated key, inside an open write scope",
     .unit = INSTRUCTIONS,
     .set_up = create_open_region,
     .tear_down = destroy_open_region,
     .baseline = store,
     .rows = nested_rows},
    {.name = "mprotect enforcement, inside open write scopes on the region and on its key",
     .unit = INSTRUCTIONS,
     .set_up = create_open_software_key,
     .tear_down = destroy_open_software_key,
     .baseline = store,
     .rows = nested_software_rows},
    {.name = "mprotect enforcement, 1 page",
     .unit = TIME_RATIO,
     .baseline_name = "two `mprotect`",
     .set_up = create_small_software_region,
     .tear_down = destroy_software_region,
     .baseline = raw_pair,
     .rows = software_rows},
    {.name = "mprotect enforcement, 256 pages",
     .unit = TIME_RATIO,
     .baseline_name = "two `mprotect`",
     .set_up = create_large_software_region,
     .tear_down = destroy_software_region,
     .baseline = raw_pair,
     .rows = software_rows},
    {.name = "mprotect enforcement, 4 MiB",
     .unit = TIME_RATIO,
     .baseline_name = "two `mprotect`",
     .set_up = create_largest_software_region,
     .tear_down = destroy_software_region,
     .baseline = raw_pair,
     .rows = largest_software_rows},
    {.name = "mprotect enforcement, 4 MiB of huge pages",
     .unit = TIME_RATIO,
     .baseline_name = "two `mprotect`",
     .set_up = create_software_region_of_huge_pages,
     .tear_down = destroy_software_region,
     .baseline = raw_pair,
     .rows = largest_software_rows},
    {0},
};
