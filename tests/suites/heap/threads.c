/* SPDX-License-Identifier: MIT */
/* One heap in several threads, and in fork children. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test_heap.h"

static struct pkeyguard_heap *shared_heap;

static void *fill_a_page(void *unused)
{
    void *object = new_object(shared_heap, 2048);

    (void)unused;
    expect(pkeyguard_heap_alloc(shared_heap, 2048) != NULL);
    return object;
}

/*
 * A thread can use the free slots of a slab that another thread has made, and the blocks of an
 * empty slab.
 */
START_TEST(threads_use_room_that_others_left_free)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    pthread_t thread;
    void *object;

    shared_heap = new_heap(key, 2 * PAGE_BYTES);
    expect(pthread_create(&thread, NULL, fill_a_page, NULL) == 0);
    expect(pthread_join(thread, &object) == 0);
    expect(pkeyguard_heap_alloc(shared_heap, 2048) != NULL);
    expect(pkeyguard_heap_alloc(shared_heap, 2048) != NULL);
    assert_out_of_room(pkeyguard_heap_alloc(shared_heap, 2048));
    for (int i = 0; i < 4; i++)
        expect(pkeyguard_heap_free(shared_heap, heap_start(shared_heap) + i * 2048) == 0);
    expect(pkeyguard_heap_alloc(shared_heap, 2 * PAGE_BYTES) != NULL);
    destroy_heap(shared_heap, key);
}
END_TEST

enum { THREADS = 20, MAILBOXES = 64, ROUNDS = 2000 };

static void *_Atomic mailboxes[MAILBOXES];
static atomic_bool stop;

static struct pkeyguard_key *shared_key;

/* How many rounds a test has. Opening and closing under mprotect takes long. */
static int rounds(const struct pkeyguard_key *key)
{
    bool slow = pkeyguard_key_enforcement(key) == PKEYGUARD_MPROTECT;

    return ROUNDS / (under_tool(NULL) ? 20 : in_guest() ? 8 : 1) / (slow ? 10 : 1);
}

/*
 * Puts objects, which carry their size, into mailboxes, and frees those that other threads have put
 * there.
 */
static void *exchange_objects(void *number)
{
    unsigned seed = (unsigned)(uintptr_t)number;

    for (int i = 0; i < rounds(shared_key); i++) {
        struct pkeyguard_region *region = pkeyguard_heap_region(shared_heap);
        size_t size = sizeof(size_t) + (unsigned)rand_r(&seed) % (i % 50 == 0 ? 9000 : 300);
        struct pkeyguard_guard guard = {0};
        size_t *object;

        if (i % 3 == 0)
            expect(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard) == 0);
        object = pkeyguard_heap_alloc(shared_heap, size);
        expect(object != NULL);
        pkeyguard_scoped_write_at (size_t, first, region, object) {
            for (size_t byte = 0; byte < size; byte++)
                expect(((char *)first)[byte] == 0);
            memset(first, (int)(size % 255) + 1, size);
            *first = size;
        }
        object = atomic_exchange(&mailboxes[rand_r(&seed) % MAILBOXES], object);
        if (object != NULL) {
            pkeyguard_scoped_read_at (size_t, first, region, object) {
                for (size_t byte = sizeof(size_t); byte < *first; byte++)
                    expect(((unsigned char *)first)[byte] == *first % 255 + 1);
            }
            expect(pkeyguard_heap_free(shared_heap, object) == 0);
        }
        pkeyguard_release(&guard);
    }
    return NULL;
}

START_TEST(many_threads_use_one_heap)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    pthread_t threads[THREADS];
    void *all;

    shared_key = key;
    shared_heap = new_heap(key, 16 * MIB);
    for (uintptr_t i = 0; i < THREADS; i++)
        expect(pthread_create(&threads[i], NULL, exchange_objects, (void *)(i + 1)) == 0);
    for (int i = 0; i < THREADS; i++)
        expect(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < MAILBOXES; i++)
        expect(pkeyguard_heap_free(shared_heap, mailboxes[i]) == 0);
    /* No object is left: all of the heap can be one object. */
    all = new_object(shared_heap, 16 * MIB);
    expect(pkeyguard_heap_free(shared_heap, all) == 0);
    destroy_heap(shared_heap, key);
}
END_TEST

static void *free_every_object(void *result)
{
    for (int i = 0; i < rounds(shared_key); i++) {
        void *object = atomic_load(&mailboxes[i % MAILBOXES]);

        if (pkeyguard_heap_free(shared_heap, object) == 0 && object != NULL)
            ++*(int *)result;
    }
    return NULL;
}

/* Two threads free the same objects; each object is freed once. */
START_TEST(one_of_two_racing_frees_is_refused)
{
    struct pkeyguard_key *key = key_of_kind(OPTIONAL);
    int freed[2] = {0}, made = 0;
    pthread_t threads[2];

    shared_key = key;
    for (size_t size = 64; size < 20000; size *= 4) {
        shared_heap = new_heap(key, 16 * MIB);
        for (int i = 0; i < MAILBOXES; i++, made++)
            mailboxes[i] = new_object(shared_heap, size);
        for (int i = 0; i < 2; i++)
            expect(pthread_create(&threads[i], NULL, free_every_object, &freed[i]) == 0);
        for (int i = 0; i < 2; i++)
            expect(pthread_join(threads[i], NULL) == 0);
        expect(freed[0] + freed[1] == made);
        expect(pkeyguard_heap_destroy(shared_heap) == 0);
    }
    destroy_heap(NULL, key);
}
END_TEST

static void *use_until_stopped(void *unused)
{
    (void)unused;
    while (!stop) {
        void *small = new_object(shared_heap, 32), *large = new_object(shared_heap, 5000);

        expect(pkeyguard_heap_free(shared_heap, small) == 0);
        expect(pkeyguard_heap_free(shared_heap, large) == 0);
    }
    return NULL;
}

/*
 * The other threads, which do not exist in the child, may have been in the middle of a heap call.
 */
START_TEST(heap_works_in_a_fork_child)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    pthread_t threads[2];
    char *object;

    shared_heap = new_heap(key, 16 * MIB);
    object = new_object(shared_heap, 100);
    fill_object(shared_heap, object, 'f');
    stop = false;
    for (int i = 0; i < 2; i++)
        expect(pthread_create(&threads[i], NULL, use_until_stopped, NULL) == 0);
    for (int i = 0; i < (under_tool(NULL) ? 3 : 6); i++) {
        pid_t child = fork();

        if (child == 0) {
            for (size_t size = 1; size < 10000; size *= 2) {
                for (int shard = 0; shard < 20; shard++)
                    new_object(shared_heap, size);
            }
            assert_bytes(shared_heap, object, 100, 'f');
            expect(pkeyguard_heap_free(shared_heap, object) == 0);
            expect(pkeyguard_heap_destroy(shared_heap) == 0);
            _exit(7);
        }
        assert_exits(child, 7);
    }
    stop = true;
    for (int i = 0; i < 2; i++)
        expect(pthread_join(threads[i], NULL) == 0);
    assert_bytes(shared_heap, object, 100, 'f');
    destroy_heap(shared_heap, key);
}
END_TEST

static void *make_and_destroy_heaps(void *unused)
{
    (void)unused;
    while (!stop) {
        struct pkeyguard_heap *one = new_heap(NULL, PAGE_BYTES), *two = new_heap(NULL, 4 * MIB);

        expect(pkeyguard_heap_destroy(one) == 0);
        expect(pkeyguard_heap_destroy(two) == 0);
    }
    return NULL;
}

START_TEST(heap_of_is_right_while_other_heaps_come_and_go)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    char *object = new_object(heap, 32), *mapped[50];
    pthread_t threads[2];

    /* Leaves holes in the address space, in which heaps are then created. */
    for (int i = 0; i < 50; i++) {
        mapped[i] = mmap(NULL, 4 * PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        expect(mapped[i] != MAP_FAILED);
    }
    for (int i = 0; i < 50; i += 2)
        munmap(mapped[i], 4 * PAGE_BYTES);
    stop = false;
    for (int i = 0; i < 2; i++)
        expect(pthread_create(&threads[i], NULL, make_and_destroy_heaps, NULL) == 0);
    for (int i = 0; i < 100000; i++) {
        expect(pkeyguard_heap_of(object) == heap);
        expect(pkeyguard_heap_of(mapped[1 + i % 25 * 2]) == NULL);
    }
    stop = true;
    for (int i = 0; i < 2; i++)
        expect(pthread_join(threads[i], NULL) == 0);
    destroy_heap(heap, key);
}
END_TEST

void add_threads(Suite *suite)
{
    TCase *tests = add_case(suite, "threads", NULL, NULL);

    tcase_add_test(tests, threads_use_room_that_others_left_free);
    tcase_add_test(tests, one_of_two_racing_frees_is_refused);
    /* Under valgrind a thread that never waits keeps the others from running. */
    if (!under_tool("valgrind")) {
        tcase_add_loop_test(tests, many_threads_use_one_heap, 0, KINDS);
        tcase_add_loop_test(tests, heap_works_in_a_fork_child, 0, KINDS);
    }
    tcase_add_test(tests, heap_of_is_right_while_other_heaps_come_and_go);
}
