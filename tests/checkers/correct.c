/* SPDX-License-Identifier: MIT */
/*
 * correct.c - uses a heap in every way that is right, so no memory checker may report anything
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pkeyguard.h>

/* Valgrind takes long to open a large heap. */
enum { CAPACITY = 64 * 4096 };

#define require(condition)                                                       \
    do {                                                                         \
        if (!(condition)) {                                                      \
            fprintf(stderr, "correct.c:%d: not so: %s\n", __LINE__, #condition); \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

static struct pkeyguard_key *key;

static struct pkeyguard_heap *new_heap(unsigned flags)
{
    struct pkeyguard_heap *heap;

    require(pkeyguard_heap_create(key, CAPACITY, flags, &heap) == 0);
    return heap;
}

static void fill(struct pkeyguard_heap *heap, void *object, int value)
{
    size_t size = pkeyguard_heap_usable_size(heap, object);

    pkeyguard_scoped_write_at (char, bytes, pkeyguard_heap_region(heap), object)
        memset(bytes, value, size);
}

static void require_bytes(struct pkeyguard_heap *heap, const void *object, size_t size, int value)
{
    pkeyguard_scoped_read_at (char, bytes, pkeyguard_heap_region(heap), object) {
        for (size_t i = 0; i < size; i++)
            require(bytes[i] == (char)value);
    }
}

/* All bytes that were asked for are the object's, and no others. */
static void use_objects_of_every_size(void)
{
    struct pkeyguard_heap *heap = new_heap(0);

    for (size_t size = 0; size < 20000; size += size / 3 + 1) {
        size_t counted = size != 0 ? size : 1;
        char *first = pkeyguard_heap_alloc(heap, size);
        char *second = pkeyguard_heap_aligned_alloc(heap, size < 64 ? 64 : 4096, size);
        char *third = pkeyguard_heap_calloc(heap, 3, size);

        require(first != NULL && second != NULL && third != NULL);
        require(pkeyguard_heap_usable_size(heap, first) == counted);
        require(pkeyguard_heap_usable_size(heap, second) == counted);
        require_bytes(heap, first, counted, 0);
        fill(heap, first, 1);
        fill(heap, second, 2);
        fill(heap, third, 3);
        require_bytes(heap, first, counted, 1);
        require_bytes(heap, second, counted, 2);
        require(pkeyguard_heap_free(heap, second) == 0);
        require(pkeyguard_heap_free(heap, first) == 0);
        require(pkeyguard_heap_free(heap, third) == 0);
    }
    require(pkeyguard_heap_destroy(heap) == 0);
}

static void *resize(struct pkeyguard_heap *heap, void *object, size_t size)
{
    size_t before = pkeyguard_heap_usable_size(heap, object);

    object = pkeyguard_heap_realloc(heap, object, size);
    require(object != NULL && pkeyguard_heap_usable_size(heap, object) == size);
    require_bytes(heap, object, size < before ? size : before, 'o');
    if (size > before)
        require_bytes(heap, (char *)object + before, size - before, 0);
    fill(heap, object, 'o');
    return object;
}

static void resize_objects(void)
{
    struct pkeyguard_heap *heap = new_heap(0);
    char *object = pkeyguard_heap_alloc(heap, 1);

    fill(heap, object, 'o');
    for (size_t size = 1; size < 20000; size += size / 3 + 1)
        object = resize(heap, object, size);
    for (size_t size = 20000; size > 0; size -= size / 3 + 1)
        object = resize(heap, object, size);
    require(pkeyguard_heap_free(heap, object) == 0);
    require(pkeyguard_heap_destroy(heap) == 0);
}

static void fill_the_heap_twice(void)
{
    static void *objects[CAPACITY / 48];
    struct pkeyguard_heap *heap = new_heap(0);

    for (int round = 0; round < 2; round++) {
        size_t size = round == 0 ? 200 : 3000, count = 0;

        pkeyguard_scoped_write (char, all, pkeyguard_heap_region(heap)) {
            while ((objects[count] = pkeyguard_heap_alloc(heap, size)) != NULL)
                fill(heap, objects[count++], round);
            require(count >= 60);
            while (count != 0)
                require(pkeyguard_heap_free(heap, objects[--count]) == 0);
        }
        /* Without a checker this would take a slot that was just freed, in a part of the heap. */
        objects[0] = pkeyguard_heap_alloc(heap, 240);
        require(pkeyguard_heap_usable_size(heap, objects[0]) == 240);
        require(pkeyguard_heap_free(heap, objects[0]) == 0);
    }
    require(pkeyguard_heap_destroy(heap) == 0);
}

/* Scopes that open more, and then again less. */
static void nest_scopes(void)
{
    struct pkeyguard_heap *heap = new_heap(0);
    struct pkeyguard_region *region = pkeyguard_heap_region(heap);
    char *object = pkeyguard_heap_alloc(heap, 50);
    volatile char *byte = object;

    pkeyguard_scoped_read (char, all, region) {
        require(byte[49] == 0);
        pkeyguard_scoped_write (char, inner, region) {
            byte[49] = 1;
            require(pkeyguard_heap_free(heap, pkeyguard_heap_alloc(heap, 50)) == 0);
        }
        require(byte[49] == 1 && pkeyguard_heap_of(object) == heap);
    }
    require(pkeyguard_heap_free(heap, object) == 0);
    require(pkeyguard_heap_destroy(heap) == 0);
}

/* ---- threads ---- */

enum { THREADS = 4, MAILBOXES = 8, ROUNDS = 50 };

static struct pkeyguard_heap *shared_heap;
static void *_Atomic mailboxes[MAILBOXES];

/* Frees and resizes what other threads have made. */
static void *exchange_objects(void *number)
{
    unsigned seed = (unsigned)(size_t)number;

    for (int i = 0; i < ROUNDS; i++) {
        unsigned random = (unsigned)rand_r(&seed);
        void *object = pkeyguard_heap_alloc(shared_heap, random % 300);

        fill(shared_heap, object, 1);
        object = atomic_exchange(&mailboxes[random % MAILBOXES], object);
        if (object != NULL && random % 3 == 0) {
            object = pkeyguard_heap_realloc(shared_heap, object, random % 500);
            fill(shared_heap, object, 2);
        }
        require(pkeyguard_heap_free(shared_heap, object) == 0);
    }
    return NULL;
}

static void use_one_heap_in_threads(void)
{
    pthread_t threads[THREADS];

    shared_heap = new_heap(0);
    for (size_t i = 0; i < THREADS; i++)
        require(pthread_create(&threads[i], NULL, exchange_objects, (void *)(i + 1)) == 0);
    for (size_t i = 0; i < THREADS; i++)
        require(pthread_join(threads[i], NULL) == 0);
    /* It is destroyed with objects in it. */
    require(pkeyguard_heap_destroy(shared_heap) == 0);
}

/* ---- what is at the addresses of a heap that is gone ---- */

/* Makes small and large objects, which stay. */
static char *fill_some(struct pkeyguard_heap *heap)
{
    char *start = pkeyguard_region_unsafe_address(pkeyguard_heap_region(heap));

    for (size_t size = 16; size < 10000; size *= 2) {
        fill(heap, pkeyguard_heap_alloc(heap, size), 1);
        require(pkeyguard_heap_free(heap, pkeyguard_heap_alloc(heap, size)) == 0);
    }
    return start;
}

static void use_addresses(char *start)
{
    char *mapped = mmap(start, CAPACITY, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

    require(mapped == start);
    for (size_t i = 0; i < CAPACITY; i += 8)
        ((volatile char *)mapped)[i] = 1;
    require(munmap(mapped, CAPACITY) == 0);
}

static void use_addresses_of_a_destroyed_heap(void)
{
    struct pkeyguard_heap *heap = new_heap(0);
    char *start = fill_some(heap);

    require(pkeyguard_heap_destroy(heap) == 0);
    use_addresses(start);
}

static void in_child(void (*function)(struct pkeyguard_heap *), struct pkeyguard_heap *heap)
{
    pid_t child = fork();
    int status;

    require(child >= 0);
    if (child == 0) {
        function(heap);
        _exit(0);
    }
    require(waitpid(child, &status, 0) == child && status == 0);
}

static void use_copy(struct pkeyguard_heap *heap)
{
    fill_some(heap);
    require(pkeyguard_heap_destroy(heap) == 0);
}

static char *start_in_parent;

static void use_absent_addresses(struct pkeyguard_heap *heap)
{
    require(pkeyguard_heap_of(start_in_parent) == NULL);
    use_addresses(start_in_parent);
    require(pkeyguard_heap_destroy(heap) == 0);
}

static void fork_with_heaps(void)
{
    struct pkeyguard_heap *heap = new_heap(0);
    struct pkeyguard_heap *absent = new_heap(PKEYGUARD_REGION_NO_FORK);

    fill_some(heap);
    start_in_parent = fill_some(absent);
    in_child(use_copy, heap);
    in_child(use_absent_addresses, heap);
    require(pkeyguard_heap_destroy(heap) == 0);
    require(pkeyguard_heap_destroy(absent) == 0);
}

int main(void)
{
    require(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key) == 0);
    use_objects_of_every_size();
    resize_objects();
    fill_the_heap_twice();
    nest_scopes();
    use_one_heap_in_threads();
    use_addresses_of_a_destroyed_heap();
    fork_with_heaps();
    require(pkeyguard_key_destroy(key) == 0);
    return 0;
}
