/* SPDX-License-Identifier: MIT */
/* What an address belongs to: in a process with one region or heap, and in one with very many. */
#include "bench.h"

#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <pkeyguard.h>

enum { PAGE = 4096, PAGE_RW = PROT_READ | PROT_WRITE };
enum { REGIONS = 30000, HEAPS = 1000, BESIDE_ADOPTED = 10000 };
enum { LOOKUPS = 100, STRIDE = 7919 }; /* STRIDE has no factor in common with the numbers above */

static struct pkeyguard_key *key;
static struct pkeyguard_region *regions[REGIONS];
static struct pkeyguard_heap *heaps[HEAPS];
static char *addresses[REGIONS]; /* the start of each region or heap */
static size_t created;           /* how many there are */
static char *to_adopt;           /* a page */

/* Looks one address up after the other; with very many, each is far from the last one. */
static char *next_address(void)
{
    static size_t position;

    position = (position + STRIDE) % created;
    return addresses[position];
}

static void decode_each(unsigned count)
{
    static ucontext_t context;
    siginfo_t info = {.si_signo = SIGSEGV, .si_code = SEGV_ACCERR};
    struct pkeyguard_fault fault;

    for (unsigned i = 0; i < count * LOOKUPS; i++) {
        info.si_addr = next_address();
        bench_require(pkeyguard_fault_decode(&info, &context, &fault) == 0,
                      "pkeyguard_fault_decode");
    }
}

static void find_each_region(unsigned count)
{
    for (unsigned i = 0; i < count * LOOKUPS; i++)
        bench_require(pkeyguard_region_of(next_address()) != NULL, "pkeyguard_region_of");
}

static void find_each_heap(unsigned count)
{
    for (unsigned i = 0; i < count * LOOKUPS; i++)
        bench_require(pkeyguard_heap_of(next_address()) != NULL, "pkeyguard_heap_of");
}

/* An address between heaps: its search ends late. */
static void find_no_heap(unsigned count)
{
    for (unsigned i = 0; i < count * LOOKUPS; i++)
        bench_require(pkeyguard_heap_of(next_address() - PAGE) == NULL, "pkeyguard_heap_of");
}

static void adopt_and_destroy(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct pkeyguard_region *adopted;

        bench_require(pkeyguard_region_adopt(key, to_adopt, PAGE, PAGE_RW, 0, &adopted) == 0,
                      "pkeyguard_region_adopt");
        bench_require(pkeyguard_region_destroy(adopted) == 0, "pkeyguard_region_destroy");
    }
}

/* ---- set-up ---- */

static void create_regions(size_t count, unsigned flags)
{
    for (; created < count; created++) {
        bench_require(pkeyguard_region_create(key, PAGE, PAGE_RW, flags, &regions[created]) == 0,
                      "pkeyguard_region_create");
        addresses[created] = pkeyguard_region_unsafe_address(regions[created]);
    }
}

static void create_key_and_region(void)
{
    bench_require(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE, &key) == 0,
                  "pkeyguard_key_create");
    create_regions(1, PKEYGUARD_REGION_NO_GUARD_PAGES);
}

static void create_many_regions(void)
{
    /* Guard pages might need more mappings than a process can have. */
    create_regions(REGIONS, PKEYGUARD_REGION_NO_GUARD_PAGES);
}

static void destroy_key_and_regions(void)
{
    while (created > 0)
        bench_require(pkeyguard_region_destroy(regions[--created]) == 0,
                      "pkeyguard_region_destroy");
    bench_require(pkeyguard_key_destroy(key) == 0, "pkeyguard_key_destroy");
}

static void create_page_to_adopt(void)
{
    create_key_and_region();
    to_adopt = mmap(NULL, PAGE, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bench_require(to_adopt != MAP_FAILED, "mmap");
}

static void create_regions_beside_adopted(void)
{
    create_regions(BESIDE_ADOPTED, 0);
}

static void destroy_page_and_regions(void)
{
    munmap(to_adopt, PAGE);
    destroy_key_and_regions();
}

static void create_heaps(size_t count)
{
    for (; created < count; created++) {
        bench_require(pkeyguard_heap_create(NULL, PAGE, 0, &heaps[created]) == 0,
                      "pkeyguard_heap_create");
        addresses[created] = pkeyguard_region_unsafe_address(pkeyguard_heap_region(heaps[created]));
    }
}

static void create_one_heap(void)
{
    create_heaps(1);
}

static void create_many_heaps(void)
{
    create_heaps(HEAPS);
}

static void destroy_heaps(void)
{
    while (created > 0)
        bench_require(pkeyguard_heap_destroy(heaps[--created]) == 0, "pkeyguard_heap_destroy");
}

static const struct bench_row decode_rows[] = {
    {"30,000 regions", decode_each, .at_most = 10},
    {0},
};

static const struct bench_row region_rows[] = {
    {"30,000 regions", find_each_region, .at_most = 10},
    {0},
};

static const struct bench_row heap_rows[] = {
    {"1,000 heaps", find_each_heap, .at_most = 10},
    {"1,000 heaps, addresses in none", find_no_heap, .at_most = 10},
    {0},
};

/* PKRU is changed to see that the page has no pkey. */
static const struct bench_row adopt_rows[] = {
    {"10,000 other regions", adopt_and_destroy, .writes = 2, .at_most = 5},
    {0},
};

const struct bench_group bench_groups[] = {
    {.name = "100 calls of `pkeyguard_fault_decode`",
     .unit = TIME_RATIO,
     .baseline_name = "one region",
     .set_up = create_key_and_region,
     .tear_down = destroy_key_and_regions,
     .baseline = decode_each,
     .crowd = create_many_regions,
     .rows = decode_rows},
    {.name = "100 calls of `pkeyguard_region_of`",
     .unit = TIME_RATIO,
     .baseline_name = "one region",
     .set_up = create_key_and_region,
     .tear_down = destroy_key_and_regions,
     .baseline = find_each_region,
     .crowd = create_many_regions,
     .rows = region_rows},
    {.name = "100 calls of `pkeyguard_heap_of`",
     .unit = TIME_RATIO,
     .baseline_name = "one heap",
     .set_up = create_one_heap,
     .tear_down = destroy_heaps,
     .baseline = find_each_heap,
     .crowd = create_many_heaps,
     .rows = heap_rows},
    {.name = "`pkeyguard_region_adopt` and `_destroy`, 1 page, instructions",
     .unit = INSTRUCTION_RATIO,
     .baseline_name = "one other region",
     .set_up = create_page_to_adopt,
     .tear_down = destroy_page_and_regions,
     .baseline = adopt_and_destroy,
     .crowd = create_regions_beside_adopted,
     .rows = adopt_rows},
    {.name = "`pkeyguard_region_adopt` and `_destroy`, 1 page",
     .unit = TIME_RATIO,
     .baseline_name = "one other region",
     .set_up = create_page_to_adopt,
     .tear_down = destroy_page_and_regions,
     .baseline = adopt_and_destroy,
     .crowd = create_regions_beside_adopted,
     .rows = adopt_rows},
    {0},
};
