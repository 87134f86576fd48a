/* SPDX-License-Identifier: MIT */
/* pkeyguard_region_of(): which region an address is in. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test_region.h"

/* It checks the ends of the region and some addresses in it. `pages`: the region's. */
static void assert_found(const struct pkeyguard_region *region, size_t pages)
{
    char *start = address_of(region), *end = start + pages * PAGE_BYTES;

    for (char *at = start; at < end; at += (size_t)(end - start) / 3 + 1)
        ck_assert_ptr_eq(pkeyguard_region_of(at), region);
    ck_assert_ptr_eq(pkeyguard_region_of(end - 1), region);
    ck_assert_ptr_ne(pkeyguard_region_of(start - 1), region);
    ck_assert_ptr_ne(pkeyguard_region_of(end), region);
}

/* Neither the pages around the region nor those of regions that are gone find one. */
START_TEST(region_is_found_by_its_own_pages)
{
    static const size_t sizes[] = {1, PAGE_BYTES, PAGE_BYTES + 1, 70 * PAGE_BYTES, 5 << 20};
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        size_t pages = (sizes[i] + PAGE_BYTES - 1) / PAGE_BYTES;
        struct pkeyguard_region *region = region_with_flags(key, sizes[i], each_flag[_i]);
        char *start = address_of(region), *end = start + pages * PAGE_BYTES;

        assert_found(region, pages);
        ck_assert_ptr_null(pkeyguard_region_of(start - 1));
        ck_assert_ptr_null(pkeyguard_region_of(start - PAGE_BYTES));
        ck_assert_ptr_null(pkeyguard_region_of(end));
        ck_assert_ptr_null(pkeyguard_region_of(end + PAGE_BYTES - 1));
        ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
        for (char *at = start - PAGE_BYTES; at <= end; at += PAGE_BYTES)
            ck_assert_ptr_null(pkeyguard_region_of(at));
    }
    destroy(NULL, key);
}
END_TEST

START_TEST(other_addresses_are_in_no_region)
{
    struct pkeyguard_region *region = new_region(NULL);
    char local, *of_malloc = malloc(1);

    ck_assert_ptr_null(pkeyguard_region_of(NULL));
    ck_assert_ptr_null(pkeyguard_region_of(&local));
    ck_assert_ptr_null(pkeyguard_region_of(of_malloc));
    ck_assert_ptr_null(pkeyguard_region_of(region)); /* the library's record of it */
    for (int bit = 48; bit < 64; bit++)
        ck_assert_ptr_null(
            pkeyguard_region_of((void *)((uintptr_t)address_of(region) | UINT64_C(1) << bit)));
    ck_assert_ptr_null(pkeyguard_region_of((void *)UINTPTR_MAX));
    free(of_malloc);
    destroy(region, NULL);
}
END_TEST

START_TEST(object_is_in_the_region_of_its_heap)
{
    struct pkeyguard_heap *heap;
    struct pkeyguard_region *region;
    char *object;

    ck_assert_int_eq(pkeyguard_heap_create(NULL, 3 * PAGE_BYTES, 0, &heap), 0);
    region = pkeyguard_heap_region(heap);
    object = pkeyguard_heap_alloc(heap, 100);
    ck_assert_ptr_nonnull(object);
    ck_assert_ptr_eq(pkeyguard_region_of(object), region);
    ck_assert_ptr_eq(pkeyguard_region_of(object + 99), region);
    assert_found(region, 3);
    /* The heap's records are not. */
    ck_assert_ptr_null(pkeyguard_region_of(address_of(region) + 3 * PAGE_BYTES));
    ck_assert_ptr_null(pkeyguard_region_of(address_of(region) + 4 * PAGE_BYTES));
    ck_assert_int_eq(pkeyguard_heap_destroy(heap), 0);
    ck_assert_ptr_null(pkeyguard_region_of(object));
}
END_TEST

/* A child can have other memory, and another region, where the parent has one without a copy. */
START_TEST(fork_child_finds_the_regions_that_it_has)
{
    struct pkeyguard_region *forked = region_with_flags(NULL, 70 * PAGE_BYTES, 0);
    struct pkeyguard_region *not_forked =
        region_with_flags(NULL, 70 * PAGE_BYTES, PKEYGUARD_REGION_NO_FORK);
    char *gone = address_of(not_forked), *part = gone + 3 * PAGE_BYTES;
    pid_t child = fork();

    if (child == 0) {
        struct pkeyguard_region *adopted;

        assert_found(forked, 70);
        ck_assert_ptr_null(pkeyguard_region_of(gone));
        ck_assert_ptr_eq(
            mmap(part, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), part);
        ck_assert_int_eq(pkeyguard_region_adopt(NULL, part, PAGE_BYTES, PAGE_RW, 0, &adopted), 0);
        assert_found(adopted, 1);
        ck_assert_ptr_null(pkeyguard_region_of(gone));
        ck_assert_int_eq(pkeyguard_region_destroy(not_forked), 0);
        assert_found(adopted, 1);
        ck_assert_int_eq(pkeyguard_region_destroy(adopted), 0);
        ck_assert_ptr_null(pkeyguard_region_of(part));
        destroy(forked, NULL);
        _exit(0);
    }
    assert_exits(child, 0);
    assert_found(forked, 70);
    assert_found(not_forked, 70);
    destroy(forked, NULL);
    destroy(not_forked, NULL);
}
END_TEST

/*
 * The program unmaps a part of adopted memory too early, and the kernel maps a new region there.
 * The new region is found in its pages, the old one in the others, until each is destroyed.
 */
START_TEST(region_is_found_where_adopted_memory_was_unmapped)
{
    enum { PAGES = 192, HOLE = 100, HOLE_PAGES = 20, MOST = 1000 };
    char *start = mmap(NULL, PAGES * PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *hole = start + HOLE * PAGE_BYTES, *inside = NULL;
    struct pkeyguard_region *adopted, *created[MOST];
    int count = 0;

    ck_assert(start != MAP_FAILED);
    ck_assert_int_eq(pkeyguard_region_adopt(NULL, start, PAGES * PAGE_BYTES, PAGE_RW, 0, &adopted),
                     0);
    ck_assert_int_eq(munmap(hole, HOLE_PAGES * PAGE_BYTES), 0);
    /* The kernel fills the holes from the highest address down. */
    while (inside == NULL) {
        ck_assert_int_lt(count, MOST);
        created[count] = region_with_flags(NULL, 4 * PAGE_BYTES, 0);
        if (address_of(created[count]) > hole &&
            address_of(created[count]) < hole + HOLE_PAGES * PAGE_BYTES)
            inside = address_of(created[count]);
        count++;
    }
    assert_found(created[count - 1], 4);
    ck_assert_ptr_eq(pkeyguard_region_of(start), adopted);
    ck_assert_ptr_eq(pkeyguard_region_of(hole - 1), adopted);
    ck_assert_ptr_eq(pkeyguard_region_of(hole + HOLE_PAGES * PAGE_BYTES), adopted);
    ck_assert_ptr_eq(pkeyguard_region_of(start + PAGES * PAGE_BYTES - 1), adopted);
    ck_assert_int_eq(pkeyguard_region_destroy(created[--count]), 0);
    ck_assert_ptr_null(pkeyguard_region_of(inside));
    ck_assert_ptr_eq(pkeyguard_region_of(hole - 1), adopted);
    ck_assert_int_eq(pkeyguard_region_destroy(adopted), -ESTALE);
    ck_assert_ptr_null(pkeyguard_region_of(start));
    ck_assert_ptr_null(pkeyguard_region_of(hole - 1));
    while (count > 0)
        destroy(created[--count], NULL);
}
END_TEST

/* ---- many regions of all sizes, in an area whose pages are compared with a model ---- */

/* AREA_PAGES are more than the library keeps together in one place of its records. */
enum { AREA_PAGES = 3 << 12, MOST_PAGES = 5000 };

static char *area;                                   /* starts at a multiple of 16 MiB */
static struct pkeyguard_region *in_page[AREA_PAGES]; /* the region that has the page */

static void map_area(void)
{
    enum { SIXTEEN_MIB = 16 << 20 };
    char *mapping = mmap(NULL, AREA_PAGES * (size_t)PAGE_BYTES + SIXTEEN_MIB, PAGE_RW,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    ck_assert(mapping != MAP_FAILED);
    area = mapping + (SIXTEEN_MIB - (uintptr_t)mapping % SIXTEEN_MIB);
}

static size_t random_up_to(size_t most)
{
    return (size_t)rand() % (most + 1);
}

/* Pages of the area, often where 64 or 4096 of them begin or end. */
static void choose_pages(size_t *ret_first, size_t *ret_count)
{
    static const size_t units[] = {1, 1, 64, 4096};
    size_t unit = units[random_up_to(3)];
    size_t count = unit * (1 + random_up_to(unit == 1 ? 140 : 2)) + random_up_to(1);

    *ret_count = count < MOST_PAGES ? count : MOST_PAGES;
    *ret_first = random_up_to((AREA_PAGES - *ret_count) / unit) * unit;
}

static bool any_taken(size_t first, size_t count)
{
    for (size_t page = first; page < first + count; page++) {
        if (in_page[page] != NULL)
            return true;
    }
    return false;
}

static void set_pages(size_t first, size_t count, struct pkeyguard_region *region)
{
    for (size_t page = first; page < first + count; page++)
        in_page[page] = region;
}

static void adopt_pages(struct pkeyguard_key *key, size_t first, size_t count)
{
    struct pkeyguard_region *region = NULL;
    int error = pkeyguard_region_adopt(key, area + first * PAGE_BYTES, count * PAGE_BYTES, PAGE_RW,
                                       0, &region);

    ck_assert_int_eq(error, any_taken(first, count) ? -EBUSY : 0);
    if (error == 0)
        set_pages(first, count, region);
}

static void destroy_region_in(size_t page)
{
    struct pkeyguard_region *region = in_page[page];
    size_t first = (size_t)(address_of(region) - area) / PAGE_BYTES;
    size_t count = pkeyguard_region_size(region) / PAGE_BYTES;

    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    set_pages(first, count, NULL);
}

/* One assertion for all pages: libcheck notes each, which takes longer than a lookup. */
static void assert_pages_as_in_model(void)
{
    size_t page = 0;

    while (page < AREA_PAGES && pkeyguard_region_of(area + page * PAGE_BYTES) == in_page[page] &&
           pkeyguard_region_of(area + (page + 1) * PAGE_BYTES - 1) == in_page[page])
        page++;
    ck_assert_uint_eq(page, AREA_PAGES);
}

START_TEST(every_page_finds_its_region_and_is_adopted_once)
{
    /* Each adoption reads /proc/self/smaps where there is PKU. */
    int rounds = in_guest() ? 50 : under_tool(NULL) || pku() ? 150 : 2000;
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_WRITE, PKEYGUARD_KEY_OPTIONAL);

    map_area();
    srand(1);
    for (int round = 0; round < rounds; round++) {
        size_t first, count;

        choose_pages(&first, &count);
        if (in_page[first] != NULL && random_up_to(2) != 0)
            destroy_region_in(first);
        else
            adopt_pages(key, first, count);
        assert_pages_as_in_model();
    }
    for (size_t page = 0; page < AREA_PAGES; page++) {
        if (in_page[page] != NULL)
            destroy_region_in(page);
    }
    assert_pages_as_in_model();
    destroy(NULL, key);
}
END_TEST

/* ---- lookups while regions come and go ---- */

enum { CHURNERS = 2, LOOKUPS = 100000, HANDLER_RUNS = 1000 };

static struct pkeyguard_region *lasting;        /* of one page; it stays */
static atomic_uintptr_t last_address[CHURNERS]; /* of each thread's newest region, maybe gone */
static atomic_bool stop;
static atomic_int handler_runs;

/* Also from a signal handler. */
static void look_up(void)
{
    char *start = address_of(lasting);
    bool right = pkeyguard_region_of(start) == lasting &&
                 pkeyguard_region_of(start + PAGE_BYTES - 1) == lasting &&
                 pkeyguard_region_of(start - 1) == NULL &&
                 pkeyguard_region_of(start + PAGE_BYTES) == NULL;

    for (int i = 0; i < CHURNERS; i++)
        right = right && pkeyguard_region_of((void *)last_address[i]) != lasting;
    if (!right)
        abort();
}

static void look_up_in_handler(int signal)
{
    (void)signal;
    look_up();
    handler_runs++;
}

/* Of several sizes, so that the records' memory and the addresses change hands. */
static void replace_region(struct pkeyguard_region **region, size_t pages)
{
    char *start = address_of(*region);
    bool right = *region == NULL || pkeyguard_region_of(start) == *region;

    if (!right || pkeyguard_region_destroy(*region) != 0 ||
        pkeyguard_region_create(NULL, pages * PAGE_BYTES, PAGE_RW, 0, region) != 0)
        abort();
    start = address_of(*region);
    if (pkeyguard_region_of(start) != *region ||
        pkeyguard_region_of(start + (pages - 1) * PAGE_BYTES) != *region ||
        pkeyguard_region_of(start - PAGE_BYTES) != NULL)
        abort();
}

static void *make_and_destroy_regions(void *argument)
{
    enum { KEPT = 5 };
    struct pkeyguard_region *kept[KEPT] = {NULL};
    atomic_uintptr_t *last = argument;

    for (unsigned i = 0; !stop; i++) {
        replace_region(&kept[i % KEPT], 1 + i % 9 * 17);
        *last = (uintptr_t)address_of(kept[i % KEPT]);
    }
    for (int i = 0; i < KEPT; i++)
        ck_assert_int_eq(pkeyguard_region_destroy(kept[i]), 0);
    return NULL;
}

START_TEST(lookups_are_right_while_regions_come_and_go)
{
    struct sigaction action = {.sa_handler = look_up_in_handler, .sa_flags = SA_RESTART};
    pthread_t threads[CHURNERS];

    lasting = new_region(NULL);
    ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
    for (int i = 0; i < CHURNERS; i++)
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, make_and_destroy_regions, &last_address[i]), 0);
    for (int i = 0; i < LOOKUPS; i++)
        look_up();
    /* The handler interrupts the threads that create and destroy. */
    for (int sent = 0; handler_runs < HANDLER_RUNS; sent++) {
        ck_assert_int_eq(pthread_kill(threads[sent % CHURNERS], SIGUSR1), 0);
        sched_yield();
    }
    stop = true;
    for (int i = 0; i < CHURNERS; i++)
        pthread_join(threads[i], NULL);
    destroy(lasting, NULL);
}
END_TEST

void add_lookup(Suite *suite)
{
    TCase *tests = add_case(suite, "lookup", NULL, NULL);

    tcase_add_loop_test(tests, region_is_found_by_its_own_pages, 0, supported_flags());
    tcase_add_test(tests, other_addresses_are_in_no_region);
    tcase_add_test(tests, object_is_in_the_region_of_its_heap);
    tcase_add_test(tests, fork_child_finds_the_regions_that_it_has);
    add_test_if(!under_tool(NULL), "the tool maps memory elsewhere", tests,
                region_is_found_where_adopted_memory_was_unmapped);
    tcase_add_test(tests, every_page_finds_its_region_and_is_adopted_once);
    tcase_add_test(tests, lookups_are_right_while_regions_come_and_go);
}
