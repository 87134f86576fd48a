/* SPDX-License-Identifier: MIT */
/* Allocating and freeing objects: a heap, and other allocators. */
#include "bench.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <sodium.h>

#include <pkeyguard.h>

/* malloc() is jemalloc's in this program; these are glibc's. */
void *__libc_malloc(size_t size);
void __libc_free(void *object);

enum { CAPACITY = 4 << 20 }; /* bytes, of each heap and of OpenSSL's secure heap */

struct keyed_heap {
    struct pkeyguard_key *key;
    struct pkeyguard_heap *heap;
    struct pkeyguard_guard guard; /* on the key; empty if the heap is closed */
};

static struct keyed_heap open_heap, closed_heap, open_software_heap, closed_software_heap;
static size_t size; /* bytes of each object */

static void glibc_wipe_and_free(void *object)
{
    explicit_bzero(object, size);
    __libc_free(object);
}

static void jemalloc_wipe_and_free(void *object)
{
    explicit_bzero(object, size);
    free(object);
}

#define HEAP(name)                                                                         \
    static inline void *name##_alloc(size_t bytes)                                         \
    {                                                                                      \
        return pkeyguard_heap_alloc(name.heap, bytes);                                     \
    }                                                                                      \
    static inline void name##_free(void *object)                                           \
    {                                                                                      \
        bench_require(pkeyguard_heap_free(name.heap, object) == 0, "pkeyguard_heap_free"); \
    }
HEAP(open_heap)
HEAP(closed_heap)
HEAP(open_software_heap)
HEAP(closed_software_heap)

/* Writes to the object, so that its page is in use, and does not free it. */
static inline void keep(void *object)
{
    *(volatile char *)object = 1;
}

/* Defines an operation that allocates an object and passes it to dispose. */
#define PAIRS(name, alloc, dispose)              \
    static void name(unsigned count)             \
    {                                            \
        for (unsigned i = 0; i < count; i++) {   \
            void *object = alloc(size);          \
                                                 \
            __asm__ volatile("" : "+r"(object)); \
            dispose(object);                     \
        }                                        \
    }
PAIRS(glibc, __libc_malloc, __libc_free)
PAIRS(glibc_wiped, __libc_malloc, glibc_wipe_and_free)
PAIRS(jemalloc, malloc, free)
PAIRS(jemalloc_wiped, malloc, jemalloc_wipe_and_free)
PAIRS(scope_open, open_heap_alloc, open_heap_free)
PAIRS(scope_closed, closed_heap_alloc, closed_heap_free)
PAIRS(software_scope_open, open_software_heap_alloc, open_software_heap_free)
PAIRS(software_scope_closed, closed_software_heap_alloc, closed_software_heap_free)
PAIRS(openssl, OPENSSL_secure_malloc, OPENSSL_secure_free)
PAIRS(sodium, sodium_malloc, sodium_free)

static void create_heap_of(struct keyed_heap *created, unsigned key_flags, size_t capacity,
                           bool open)
{
    *created = (struct keyed_heap){0};
    bench_require(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, key_flags, &created->key) == 0,
                  "pkeyguard_key_create");
    bench_require(pkeyguard_heap_create(created->key, capacity, 0, &created->heap) == 0,
                  "pkeyguard_heap_create");
    if (open)
        bench_require(pkeyguard_key_acquire(created->key, PKEYGUARD_READ_WRITE, &created->guard) ==
                          0,
                      "pkeyguard_key_acquire");
}

static void create_heap(struct keyed_heap *created, unsigned key_flags, bool open)
{
    create_heap_of(created, key_flags, CAPACITY, open);
}

static void destroy_heap(struct keyed_heap *destroyed)
{
    pkeyguard_release(&destroyed->guard);
    bench_require(pkeyguard_heap_destroy(destroyed->heap) == 0, "pkeyguard_heap_destroy");
    bench_require(pkeyguard_key_destroy(destroyed->key) == 0, "pkeyguard_key_destroy");
}

static void init_openssl(void)
{
    bench_require(CRYPTO_secure_malloc_init(CAPACITY, 32) != 0, "CRYPTO_secure_malloc_init");
}

static void set_up(size_t object_size)
{
    size = object_size;
    create_heap(&open_heap, PKEYGUARD_KEY_OPTIONAL, true);
    create_heap(&closed_heap, PKEYGUARD_KEY_OPTIONAL, false);
    create_heap(&open_software_heap, PKEYGUARD_KEY_SOFTWARE, true);
    create_heap(&closed_software_heap, PKEYGUARD_KEY_SOFTWARE, false);
    init_openssl();
    bench_require(sodium_init() >= 0, "sodium_init");
}

static void set_up_32(void)
{
    set_up(32);
}

static void set_up_256(void)
{
    set_up(256);
}

static void set_up_4096(void)
{
    set_up(4096);
}

static void tear_down(void)
{
    destroy_heap(&open_heap);
    destroy_heap(&closed_heap);
    destroy_heap(&open_software_heap);
    destroy_heap(&closed_software_heap);
    bench_require(CRYPTO_secure_malloc_done(), "CRYPTO_secure_malloc_done");
}

/* For MEMORY: operations that leave their objects allocated. */
PAIRS(glibc_live, __libc_malloc, keep)
PAIRS(jemalloc_live, malloc, keep)
PAIRS(sodium_live, sodium_malloc, keep)
PAIRS(openssl_kept, OPENSSL_secure_malloc, keep)
PAIRS(heap_kept, open_heap_alloc, keep)

static void openssl_live(unsigned count)
{
    init_openssl();
    openssl_kept(count);
}

static void heap_live(unsigned count)
{
    create_heap(&open_heap, PKEYGUARD_KEY_OPTIONAL, true);
    heap_kept(count);
}

static void set_up_live(void)
{
    size = 32;
    bench_require(sodium_init() >= 0, "sodium_init");
}

static void tear_down_nothing(void)
{
}

/*
 * Threads that share the work of an operation and sleep between operations. PAIRS_EACH is large
 * because the kernel may wake both on one processor and needs time to move one away.
 */
enum { WORKERS = 2, PAIRS_EACH = 5000 };

static pthread_t workers[WORKERS];
static pthread_barrier_t start, end;
static unsigned shares[WORKERS];     /* pairs that each worker has to do */
static void (*work)(unsigned count); /* NULL: the workers end */

static void *run_worker(void *argument)
{
    const unsigned *share = argument;

    pkeyguard_thread_reset();
    while (pthread_barrier_wait(&start), work != NULL) {
        pkeyguard_scoped_key_write (guard, open_heap.key)
            work(*share);
        pthread_barrier_wait(&end);
    }
    return NULL;
}

static void make_workers_do(void (*pairs)(unsigned count), unsigned threads, unsigned count)
{
    for (unsigned i = 0; i < WORKERS; i++)
        shares[i] = i < threads ? count * PAIRS_EACH / threads : 0;
    work = pairs;
    pthread_barrier_wait(&start);
    if (pairs != NULL)
        pthread_barrier_wait(&end);
}

static void set_up_workers(void)
{
    set_up(32);
    bench_require(pthread_barrier_init(&start, NULL, WORKERS + 1) == 0, "pthread_barrier_init");
    bench_require(pthread_barrier_init(&end, NULL, WORKERS + 1) == 0, "pthread_barrier_init");
    for (unsigned i = 0; i < WORKERS; i++)
        bench_require(pthread_create(&workers[i], NULL, run_worker, &shares[i]) == 0,
                      "pthread_create");
}

static void tear_down_workers(void)
{
    make_workers_do(NULL, 0, 0);
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_join(workers[i], NULL);
    pthread_barrier_destroy(&start);
    pthread_barrier_destroy(&end);
    tear_down();
}

#define BY_THREADS(name, pairs, threads)        \
    static void name(unsigned count)            \
    {                                           \
        make_workers_do(pairs, threads, count); \
    }
BY_THREADS(heap_by_one, scope_open, 1)
BY_THREADS(heap_by_two, scope_open, 2)
BY_THREADS(glibc_by_one, glibc_wiped, 1)
BY_THREADS(glibc_by_two, glibc_wiped, 2)
BY_THREADS(jemalloc_by_one, jemalloc_wiped, 1)
BY_THREADS(jemalloc_by_two, jemalloc_wiped, 2)

/* Closed heaps with live objects, for what it costs to open a heap among so many. */
enum { HEAPS_WITH_OBJECTS = 3, LARGEST_CAPACITY = 32 << 20 };
static const unsigned live_objects[HEAPS_WITH_OBJECTS] = {1000, 100000, 400000};
static struct keyed_heap heaps_with_objects[HEAPS_WITH_OBJECTS];

static void set_up_heaps_with_objects(void)
{
    size = 32;
    for (int i = 0; i < HEAPS_WITH_OBJECTS; i++) {
        struct keyed_heap *made = &heaps_with_objects[i];

        create_heap_of(made, PKEYGUARD_KEY_SOFTWARE, LARGEST_CAPACITY, true);
        for (unsigned live = 0; live < live_objects[i]; live++)
            keep(pkeyguard_heap_alloc(made->heap, size));
        pkeyguard_release(&made->guard);
    }
}

static void tear_down_heaps_with_objects(void)
{
    for (int i = 0; i < HEAPS_WITH_OBJECTS; i++)
        destroy_heap(&heaps_with_objects[i]);
}

#define WITH_OBJECTS(name, number)                                                       \
    static inline void *name##_alloc(size_t bytes)                                       \
    {                                                                                    \
        return pkeyguard_heap_alloc(heaps_with_objects[number].heap, bytes);             \
    }                                                                                    \
    static inline void name##_free(void *object)                                         \
    {                                                                                    \
        bench_require(pkeyguard_heap_free(heaps_with_objects[number].heap, object) == 0, \
                      "pkeyguard_heap_free");                                            \
    }                                                                                    \
    PAIRS(name, name##_alloc, name##_free)
WITH_OBJECTS(closed_with_1000, 0)
WITH_OBJECTS(closed_with_100000, 1)
WITH_OBJECTS(closed_with_400000, 2)

/* clang-format off */
#define OTHER_ALLOCATORS                                \
    {"glibc", glibc, .other = true},                    \
    {"jemalloc", jemalloc, .other = true},              \
    {"jemalloc, wiped", jemalloc_wiped, .other = true}, \
    {"OpenSSL's secure heap", openssl, .other = true},  \
    {"libsodium", sodium, .other = true}
/* clang-format on */

static const struct bench_row counted_32_rows[] = {
    {"heap, scope open", scope_open, .writes = 0, .at_most = 0.93},
    {"heap, scope closed", scope_closed, .writes = 4, .at_most = 1},
    OTHER_ALLOCATORS,
    {0},
};

static const struct bench_row counted_256_rows[] = {
    {"heap, scope open", scope_open, .writes = 0, .at_most = 1.27},
    {"heap, scope closed", scope_closed, .writes = 4, .at_most = 1.34},
    OTHER_ALLOCATORS,
    {0},
};

static const struct bench_row counted_4096_rows[] = {
    {"heap, scope open", scope_open, .writes = 0, .at_most = 0.35},
    {"heap, scope closed", scope_closed, .writes = 4, .at_most = 0.36},
    OTHER_ALLOCATORS,
    {0},
};

static const struct bench_row timed_rows[] = {
    {"heap, scope open", scope_open, .at_most = 1.5},
    {"heap, scope closed", scope_closed, .at_most = 1.5},
    {"heap, mprotect enforcement, scope open", software_scope_open, .at_most = 2.5},
    {"heap, mprotect enforcement, scope closed", software_scope_closed, .writes = 0},
    OTHER_ALLOCATORS,
    {0},
};

static const struct bench_row closed_with_objects_rows[] = {
    {"100,000 live objects", closed_with_100000, .at_most = 1.5},
    {"400,000 live objects", closed_with_400000, .at_most = 1.5},
    {0},
};

static const struct bench_row live_rows[] = {
    {"heap", heap_live, .at_most = 48},
    {"glibc", glibc_live, .other = true},
    {"jemalloc", jemalloc_live, .other = true},
    {"OpenSSL's secure heap, of 4 MiB", openssl_live, .other = true},
    {0},
};

static const struct bench_row few_live_rows[] = {
    {"heap", heap_live, .at_most = 48},
    {"libsodium", sodium_live, .other = true},
    {0},
};

static const struct bench_row worker_rows[] = {
    {"heap, two threads", heap_by_two, .at_most = 1},
    {"glibc, wiped, one thread", glibc_by_one, .writes = 0},
    {"glibc, wiped, two threads", glibc_by_two, .writes = 0},
    {"jemalloc, wiped, one thread", jemalloc_by_one, .writes = 0},
    {"jemalloc, wiped, two threads", jemalloc_by_two, .writes = 0},
    {0},
};

#define ALLOC_AND_FREE(object_size, what, bench_unit, bench_rows)                                \
    {                                                                                            \
        .name = "alloc and free of " #object_size " B, " what, .unit = bench_unit,               \
        .baseline_name = "glibc, wiped", .set_up = set_up_##object_size, .tear_down = tear_down, \
        .baseline = glibc_wiped, .rows = bench_rows,                                             \
    }

const struct bench_group bench_groups[] = {
    ALLOC_AND_FREE(32, "instructions", INSTRUCTION_RATIO, counted_32_rows),
    ALLOC_AND_FREE(256, "instructions", INSTRUCTION_RATIO, counted_256_rows),
    ALLOC_AND_FREE(4096, "instructions", INSTRUCTION_RATIO, counted_4096_rows),
    {.name = "100,000 live objects of 32 B",
     .unit = MEMORY,
     .set_up = set_up_live,
     .tear_down = tear_down_nothing,
     .rows = live_rows,
     .objects = 100000},
    {.name = "10,000 live objects of 32 B (libsodium can have about 16,000)",
     .unit = MEMORY,
     .set_up = set_up_live,
     .tear_down = tear_down_nothing,
     .rows = few_live_rows,
     .objects = 10000},
    ALLOC_AND_FREE(32, "time", TIME_RATIO, timed_rows),
    ALLOC_AND_FREE(256, "time", TIME_RATIO, timed_rows),
    ALLOC_AND_FREE(4096, "time", TIME_RATIO, timed_rows),
    {.name = "alloc and free of 32 B, mprotect enforcement, scope closed",
     .unit = TIME_RATIO,
     .baseline_name = "1,000 live objects",
     .set_up = set_up_heaps_with_objects,
     .tear_down = tear_down_heaps_with_objects,
     .baseline = closed_with_1000,
     .rows = closed_with_objects_rows},
    {.name = "alloc and free of 32 B, the same work by one thread or shared by two, scope open",
     .unit = TIME_RATIO,
     .baseline_name = "heap, one thread",
     .set_up = set_up_workers,
     .tear_down = tear_down_workers,
     .baseline = heap_by_one,
     .rows = worker_rows},
    {0},
};
