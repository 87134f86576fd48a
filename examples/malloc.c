/* SPDX-License-Identifier: MIT */
/*
 * malloc - malloc(3) on heaps of this library, for programs that were not made for it
 *
 *     LD_PRELOAD=$PWD/pkeyguard_malloc.so python3 program.py
 *
 * It guards against mistakes with freed memory. A second free, or a free of what is no object, ends
 * the process with one line on stderr. So does a write to a freed object, when the memory is about
 * to be used again, and it is not used again soon (heap.h). Freed memory is wiped, so no secret
 * stays in it. The allocator's records are not beside the objects, where an overflow would reach
 * them. It does not guard against an overflow into the next object. malloc_victim.c makes such
 * mistakes, with and without it.
 *
 * The key. The programs open no guards, so the memory is open by default. The key is a software
 * key: under PKU the default rights of a dedicated key do not hold in signal handlers and in
 * threads that are older than the key. Each thread also has a guard on it, for speed.
 *
 * Recursion. libpkeyguard allocates nothing by malloc, but functions of the C library that it calls
 * may. There is no heap yet when they do so during the start; later, calls from inside the library
 * get EDEADLK from the heap. Both are served from an arena, as is everything before the start, and
 * calls of fork handlers that run while fork(3) holds the heaps.
 *
 * The functions take no lock of their own, so nothing can be held in a fork child.
 */
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <pkeyguard.h>

enum { ALIGNMENT = 16 };

/* Ends the process because a function was called with a wrong object. */
static _Noreturn void stop(const char *function, const void *object, const char *reason)
{
    dprintf(STDERR_FILENO, "pkeyguard_malloc: %s of %p: %s\n", function, object, reason);
    abort();
}

static void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

/* ---- the arena: memory that is never used again ---- */

enum { ARENA_SIZE = 1 << 20 };
static _Alignas(ALIGNMENT) char arena[ARENA_SIZE];
static atomic_size_t arena_used;

/* Before each object of the arena. */
struct arena_header {
    _Alignas(ALIGNMENT) size_t size; /* of the object */
};

static void *from_arena(size_t alignment, size_t size)
{
    size_t used = arena_used, start;

    do {
        uintptr_t next = (uintptr_t)arena + used + sizeof(struct arena_header);

        start = ((next + alignment - 1) & -alignment) - (uintptr_t)arena;
        if (start > ARENA_SIZE || size > ARENA_SIZE - start)
            return no_memory();
    } while (!atomic_compare_exchange_weak(
        &arena_used, &used, (start + size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1)));
    ((struct arena_header *)(void *)(arena + start))[-1].size = size;
    return arena + start;
}

static bool in_arena(const void *object)
{
    return (uintptr_t)object - (uintptr_t)arena < ARENA_SIZE;
}

/* ---- the heaps ---- */

enum { HEAPS = 1024, HEAP_SIZE = 1 << 28 };

/* Heaps are only added, each in the first place that is NULL. */
static struct pkeyguard_heap *_Atomic heaps[HEAPS];
static atomic_int heap_count;
static struct pkeyguard_key *key; /* constant after the start */

/* Two threads that find all heaps full may both add one. Returns 0 or -errno. */
static int add_heap(size_t alignment, size_t size)
{
    struct pkeyguard_heap *heap;
    int place = heap_count, error;
    size_t capacity;

    if (__builtin_add_overflow(size, alignment, &capacity) ||
        __builtin_add_overflow(capacity, HEAP_SIZE, &capacity))
        return -ENOMEM;
    /* Core dumps have the objects, as they do with another malloc. */
    error = pkeyguard_heap_create(key, capacity, PKEYGUARD_REGION_DUMPABLE, &heap);
    if (error != 0)
        return error;
    do {
        if (place == HEAPS) {
            (void)!pkeyguard_heap_destroy(heap);
            return -ENOMEM;
        }
    } while (!atomic_compare_exchange_weak(&heap_count, &place, place + 1));
    heaps[place] = heap;
    return 0;
}

__attribute__((constructor)) static void start(void)
{
    int error = pkeyguard_key_create(PKEYGUARD_READ_WRITE, PKEYGUARD_KEY_SOFTWARE, &key);

    if (error == 0)
        error = add_heap(0, 0);
    if (error != 0) {
        dprintf(STDERR_FILENO, "pkeyguard_malloc: no heap: %s\n", pkeyguard_strerror(error));
        abort();
    }
}

/*
 * Opens the key for the calling thread, for good, in its first call. That changes no rights. But
 * without it each function of a heap acquires a guard, which makes system calls.
 */
static void open_for_thread(void)
{
    static __thread struct pkeyguard_guard guard __attribute__((tls_model("initial-exec")));
    static __thread bool opened __attribute__((tls_model("initial-exec")));

    if (!opened && heap_count > 0)
        opened = pkeyguard_key_acquire(key, PKEYGUARD_READ_WRITE, &guard) == 0;
}

/* The newest heap, which has most room, comes first. Returns NULL and sets errno. */
static void *from_heaps(size_t alignment, size_t size)
{
    open_for_thread();
    errno = EDEADLK; /* there is no heap before the start */
    for (int i = heap_count; i-- > 0;) {
        struct pkeyguard_heap *heap = heaps[i]; /* NULL: another thread is about to add it */
        void *object = heap == NULL ? NULL : pkeyguard_heap_aligned_alloc(heap, alignment, size);

        if (object != NULL || (heap != NULL && errno != ENOMEM))
            return object;
    }
    return NULL;
}

/* The memory is zero. Returns NULL and sets errno to ENOMEM. */
static void *allocate(size_t alignment, size_t size)
{
    void *object = from_heaps(alignment, size);

    if (object == NULL && errno == ENOMEM && add_heap(alignment, size) == 0)
        object = from_heaps(alignment, size);
    if (object == NULL && errno == EDEADLK)
        object = from_arena(alignment, size);
    return object != NULL ? object : no_memory();
}

/* The heap that an object outside the arena is in. */
static struct pkeyguard_heap *heap_of(const char *function, const void *object)
{
    struct pkeyguard_heap *heap = pkeyguard_heap_of(object);

    if (heap == NULL)
        stop(function, object, "it is in no heap");
    return heap;
}

static const char no_object[] = "no object begins there, or it was freed before";

/* 0 if it cannot be known now, as fork(3) holds the heaps. */
static size_t usable_size(const void *object)
{
    size_t size;

    if (in_arena(object))
        return ((const struct arena_header *)object)[-1].size;
    size = pkeyguard_heap_usable_size(heap_of("malloc_usable_size", object), object);
    if (size == 0 && errno == EINVAL)
        stop("malloc_usable_size", object, no_object);
    return size;
}

/* An object that cannot be freed now, as fork(3) holds the heaps, stays allocated. */
static void give_back(void *object)
{
    if (in_arena(object))
        return;
    open_for_thread();
    if (pkeyguard_heap_free(heap_of("free", object), object) == -EINVAL)
        stop("free", object, no_object);
}

/* For objects of the arena or of a full heap. It fails while fork(3) holds the heaps. */
static void *move(void *object, size_t size)
{
    size_t old_size = usable_size(object);
    void *moved;

    if (old_size == 0 && !in_arena(object))
        return no_memory();
    moved = allocate(ALIGNMENT, size);
    if (moved != NULL) {
        memcpy(moved, object, old_size < size ? old_size : size);
        give_back(object);
    }
    return moved;
}

/* The object may be NULL. */
static void *resize(void *object, size_t size)
{
    void *resized = NULL;

    if (object == NULL)
        return allocate(ALIGNMENT, size);
    if (!in_arena(object)) {
        resized = pkeyguard_heap_realloc(heap_of("realloc", object), object, size);
        if (resized == NULL && errno == EINVAL)
            stop("realloc", object, no_object);
    }
    return resized != NULL ? resized : move(object, size);
}

static void *allocate_aligned(size_t alignment, size_t size)
{
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
        errno = EINVAL;
        return NULL;
    }
    return allocate(alignment < ALIGNMENT ? ALIGNMENT : alignment, size);
}

/* ---- malloc(3) and its relatives ---- */

void *malloc(size_t size)
{
    return allocate(ALIGNMENT, size);
}

void *calloc(size_t nmemb, size_t size)
{
    size_t bytes;

    return __builtin_mul_overflow(nmemb, size, &bytes) ? no_memory() : allocate(ALIGNMENT, bytes);
}

void free(void *ptr)
{
    if (ptr != NULL)
        give_back(ptr);
}

size_t malloc_usable_size(void *ptr)
{
    return ptr == NULL ? 0 : usable_size(ptr);
}

void *realloc(void *ptr, size_t size)
{
    return resize(ptr, size);
}

void *reallocarray(void *ptr, size_t nmemb, size_t size)
{
    size_t bytes;

    return __builtin_mul_overflow(nmemb, size, &bytes) ? no_memory() : resize(ptr, bytes);
}

void *memalign(size_t alignment, size_t size)
{
    return allocate_aligned(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return allocate_aligned(alignment, size);
}

int posix_memalign(void **memptr, size_t alignment, size_t size)
{
    int saved_errno = errno, error = EINVAL;

    if (alignment >= sizeof(void *)) {
        void *object = allocate_aligned(alignment, size);

        error = object == NULL ? errno : 0;
        if (error == 0)
            *memptr = object;
    }
    errno = saved_errno;
    return error;
}

void *valloc(size_t size)
{
    return allocate_aligned((size_t)getpagesize(), size);
}

void *pvalloc(size_t size)
{
    size_t page_size = (size_t)getpagesize(), bytes;

    if (__builtin_add_overflow(size, page_size - 1, &bytes))
        return no_memory();
    return allocate_aligned(page_size, bytes & ~(page_size - 1));
}
