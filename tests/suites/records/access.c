/* SPDX-License-Identifier: MIT */
/* Who can access protected records. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "test_records.h"
#include "worker.h"

/* Records made before the call (_i even) or after it, and then changed by the library. */
START_TEST(stray_write_to_a_record_faults)
{
    void *record = NULL;

    if (_i % 2 == 0) {
        record = new_record((enum record)(_i / 2));
        write_same_byte(record);
    }
    protect();
    if (_i % 2 == 1)
        record = new_record((enum record)(_i / 2));
    assert_protected(record);
    assert_protected(key);
    assert_protected(region);
    use_library();
    assert_protected(record);
}
END_TEST

/* ---- the two mappings ---- */

struct mapping {
    char *start;
    bool writable;
};

/* The shared anonymous mappings: the suite has no other. */
enum { MOST = 64 };
static int find_mappings(struct mapping mappings[MOST])
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512];
    int count = 0;

    ck_assert_ptr_nonnull(maps);
    while (fgets(line, sizeof(line), maps) != NULL) {
        char rights[8];
        void *start;

        if (strstr(line, "/dev/zero") == NULL)
            continue;
        ck_assert_int_eq(sscanf(line, "%p-%*x %7s", &start, rights), 2);
        ck_assert(strcmp(rights, "rw-s") == 0 || strcmp(rights, "r--s") == 0);
        ck_assert_int_lt(count, MOST);
        mappings[count++] = (struct mapping){start, rights[1] == 'w'};
    }
    fclose(maps);
    return count;
}

/* The pkey of all writable mappings. */
static int records_pkey;

static void assert_closed(const struct mapping *mapping)
{
    if (mapping->writable) {
        assert_fault_(READ_BYTE, mapping->start, SEGV_PKUERR, records_pkey);
        assert_fault_(WRITE_BYTE, mapping->start, SEGV_PKUERR, records_pkey);
    } else {
        assert_page_denied(WRITE_BYTE, mapping->start);
        assert_allowed(READ_BYTE, mapping->start);
    }
}

static int mapping_count;
static struct mapping all_mappings[MOST];

static void assert_all_closed(void *unused)
{
    (void)unused;
    for (int i = 0; i < mapping_count; i++)
        assert_closed(&all_mappings[i]);
}

static void look_at_mappings(void)
{
    int writable = 0;

    mapping_count = find_mappings(all_mappings);
    for (int i = 0; i < mapping_count; i++) {
        int pkey = pkey_of_mapping(all_mappings[i].start);

        if (all_mappings[i].writable) {
            writable++;
            records_pkey = pkey;
        }
        ck_assert_int_eq(pkey > 0, all_mappings[i].writable);
    }
    /* The registries of keys, regions and heaps, what the registries allocate, and the list of
     * these mappings itself. */
    ck_assert_int_ge(writable, 5);
    ck_assert_int_eq(mapping_count, 2 * writable);
}

static void assert_all_closed_in_handler(int signal)
{
    (void)signal;
    assert_all_closed(NULL);
}

/* Virtual keys need that of every thread. */
static void register_thread(void *unused)
{
    (void)unused;
    ck_assert_int_eq(pkeyguard_thread_register(), 0);
}

START_TEST(both_mappings_are_closed_in_every_thread)
{
    struct worker older, newer;

    use_library();
    start_worker(&older);
    protect();
    look_at_mappings();
    run_on(&older, register_thread, NULL);
    use_library();
    start_worker(&newer);
    assert_all_closed(NULL);
    run_on(&older, assert_all_closed, NULL);
    run_on(&newer, assert_all_closed, NULL);
    signal(SIGUSR1, assert_all_closed_in_handler);
    raise(SIGUSR1);
    assert_all_closed(NULL);
    end_worker(&older);
    end_worker(&newer);
}
END_TEST

/* ---- use ---- */

static struct pkeyguard_region *of_virtual_key;

static void use_regions(void *unused)
{
    (void)unused;
    pkeyguard_scoped_write (int, number, region) {
        ++*number;
    }
    pkeyguard_scoped_write (int, number, of_virtual_key) {
        ++*number;
    }
    destroy(new_region(key), NULL);
}

static void use_regions_in_handler(int signal)
{
    (void)signal;
    use_regions(NULL);
}

/* A handler and a thread that is older than a pkey start without access to what has the pkey. */
START_TEST(handlers_and_older_threads_use_the_library)
{
    struct worker older;

    start_worker(&older);
    of_virtual_key = new_region(new_record(VIRTUAL_KEY));
    protect();
    run_on(&older, use_regions, NULL);
    signal(SIGUSR1, use_regions_in_handler);
    pkeyguard_scoped_read (int, number, region) {
        raise(SIGUSR1);
        ck_assert_int_eq(*number, 2);
    }
    end_worker(&older);
}
END_TEST

static atomic_bool stop;
static atomic_int rounds;

static void *use_library_until_stopped(void *unused)
{
    while (!stop) {
        use_regions(unused);
        rounds++;
    }
    return unused;
}

static void *use_heap_until_stopped(void *unused)
{
    while (!stop) {
        struct pkeyguard_heap *heap;

        ck_assert_int_eq(pkeyguard_heap_create(key, 64 * PAGE_BYTES, 0, &heap), 0);
        for (int i = 0; i < 50; i++)
            ck_assert_ptr_nonnull(pkeyguard_heap_alloc(heap, PAGE_BYTES));
        ck_assert_int_eq(pkeyguard_heap_destroy(heap), 0);
        rounds++;
    }
    return unused;
}

static void wait_for_rounds(int more)
{
    for (int until = rounds + more; rounds < until;)
        sched_yield();
}

START_TEST(other_threads_use_the_library_meanwhile)
{
    pthread_t threads[2];

    of_virtual_key = new_region(new_record(VIRTUAL_KEY));
    ck_assert_int_eq(pthread_create(&threads[0], NULL, use_library_until_stopped, NULL), 0);
    ck_assert_int_eq(pthread_create(&threads[1], NULL, use_heap_until_stopped, NULL), 0);
    wait_for_rounds(20 + _i);
    protect();
    wait_for_rounds(20);
    stop = true;
    ck_assert_int_eq(pthread_join(threads[0], NULL), 0);
    ck_assert_int_eq(pthread_join(threads[1], NULL), 0);
    assert_protected(region);
}
END_TEST

/* Enough records for several allocations, before (_i 0) and after. */
START_TEST(many_records_are_protected)
{
    enum { MANY = 1200 };
    static struct pkeyguard_region *regions[MANY];

    if (_i == 1)
        protect();
    for (int i = 0; i < MANY; i++)
        regions[i] = new_region(key);
    if (_i == 0)
        protect();
    for (int i = 0; i < MANY; i += 100) {
        assert_protected(regions[i]);
        ck_assert_ptr_eq(pkeyguard_region_of(address_of(regions[i])), regions[i]);
    }
    for (int i = 0; i < MANY; i++)
        destroy(regions[i], NULL);
}
END_TEST

void add_access(Suite *suite)
{
    TCase *tests = add_case(suite, "access", set_up, NULL);

    add_pku_loop_test(tests, stray_write_to_a_record_faults, 0, 2 * RECORDS);
    add_pku_test(tests, both_mappings_are_closed_in_every_thread);
    add_pku_test(tests, handlers_and_older_threads_use_the_library);
    add_pku_loop_test(tests, other_threads_use_the_library_meanwhile, 0, 5);
    add_pku_loop_test(tests, many_records_are_protected, 0, 2);
}
