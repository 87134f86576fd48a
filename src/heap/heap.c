/* SPDX-License-Identifier: MIT */
/*
 * heap.c - heaps, their large objects, and the functions of <pkeyguard/heap.h> for all objects
 *
 * slabs.h and blocks.h belong to this unit, so that an allocation is one piece of machine code.
 */
#include <pkeyguard/heap.h>

#include <errno.h>
#include <string.h>

#include <pkeyguard/guard.h>

#include "base/os.h"
#include "heap/blocks.h"
#include "heap/heap.h"
#include "heap/heap_directory.h"
#include "heap/slabs.h"
#include "region/annexed_region.h"

/* ---- heaps ---- */

int pkeyguard_heap_create(struct pkeyguard_key *key, size_t capacity, unsigned region_flags,
                          struct pkeyguard_heap **ret_heap)
{
    size_t size, blocks, metadata_size;
    struct pkeyguard_heap *heap;
    int error;

    /* FORK_WIPE would wipe the metadata, too. */
    if (region_flags & PKEYGUARD_REGION_FORK_WIPE || capacity == 0 ||
        __builtin_add_overflow(capacity, os_page_size() - 1, &size))
        return -EINVAL;
    size -= size % os_page_size();
    blocks = size >> BLOCK_SHIFT;
    if (blocks >= UINT32_MAX)
        return -EINVAL;
    metadata_size = sizeof(struct metadata) + blocks * sizeof(struct block);
    heap = heap_directory_take();
    if (heap == NULL)
        return -ENOMEM;
    error = region_create_with_annex(key, size, metadata_size, region_flags, &heap->region);
    if (error != 0) {
        heap_directory_give_back(heap);
        return error;
    }
    heap->start = pkeyguard_region_unsafe_address(heap->region);
    heap->size = size;
    heap->metadata = region_annex(heap->region);
    heap->spans = (struct spans){
        .blocks = heap->metadata->blocks,
        .free = &heap->metadata->spans,
        .count = (uint32_t)blocks,
        .base = (uintptr_t)heap->start >> BLOCK_SHIFT,
    };
    heap_directory_publish(heap);
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
    /* First, because once they are unmapped the addresses may be reused. */
    heap_directory_withdraw(heap);
    error = pkeyguard_region_destroy(heap->region);
    if (error != 0) {
        heap_directory_publish(heap);
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

/* ---- large objects: whole blocks; the heap's key is open ---- */

static __attribute__((noinline)) void *alloc_large(struct pkeyguard_heap *heap, size_t size,
                                                   uintptr_t alignment)
{
    size_t count = (size >> BLOCK_SHIFT) + (size % BLOCK_SIZE != 0);
    uint32_t number;

    if (count > heap->spans.count)
        return NULL;
    alignment = alignment > BLOCK_SIZE ? alignment >> BLOCK_SHIFT : 1;
    if (!blocks_take(heap, (uint32_t)count, alignment, BLOCK_LARGE, &number)) {
        slabs_give_empty_back(heap);
        if (!blocks_take(heap, (uint32_t)count, alignment, BLOCK_LARGE, &number))
            return NULL;
    }
    return block_address(heap, number, 0, count << BLOCK_SHIFT);
}

/* How many blocks the live object has that begins here; 0: none does. */
static uint32_t large_block_count(const struct pkeyguard_heap *heap, uint32_t number,
                                  unsigned offset)
    LOCK_ANALYSIS(requires_capability(heap->spans_lock))
{
    if (load_role(spans_block(&heap->spans, number)) != BLOCK_LARGE || offset != 0)
        return 0;
    return spans_length(&heap->spans, number);
}

/*
 * In pieces: above 2 KiB glibc fills by REP STOS, which is slower to start than its loop of vector
 * stores, and catches up only when the memory is in no cache near the CPU.
 */
enum { PIECE = 2048, PIECES_MAX = 16384 };

static void wipe_large(char *first, size_t size)
{
    size_t piece = size <= PIECES_MAX ? PIECE : size;

    for (size_t wiped = 0; wiped < size; wiped += piece)
        explicit_bzero(first + wiped, piece);
}

static __attribute__((noinline)) int free_large(struct pkeyguard_heap *heap, uint32_t number,
                                                unsigned offset, void *address)
{
    uint32_t count;

    heap_lock_acquire(&heap->spans_lock);
    count = large_block_count(heap, number, offset);
    /* Wiped without the lock. Meanwhile the blocks are of no kind: neither live nor free. */
    if (count != 0)
        store_role(spans_block(&heap->spans, number), BLOCK_OTHER);
    heap_lock_release(&heap->spans_lock);
    if (count == 0)
        return -EINVAL;
    wipe_large(address, (size_t)count << BLOCK_SHIFT);
    blocks_give_back(heap, number, count);
    return 0;
}

/* ---- objects; the heap's key is open ---- */

static inline void *alloc_object(struct pkeyguard_heap *heap, size_t size, size_t alignment)
{
    void *object;

    if (size == 0)
        size = 1;
    if (size > SMALL_MAX || alignment > SMALL_MAX)
        object = alloc_large(heap, size, alignment);
    else
        object = slabs_alloc(heap, alignment > ALIGNMENT ? class_of_aligned_size(size, alignment)
                                                         : class_of_size(size));
    if (object == NULL)
        errno = ENOMEM;
    return object;
}

static inline int free_object(struct pkeyguard_heap *heap, void *address)
{
    struct place place;

    if (!blocks_locate(heap, address, &place))
        return -EINVAL;
    if (role_kind(place.role) == BLOCK_SLAB)
        return slabs_free(heap, place, address);
    return free_large(heap, place.number, place.offset, address);
}

/* An object's usable size in bytes; 0: there is no live object at address. */
static size_t live_object_size(struct pkeyguard_heap *heap, const void *address)
{
    struct place place;
    size_t size;

    if (!blocks_locate(heap, address, &place))
        return 0;
    if (role_kind(place.role) == BLOCK_SLAB)
        return slabs_live_size(heap, &place);
    heap_lock_acquire(&heap->spans_lock);
    size = (size_t)large_block_count(heap, place.number, place.offset) << BLOCK_SHIFT;
    heap_lock_release(&heap->spans_lock);
    return size;
}

static void *resize_object(struct pkeyguard_heap *heap, void *object, size_t size)
{
    size_t usable = live_object_size(heap, object);
    void *moved;

    if (usable == 0) {
        errno = EINVAL;
        return NULL;
    }
    if (size <= usable && 2 * size + ALIGNMENT >= usable)
        return object;
    moved = pkeyguard_heap_alloc(heap, size);
    if (moved == NULL)
        return size <= usable ? object : NULL;
    memcpy(moved, object, size < usable ? size : usable);
    (void)pkeyguard_heap_free(heap, object);
    return moved;
}

/* ---- objects; the heap's key may be closed ---- */

/* Opens the heap, or says in errno why not. */
static inline bool open_heap(struct pkeyguard_heap *heap, struct pkeyguard_guard *ret_guard)
{
    int error =
        heap == NULL ? -EINVAL : pkeyguard_acquire(heap->region, PKEYGUARD_READ_WRITE, ret_guard);

    if (error != 0)
        errno = -error;
    return error == 0;
}

static void *open_and_alloc(struct pkeyguard_heap *heap, size_t size, size_t alignment)
{
    struct pkeyguard_guard guard;
    void *object;

    if (!open_heap(heap, &guard))
        return NULL;
    object = alloc_object(heap, size, alignment);
    pkeyguard_release(&guard);
    return object;
}

void *pkeyguard_heap_alloc(struct pkeyguard_heap *heap, size_t size)
{
    return open_and_alloc(heap, size, ALIGNMENT);
}

void *pkeyguard_heap_aligned_alloc(struct pkeyguard_heap *heap, size_t alignment, size_t size)
{
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
        errno = EINVAL;
        return NULL;
    }
    return open_and_alloc(heap, size, alignment < ALIGNMENT ? ALIGNMENT : alignment);
}

void *pkeyguard_heap_calloc(struct pkeyguard_heap *heap, size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return pkeyguard_heap_alloc(heap, total);
}

void *pkeyguard_heap_realloc(struct pkeyguard_heap *heap, void *object, size_t size)
{
    struct pkeyguard_guard guard;

    if (object == NULL)
        return pkeyguard_heap_alloc(heap, size);
    if (!open_heap(heap, &guard))
        return NULL;
    object = resize_object(heap, object, size);
    pkeyguard_release(&guard);
    return object;
}

int pkeyguard_heap_free(struct pkeyguard_heap *heap, void *object)
{
    struct pkeyguard_guard guard;
    int error;

    if (object == NULL)
        return 0;
    if (heap == NULL)
        return -EINVAL;
    error = pkeyguard_acquire(heap->region, PKEYGUARD_READ_WRITE, &guard);
    if (error != 0)
        return error;
    error = free_object(heap, object);
    pkeyguard_release(&guard);
    return error;
}

size_t pkeyguard_heap_usable_size(const struct pkeyguard_heap *heap, const void *object)
{
    struct pkeyguard_heap *changing = (struct pkeyguard_heap *)heap;
    struct pkeyguard_guard guard;
    size_t size;

    if (!open_heap(changing, &guard))
        return 0;
    size = live_object_size(changing, object);
    if (size == 0)
        errno = EINVAL;
    pkeyguard_release(&guard);
    return size;
}
