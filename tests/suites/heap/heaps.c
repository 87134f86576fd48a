/* SPDX-License-Identifier: MIT */
/* Creating, finding and destroying heaps, and their region flags. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failing.h"
#include "place.h"
#include "test_heap.h"

static long proc_kib(const char *path, const char *field)
{
    FILE *file = fopen(path, "r");
    char line[256];
    long kib = -1;

    expect(file != NULL);
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0)
            kib = atol(line + strlen(field));
    }
    fclose(file);
    expect(kib >= 0);
    return kib;
}

static long status_kib(const char *field)
{
    return proc_kib("/proc/self/status", field);
}

/* The kernel counts the pages for this. VmRSS of status may leave out some of each CPU. */
static long resident_kib(void)
{
    return proc_kib("/proc/self/smaps_rollup", "Rss:");
}

/* The kernel may commit two MiB at a time. Here it must not: the tests count what the heap uses. */
static void turn_huge_pages_off(void)
{
    expect(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
}

/* At most 48 bytes for an object of 32, and five mappings for the heap. */
START_TEST(many_small_objects_take_little_memory)
{
    enum { MANY = 30000 };
    struct pkeyguard_key *key = key_of_kind(_i);
    struct resources before = count_resources(), with_heap;
    static char *objects[MANY];
    struct pkeyguard_heap *heap;
    long kib;

    turn_huge_pages_off();
    memset(objects, 1, sizeof(objects));
    kib = resident_kib();
    heap = new_heap(key, 64 * MIB);
    with_heap = count_resources();
    expect(with_heap.mappings - before.mappings <= 5);
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        for (int i = 0; i < MANY; i++) {
            objects[i] = new_object(heap, 32);
            memcpy(objects[i], &i, sizeof(i));
        }
        if (!under_tool(NULL))
            expect((resident_kib() - kib) * 1024 <= 48L * MANY);
        for (int i = 0; i < MANY; i++) {
            expect(memcmp(objects[i], &i, sizeof(i)) == 0);
            expect(pkeyguard_heap_free(heap, objects[i]) == 0);
        }
    }
    expect(pkeyguard_heap_destroy(heap) == 0);
    assert_resources(before);
    expect(pkeyguard_key_destroy(key) == 0);
}
END_TEST

/*
 * A capacity of 64 GiB, more than the machine may have. Creating such a heap, using a little of it
 * and destroying it takes little memory.
 */
START_TEST(memory_is_committed_on_use)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    long kib = status_kib("VmHWM:");
    struct pkeyguard_heap *heap = new_heap(key, !under_tool(NULL) ? (size_t)64 << 30 : MIB);

    turn_huge_pages_off();
    for (int i = 0; i < 100; i++)
        fill_object(heap, new_object(heap, 3000), 'x');
    destroy_heap(heap, key);
    if (!under_tool(NULL))
        expect(status_kib("VmHWM:") - kib < 2048);
}
END_TEST

static int is_wiped;

static void check_zero(const char *content, size_t length)
{
    if (pku())
        expect(pkey_mprotect((void *)content, length, PROT_READ, 0) == 0);
    else
        expect(mprotect((void *)content, length, PROT_READ) == 0);
    for (size_t i = 0; i < length; i++)
        is_wiped = is_wiped && content[i] == 0;
}

/* Runs before munmap(2): makes objects and metadata readable, and looks at them. */
static void check_heap_before_munmap(void *address, unsigned long length)
{
    const char *content = (char *)address + PAGE_BYTES;

    is_wiped = 1;
    check_zero(content, MIB);
    check_zero(content + METADATA_START, length - 2 * PAGE_BYTES - METADATA_START);
}

START_TEST(destroy_wipes_live_objects)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);

    for (size_t size = 1; size < 100000; size *= 2)
        fill_object(heap, new_object(heap, size), 's');
    is_wiped = -1;
    before_call(CALL_MUNMAP, check_heap_before_munmap);
    destroy_heap(heap, key);
    expect(is_wiped == 1);
}
END_TEST

START_TEST(heap_with_an_open_guard_is_not_destroyed)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    char *object = new_object(heap, 32);

    fill_object(heap, object, 'g');
    pkeyguard_scoped_read_at (char, byte, pkeyguard_heap_region(heap), object) {
        expect(pkeyguard_heap_destroy(heap) == -EBUSY);
        expect(pkeyguard_heap_of(object) == heap);
        assert_bytes(heap, object, 32, 'g');
    }
    destroy_heap(heap, key);
    expect(pkeyguard_heap_of(object) == NULL);
}
END_TEST

START_TEST(heap_of_finds_the_heap)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heaps[20];
    char *object, *of_malloc = malloc(100);

    for (int i = 0; i < 20; i++)
        heaps[i] = new_heap(i % 2 == 0 ? key : NULL, PAGE_BYTES);
    for (int i = 0; i < 20; i++) {
        object = new_object(heaps[i], 100);
        expect(pkeyguard_heap_of(object) == heaps[i]);
        expect(pkeyguard_heap_of(object + 99) == heaps[i]);
        expect(pkeyguard_heap_of(heap_start(heaps[i]) + PAGE_BYTES - 1) == heaps[i]);
        expect(pkeyguard_heap_of(heap_start(heaps[i]) + PAGE_BYTES) != heaps[i]);
        expect(pkeyguard_heap_of(heap_start(heaps[i]) - 1) != heaps[i]);
        expect(pkeyguard_heap_owns(heaps[i], object));
        expect(!pkeyguard_heap_owns(heaps[(i + 1) % 20], object));
        expect(!pkeyguard_heap_owns(heaps[i], heap_start(heaps[i]) + PAGE_BYTES));
    }
    expect(pkeyguard_heap_of(of_malloc) == NULL);
    expect(pkeyguard_heap_of(NULL) == NULL);
    expect(pkeyguard_heap_of(&object) == NULL);
    for (int i = 0; i < 20; i++) {
        object = heap_start(heaps[i]);
        expect(pkeyguard_heap_destroy(heaps[i]) == 0);
        expect(pkeyguard_heap_of(object) == NULL);
    }
    free(of_malloc);
    destroy_heap(NULL, key);
}
END_TEST

START_TEST(null_and_bad_arguments_are_refused)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = NULL;
    struct resources before = count_resources();

    expect(pkeyguard_heap_create(key, 0, 0, &heap) == -EINVAL);
    expect(pkeyguard_heap_create(key, SIZE_MAX, 0, &heap) == -EINVAL);
    expect(pkeyguard_heap_create(key, SIZE_MAX - 4095, 0, &heap) == -EINVAL);
    expect(pkeyguard_heap_create(key, (size_t)1 << 44, 0, &heap) == -EINVAL);
    expect(pkeyguard_heap_create(key, 1, 1u << 31, &heap) == -EINVAL);
    expect(heap == NULL);
    assert_resources(before);
    expect(pkeyguard_heap_destroy(NULL) == 0);
    expect(pkeyguard_heap_region(NULL) == NULL);
    expect(!pkeyguard_heap_owns(NULL, &heap));
    expect(pkeyguard_heap_free(NULL, NULL) == 0);
    assert_pointer_refused(NULL, &heap);
    errno = 0;
    expect(pkeyguard_heap_alloc(NULL, 1) == NULL);
    expect(errno == EINVAL);
    heap = new_heap(key, 1);
    expect(pkeyguard_heap_free(heap, NULL) == 0);
    expect(!pkeyguard_heap_owns(heap, NULL));
    errno = 0;
    expect(pkeyguard_heap_usable_size(heap, NULL) == 0);
    expect(errno == EINVAL);
    expect(pkeyguard_region_size(pkeyguard_heap_region(heap)) == PAGE_BYTES);
    destroy_heap(heap, key);
}
END_TEST

START_TEST(region_flags_reach_the_region)
{
    static const struct {
        unsigned flags;
        int mappings; /* the most that a heap may add */
    } cases[] = {{PKEYGUARD_REGION_NO_GUARD_PAGES, 3}, {PKEYGUARD_REGION_DUMPABLE, 5}};
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap;
    char flags[512];

    expect(pkeyguard_heap_create(key, MIB, cases[_i].flags, &heap) == 0);
    read_smaps(heap_start(heap), "VmFlags:", flags, sizeof(flags));
    expect((strstr(flags, " dd") == NULL) == (cases[_i].flags == PKEYGUARD_REGION_DUMPABLE));
    expect(pkeyguard_heap_alloc(heap, MIB) != NULL);
    destroy_heap(heap, key);
}
END_TEST

/*
 * Memory is locked when it is handed out, and no earlier. Where no more may be locked, no object is
 * handed out.
 */
START_TEST(locked_heap_locks_what_it_hands_out)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = NULL;
    long before = status_kib("VmLck:");
    char *object;

    expect(pkeyguard_heap_create(key, 64 * MIB, PKEYGUARD_REGION_LOCKED, &heap) == 0);
    expect(status_kib("VmLck:") == before);
    object = new_object(heap, 3 * PAGE_BYTES);
    expect(status_kib("VmLck:") >= before + 3 * PAGE_BYTES / 1024);
    expect(status_kib("VmLck:") <= before + 12 * PAGE_BYTES / 1024);
    fill_object(heap, object, 'l');
    fail_call(CALL_MLOCK, 0, ENOMEM, 9);
    assert_out_of_room(pkeyguard_heap_alloc(heap, 3 * PAGE_BYTES));
    expect(stop_failing());
    fail_call(CALL_MLOCK, 1, EPERM, 9);
    assert_out_of_room(pkeyguard_heap_alloc(heap, 200 * PAGE_BYTES));
    expect(stop_failing());
    fill_object(heap, new_object(heap, 3 * PAGE_BYTES), 'm');
    assert_bytes(heap, object, 3 * PAGE_BYTES, 'l');
    destroy_heap(heap, key);
    expect(status_kib("VmLck:") == before);
}
END_TEST

/* How much of the mapping that an address is in the kernel has locked in memory, in KiB. */
static long locked_kib(const void *address)
{
    char text[256];

    read_smaps(address, "Locked:", text, sizeof(text));
    return atol(text);
}

static bool lock_all_memory(void)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

    setrlimit(RLIMIT_MEMLOCK, &limit);
    return mlockall(MCL_CURRENT | MCL_FUTURE) == 0;
}

static bool may_lock_all_memory(void)
{
    pid_t child = fork();
    int status = 1;

    if (child == 0)
        _exit(lock_all_memory() ? 0 : 1);
    return waitpid(child, &status, 0) == child && status == 0;
}

/*
 * In a process that locks all of its memory, a heap's capacity is not committed, but what is used
 * is locked: when it is written to, or, in a locked heap, when it is handed out.
 */
START_TEST(locked_process_commits_no_capacity)
{
    struct pkeyguard_key *key = key_of_kind(_i % KINDS);
    unsigned flags = _i < KINDS ? 0 : PKEYGUARD_REGION_LOCKED;
    enum { OBJECT = 4 * PAGE_BYTES };
    struct pkeyguard_heap *heap = NULL;
    long before;
    char *object;

    turn_huge_pages_off();
    expect(lock_all_memory());
    before = resident_kib();
    expect(pkeyguard_heap_create(key, 256 * MIB, flags, &heap) == 0);
    object = new_object(heap, OBJECT);
    if (flags == 0)
        fill_object(heap, object, 'l');
    expect(resident_kib() - before < 2048);
    pkeyguard_scoped_write_at (char, byte, pkeyguard_heap_region(heap), object) {
        expect(resident_kib() - before < 2048);
        expect(locked_kib(object) >= OBJECT / 1024);
    }
    expect(pkeyguard_heap_free(heap, object) == 0);
    destroy_heap(heap, key);
}
END_TEST

START_TEST(secret_heap_works)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = NULL;
    char *object, copy[16], *gap;
    struct iovec to = {copy, sizeof(copy)}, from;

    expect(pkeyguard_heap_create(key, MIB, PKEYGUARD_REGION_SECRET, &heap) == 0);
    gap = heap_start(heap) + MIB;
    object = new_object(heap, 32);
    fill_object(heap, object, 's');
    from = (struct iovec){object, sizeof(copy)};
    expect(process_vm_readv(getpid(), &to, 1, &from, 1, 0) == -1);
    assert_bytes(heap, object, 32, 's');
    pkeyguard_scoped_write_at (char, byte, pkeyguard_heap_region(heap), object)
        assert_page_denied(READ_BYTE, gap);
    expect(pkeyguard_heap_free(heap, object) == 0);
    destroy_heap(heap, key);
}
END_TEST

/* The kernel gives no page for the first object, or for the metadata behind the objects. */
START_TEST(secret_heap_beyond_the_limit_is_refused)
{
    struct resources before = count_resources();
    struct pkeyguard_heap *heap = NULL;

    fail_call(CALL_GETCPU, _i == 0 ? 0 : MIB / PAGE_BYTES, EFAULT, 1);
    expect(pkeyguard_heap_create(NULL, MIB, PKEYGUARD_REGION_SECRET, &heap) == -ENOMEM);
    expect(stop_failing());
    expect(heap == NULL);
    assert_resources(before);
}
END_TEST

/* A fork child would find the metadata wiped. */
START_TEST(heap_with_fork_wipe_is_refused)
{
    struct pkeyguard_heap *heap = NULL;

    expect(pkeyguard_heap_create(NULL, MIB, PKEYGUARD_REGION_FORK_WIPE, &heap) == -EINVAL);
    expect(pkeyguard_heap_create(NULL, MIB, PKEYGUARD_REGION_END_ALIGNED, &heap) == -EINVAL);
    expect(heap == NULL);
}
END_TEST

START_TEST(heap_of_in_a_fork_child_skips_missing_heaps)
{
    struct pkeyguard_heap *forked = new_heap(NULL, MIB), *not_forked = NULL;
    pid_t child;

    expect(pkeyguard_heap_create(NULL, MIB, PKEYGUARD_REGION_NO_FORK, &not_forked) == 0);
    child = fork();
    if (child == 0) {
        expect(pkeyguard_heap_of(heap_start(forked)) == forked);
        expect(pkeyguard_heap_of(heap_start(not_forked)) == NULL);
        destroy_heap(not_forked, NULL);
        _exit(0);
    }
    assert_exits(child, 0);
    expect(pkeyguard_heap_of(heap_start(not_forked)) == not_forked);
    destroy_heap(forked, NULL);
    destroy_heap(not_forked, NULL);
}
END_TEST

static void add_region_flags(TCase *tests)
{
    tcase_add_loop_test(tests, region_flags_reach_the_region, 0, 2);
    /* Sanitizers ignore mlock(2). */
    if (!under_tool(NULL))
        tcase_add_loop_test(tests, locked_heap_locks_what_it_hands_out, 0, KINDS);
    add_loop_test_if(may_lock_all_memory() && !under_tool(NULL), "all memory cannot be locked here",
                     tests, locked_process_commits_no_capacity, 0, 2 * KINDS);
    if (test_platform()->secret_memory) {
        tcase_add_loop_test(tests, secret_heap_works, 0, ENFORCED_KINDS);
        tcase_add_loop_test(tests, secret_heap_beyond_the_limit_is_refused, 0, 2);
    }
    tcase_add_test(tests, heap_with_fork_wipe_is_refused);
}

void add_heaps(Suite *suite)
{
    TCase *tests = add_case(suite, "heaps", NULL, NULL);

    tcase_add_loop_test(tests, many_small_objects_take_little_memory, 0, KINDS);
    tcase_add_loop_test(tests, memory_is_committed_on_use, 0, KINDS);
    tcase_add_test(tests, destroy_wipes_live_objects);
    tcase_add_loop_test(tests, heap_with_an_open_guard_is_not_destroyed, SOFTWARE, PRIVATE + 1);
    tcase_add_test(tests, heap_of_finds_the_heap);
    tcase_add_test(tests, heap_of_in_a_fork_child_skips_missing_heaps);
    tcase_add_test(tests, null_and_bad_arguments_are_refused);
    add_region_flags(tests);
}
