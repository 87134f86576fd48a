/* SPDX-License-Identifier: MIT */
/*
 * heap.c - heaps, and the functions of <pkeyguard/heap.h> for objects
 *
 * objects.h, slabs.h and blocks.h are parts of this file, so that the compiler inlines a whole
 * allocation. In a heap that a memory checker watches, checked_objects.h takes their place.
 */
#include <pkeyguard/heap.h>

#include <errno.h>
#include <string.h>

#include <pkeyguard/guard.h>

#include "base/os.h"
#include "heap/checked_objects.h"
#include "heap/fast_slots.h"
#include "heap/heap.h"
#include "heap/heap_directory.h"
#include "heap/objects.h"
#include "heap/parted_heap.h"
#include "region/annexed_region.h"

/* ---- heaps ---- */

/* Returns what a heap with this region is to contain. */
static struct pkeyguard_heap describe_heap(struct pkeyguard_region *region, size_t size,
                                           struct heap_state *state)
{
    char *start = pkeyguard_region_unsafe_address(region);
    struct metadata *metadata = region_annex(region);

    return (struct pkeyguard_heap){
        .region = region,
        .start = start,
        .size = size,
        .units = units_of(size),
        .metadata = metadata,
        .spans =
            {
                .blocks = metadata->blocks,
                .free = &metadata->spans,
                .count = (uint32_t)(size >> BLOCK_SHIFT),
                .base = (uintptr_t)start >> BLOCK_SHIFT,
            },
        .state = state,
        .checker = memory_checker_find(),
    };
}

int pkeyguard_heap_create(struct pkeyguard_key *key, size_t capacity, unsigned region_flags,
                          struct pkeyguard_heap **ret_heap)
{
    size_t size, blocks, metadata_size;
    struct pkeyguard_heap *heap, content;
    struct pkeyguard_region *region;
    int error;

    /* FORK_WIPE would also wipe the metadata in a fork child. Objects fill whole pages. */
    if (region_flags & (PKEYGUARD_REGION_FORK_WIPE | PKEYGUARD_REGION_END_ALIGNED) ||
        capacity == 0 || __builtin_add_overflow(capacity, os_page_size() - 1, &size))
        return -EINVAL;
    size -= size % os_page_size();
    blocks = size >> BLOCK_SHIFT;
    if (blocks >= UINT32_MAX)
        return -EINVAL;
    metadata_size = sizeof(struct metadata) + blocks * sizeof(struct block);
    error = heap_threads_prepare();
    if (error == 0)
        error = heap_directory_take(&heap);
    if (error != 0)
        return error;
    error = region_create_with_annex(key, size, metadata_size, region_flags, &region);
    if (error != 0) {
        heap_directory_give_back(heap);
        return error;
    }
    content = describe_heap(region, size, heap->state);
    prepare_parts(&content);
    if (content.checker != NULL)
        let_nobody_own_shards(heap->state);
    heap_directory_publish(heap, &content, close_all_but_objects);
    *ret_heap = heap;
    return 0;
}

int pkeyguard_heap_destroy(struct pkeyguard_heap *heap)
{
    int error;

    if (heap == NULL)
        return 0;
    error = region_check_unused(heap->region);
    if (error != 0)
        return error;
    /* Withdraw the heap first: once it is unmapped, other memory may get its addresses. */
    error = heap_directory_withdraw(heap);
    if (error != 0)
        return error;
    error = pkeyguard_region_destroy(heap->region);
    if (error != 0) {
        heap_directory_publish(heap, heap, NULL);
        return error;
    }
    heap_directory_give_back(heap);
    return 0;
}

bool pkeyguard_heap_owns(const struct pkeyguard_heap *heap, const void *object)
{
    return heap != NULL && (uintptr_t)object - (uintptr_t)heap->start < heap->size;
}

struct pkeyguard_region *pkeyguard_heap_region(const struct pkeyguard_heap *heap)
{
    return heap == NULL ? NULL : heap->region;
}

/* ---- objects; the heap's key is open ---- */

static inline int alloc_object(struct pkeyguard_heap *heap, size_t size, size_t alignment,
                               void **ret_object)
{
    if (alignment == ALIGNMENT) {
        enum taken taken = fast_alloc(heap, size, ret_object);

        require_taken_whole(heap, taken);
        if (taken == TAKEN)
            return 0;
    }
    if (heap->checker != NULL)
        return checked_alloc(heap, size, alignment, ret_object);
    return objects_alloc(heap, size, alignment, ret_object);
}

static inline int free_object(struct pkeyguard_heap *heap, void *address)
{
    if (fast_free(heap, address))
        return 0;
    return heap->checker != NULL ? checked_free(heap, address) : objects_free(heap, address);
}

/* Returns an object's usable size in bytes, or -EINVAL: no live object begins at the address. */
static int live_object_size(struct pkeyguard_heap *heap, const void *address, size_t *ret_size)
{
    return heap->checker != NULL ? checked_live_size(heap, address, ret_size)
                                 : objects_live_size(heap, address, ret_size);
}

/* Gives an object that stays where it is this smaller size. */
static int keep_object(struct pkeyguard_heap *heap, void *object, size_t size)
{
    return heap->checker != NULL ? checked_shrink(heap, object, size) : 0;
}

static int resize_object(struct pkeyguard_heap *heap, void *object, size_t size, void **ret_object)
{
    size_t usable;
    void *moved;
    int error = live_object_size(heap, object, &usable);

    if (error == -EINVAL && heap->checker != NULL)
        checked_report(heap, object);
    if (error != 0)
        return error;
    *ret_object = object;
    if (size <= usable && 2 * size + ALIGNMENT >= usable)
        return keep_object(heap, object, size);
    error = alloc_object(heap, size, ALIGNMENT, &moved);
    if (error != 0)
        return size <= usable ? keep_object(heap, object, size) : error;
    memcpy(moved, object, size < usable ? size : usable);
    (void)free_object(heap, object);
    *ret_object = moved;
    return 0;
}

/* ---- objects; the heap's key may be closed ---- */

static bool is_open_without_guard(const struct pkeyguard_heap *heap)
{
    return region_open_by_own_guard(heap->region);
}

static int open_heap(struct pkeyguard_heap *heap, struct pkeyguard_guard *ret_guard)
{
    if (heap == NULL)
        return -EINVAL;
    if (is_open_without_guard(heap)) {
        *ret_guard = (struct pkeyguard_guard){0};
        return 0;
    }
    return pkeyguard_acquire(heap->region, PKEYGUARD_READ_WRITE, ret_guard);
}

static void *object_or_errno(void *object, int error)
{
    if (error == 0)
        return object;
    errno = -error;
    return NULL;
}

/* The deny bits of the heap's key if it is a dedicated one, else 0. */
static inline uint32_t dedicated_bits(const struct pkeyguard_heap *heap)
{
    return heap->region->head.bits.ad_wd;
}

/* Returns those of the deny bits that it cleared, for close_dedicated(). */
static inline uint32_t open_dedicated(uint32_t bits)
{
    uint64_t unused;

    return pkeyguard_pkru_clear_bits(bits, &unused);
}

static inline void close_dedicated(uint32_t cleared)
{
    if (cleared != 0)
        pkeyguard_pkru_set_bits(cleared);
}

static inline bool is_unenforced(const struct pkeyguard_heap *heap)
{
    return heap->region->head.key->enforcement->kind == PKEYGUARD_UNENFORCED;
}

static __attribute__((noinline)) void *alloc_opened(struct pkeyguard_heap *heap, size_t size,
                                                    size_t alignment, uint32_t cleared)
{
    void *object = NULL;
    int error = alloc_object(heap, size, alignment, &object);

    close_dedicated(cleared);
    return object_or_errno(object, error);
}

static void *alloc_closed(struct pkeyguard_heap *heap, size_t size, size_t alignment)
{
    struct pkeyguard_guard guard;
    void *object = NULL;
    int error;

    if (size <= SMALL_MAX && alignment == ALIGNMENT && is_parted(heap)) {
        object = parted_alloc(heap, size);
        if (object != NULL)
            return object;
    }
    error = pkeyguard_acquire(heap->region, PKEYGUARD_READ_WRITE, &guard);
    if (error == 0) {
        error = alloc_object(heap, size, alignment, &object);
        pkeyguard_release(&guard);
    }
    return object_or_errno(object, error);
}

static __attribute__((noinline)) void *open_and_alloc(struct pkeyguard_heap *heap, size_t size,
                                                      size_t alignment)
{
    if (heap == NULL)
        return object_or_errno(NULL, -EINVAL);
    return is_open_without_guard(heap) ? alloc_opened(heap, size, alignment, 0)
                                       : alloc_closed(heap, size, alignment);
}

/* Aborts. It returns a value so that the compiler jumps to it, and needs no stack. */
static __attribute__((noinline, cold)) void *alloc_abort(const struct pkeyguard_heap *heap,
                                                         enum taken taken, struct shard_lock *lock)
    LOCK_ANALYSIS(release_capability(lock))
{
    shard_lock_leave(lock);
    require_taken_whole(heap, taken);
    return NULL;
}

static __attribute__((noinline)) void *alloc_dedicated(struct pkeyguard_heap *heap, size_t size)
{
    return alloc_opened(heap, size, ALIGNMENT, open_dedicated(dedicated_bits(heap)));
}

static __attribute__((noinline)) void *alloc_not_dedicated(struct pkeyguard_heap *heap, size_t size)
{
    enum taken taken;
    void *object;

    if (heap == NULL || !is_unenforced(heap))
        return open_and_alloc(heap, size, ALIGNMENT);
    taken = fast_alloc(heap, size, &object);
    require_taken_whole(heap, taken);
    return taken == TAKEN ? object : alloc_opened(heap, size, ALIGNMENT, 0);
}

/*
 * The common case comes first, and needs no stack. KEEP_VALUE() makes gcc leave an argument in the
 * register in which it came.
 */
void *pkeyguard_heap_alloc(struct pkeyguard_heap *heap, size_t size)
{
    struct shard_lock *lock;
    uint32_t bits, cleared;
    enum taken taken;
    void *object;

    if (heap == NULL)
        return alloc_not_dedicated(heap, size);
    bits = dedicated_bits(heap);
    if (bits == 0)
        return alloc_not_dedicated(heap, size);
    lock = fast_lock(heap);
    KEEP_VALUE(size);
    if (!fast_alloc_enter(size, lock))
        return alloc_dedicated(heap, size);
    cleared = open_dedicated(bits);
    taken = fast_take(heap, size, &object);
    if (taken != TAKEN && taken != NONE_TO_TAKE)
        return alloc_abort(heap, taken, lock);
    shard_lock_leave(lock);
    if (taken == NONE_TO_TAKE)
        return alloc_opened(heap, size, ALIGNMENT, cleared);
    close_dedicated(cleared);
    return object;
}

void *pkeyguard_heap_aligned_alloc(struct pkeyguard_heap *heap, size_t alignment, size_t size)
{
    if (alignment == 0 || (alignment & (alignment - 1)) != 0)
        return object_or_errno(NULL, -EINVAL);
    return open_and_alloc(heap, size, alignment < ALIGNMENT ? ALIGNMENT : alignment);
}

void *pkeyguard_heap_calloc(struct pkeyguard_heap *heap, size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total))
        return object_or_errno(NULL, -ENOMEM);
    return pkeyguard_heap_alloc(heap, total);
}

void *pkeyguard_heap_realloc(struct pkeyguard_heap *heap, void *object, size_t size)
{
    struct pkeyguard_guard guard;
    void *resized = NULL;
    int error;

    if (object == NULL)
        return pkeyguard_heap_alloc(heap, size);
    error = open_heap(heap, &guard);
    if (error == 0) {
        error = resize_object(heap, object, size, &resized);
        pkeyguard_release(&guard);
    }
    return object_or_errno(resized, error);
}

static __attribute__((noinline)) int free_opened(struct pkeyguard_heap *heap, void *object,
                                                 uint32_t cleared)
{
    int saved_errno = errno, error = object == NULL ? 0 : free_object(heap, object);

    close_dedicated(cleared);
    errno = saved_errno;
    return error;
}

static int free_closed(struct pkeyguard_heap *heap, void *object)
{
    struct pkeyguard_guard guard;
    int error;

    if (is_parted(heap) && parted_free(heap, object))
        return 0;
    error = pkeyguard_acquire(heap->region, PKEYGUARD_READ_WRITE, &guard);
    if (error == 0) {
        error = free_object(heap, object);
        pkeyguard_release(&guard);
    }
    return error;
}

static __attribute__((noinline)) int open_and_free(struct pkeyguard_heap *heap, void *object)
{
    int saved_errno = errno, error;

    if (object == NULL)
        return 0;
    if (heap == NULL)
        return -EINVAL;
    if (is_open_without_guard(heap))
        return free_opened(heap, object, 0);
    error = free_closed(heap, object);
    errno = saved_errno;
    return error;
}

static __attribute__((noinline)) int free_into_full_ring(struct pkeyguard_heap *heap, void *object,
                                                         struct shard_lock *lock, uint32_t cleared)
    LOCK_ANALYSIS(release_capability(lock))
{
    fast_free_into_full_ring(heap, object, lock);
    close_dedicated(cleared);
    return 0;
}

static __attribute__((noinline)) int free_dedicated(struct pkeyguard_heap *heap, void *object)
{
    return free_opened(heap, object, open_dedicated(dedicated_bits(heap)));
}

static __attribute__((noinline)) int free_not_dedicated(struct pkeyguard_heap *heap, void *object)
{
    if (heap == NULL || !is_unenforced(heap))
        return open_and_free(heap, object);
    return fast_free(heap, object) ? 0 : free_opened(heap, object, 0);
}

/* The common case comes first, and needs no stack. */
int pkeyguard_heap_free(struct pkeyguard_heap *heap, void *object)
{
    struct shard_lock *lock;
    uint32_t bits, cleared;
    enum freed freed;
    size_t unit;

    if (heap == NULL)
        return free_not_dedicated(heap, object);
    bits = dedicated_bits(heap);
    if (bits == 0)
        return free_not_dedicated(heap, object);
    lock = fast_lock(heap);
    unit = unit_at(heap, object);
    if (!fast_free_enter(heap, unit, lock))
        return free_dedicated(heap, object);
    KEEP_VALUE(object);
    cleared = open_dedicated(bits);
    freed = fast_free_inside(heap, object, unit);
    if (freed == NOT_FREED_RING_FULL)
        return free_into_full_ring(heap, object, lock, cleared);
    shard_lock_leave(lock);
    if (freed == NOT_FREED)
        return free_opened(heap, object, cleared);
    close_dedicated(cleared);
    return 0;
}

size_t pkeyguard_heap_usable_size(const struct pkeyguard_heap *heap, const void *object)
{
    struct pkeyguard_heap *changing = (struct pkeyguard_heap *)heap;
    struct pkeyguard_guard guard;
    size_t size = 0;
    int error = open_heap(changing, &guard);

    if (error == 0) {
        error = live_object_size(changing, object, &size);
        pkeyguard_release(&guard);
    }
    if (error != 0)
        errno = -error;
    return error == 0 ? size : 0;
}
