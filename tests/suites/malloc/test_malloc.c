/* SPDX-License-Identifier: MIT */
/*
 * A program whose malloc is built on heaps. If the library called malloc with a lock held, the
 * allocator's own calls would be refused, or wait for themselves.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "support.h"

/* Serves what the library allocates for the allocator itself, and everything before it is used. */
static char arena[16 << 20] __attribute__((aligned(16)));
static size_t arena_used;

enum { HEAPS = 64 };
static struct pkeyguard_heap *heaps[HEAPS]; /* the later ones are made when the others are full */
static int heap_count;
static struct pkeyguard_key *key;
static size_t heap_size;
static int served_by_heaps;
static __thread bool inside __attribute__((tls_model("initial-exec")));

static void *from_arena(size_t size)
{
    size_t at = __atomic_fetch_add(&arena_used, (size + 31) & ~(size_t)15, __ATOMIC_RELAXED);

    return at + size <= sizeof(arena) ? arena + at : NULL;
}

static bool add_heap(void)
{
    bool added;

    inside = true;
    added = heap_count < HEAPS && pkeyguard_heap_create(key, heap_size, 0, &heaps[heap_count]) == 0;
    inside = false;
    heap_count += added;
    return added;
}

void *malloc(size_t size)
{
    void *object = NULL;

    if (inside || heap_count == 0)
        return from_arena(size);
    for (int i = 0; i < heap_count && object == NULL; i++)
        object = pkeyguard_heap_alloc(heaps[i], size);
    if (object == NULL && errno == ENOMEM && add_heap())
        object = pkeyguard_heap_alloc(heaps[heap_count - 1], size);
    served_by_heaps += object != NULL;
    return object;
}

void *calloc(size_t count, size_t size)
{
    return malloc(count * size); /* both are zero */
}

void free(void *object)
{
    struct pkeyguard_heap *heap = pkeyguard_heap_of(object);

    if (heap != NULL)
        (void)pkeyguard_heap_free(heap, object);
}

void *realloc(void *object, size_t size)
{
    struct pkeyguard_heap *heap = pkeyguard_heap_of(object);
    void *moved;

    if (heap != NULL)
        return pkeyguard_heap_realloc(heap, object, size);
    moved = malloc(size);
    if (moved != NULL && object != NULL)
        memcpy(moved, object, size); /* the arena is large enough to read past the old one */
    return moved;
}

enum { MANY = 300 };

/* The allocator's heaps are all but full, or roomy. */
static void start_allocator(bool full)
{
    key = new_key(PKEYGUARD_READ_WRITE, 0);
    heap_size = full ? 4 * PAGE_BYTES : 1 << 20;
    ck_assert(add_heap());
    ck_assert_ptr_eq(pkeyguard_heap_of(malloc(100)), heaps[0]);
}

/* With a guard open, and without: each call of the allocator then opens its heap itself. */
START_TEST(regions_heaps_and_keys_are_made_on_such_a_malloc)
{
    static struct pkeyguard_region *regions[MANY];
    static struct pkeyguard_heap *made[MANY];
    static struct pkeyguard_key *keys[MANY];
    struct pkeyguard_guard guard = {0};

    start_allocator(_i % 2 == 0);
    if (_i < 2)
        ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_WRITE, &guard), 0);
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(pkeyguard_region_create(NULL, 100, PAGE_RW, 0, &regions[i]), 0);
        ck_assert_int_eq(pkeyguard_heap_create(NULL, PAGE_BYTES, 0, &made[i]), 0);
        keys[i] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
        free(malloc(40));
    }
    ck_assert_int_gt(served_by_heaps, MANY);
    for (int i = 0; i < MANY; i++) {
        ck_assert_int_eq(pkeyguard_heap_destroy(made[i]), 0);
        destroy(regions[i], keys[i]);
    }
    pkeyguard_release(&guard);
}
END_TEST

START_TEST(forks_on_such_a_malloc)
{
    start_allocator(_i == 0);
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();

        if (child == 0) {
            alarm(10);
            ck_assert_ptr_nonnull(malloc(100));
            _exit(5);
        }
        assert_exits(child, 5);
        ck_assert_ptr_nonnull(malloc(2000));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("malloc");
    TCase *tests = add_case(suite, "malloc", NULL, NULL);

    tcase_add_loop_test(tests, regions_heaps_and_keys_are_made_on_such_a_malloc, 0, 4);
    tcase_add_loop_test(tests, forks_on_such_a_malloc, 0, 2);
    return run_suite(suite);
}
