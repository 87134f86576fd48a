/* SPDX-License-Identifier: MIT */
/*
 * objects.h - objects of any size
 *
 * A small object is a slot of a slab (slabs.h). A large one is a span of blocks.
 *
 * Only heap.c includes this file (see blocks.h). Every function expects the heap's key to be open
 * for reading and writing.
 */
#ifndef OBJECTS_H
#define OBJECTS_H

#include <errno.h>

#include "heap/slabs.h"

/* ---- large objects: whole blocks ---- */

/*
 * Like blocks_take(). If there is no room, tries once more with the blocks that are in quarantine
 * or in empty slabs.
 */
static int take_large(struct pkeyguard_heap *heap, uint32_t count, uintptr_t alignment,
                      uint32_t *ret_number, uint32_t *ret_used)
{
    int error = blocks_take(heap, count, alignment, BLOCK_LARGE, ret_number, ret_used);

    if (error != -ENOMEM)
        return error;
    blocks_end_quarantine(heap);
    error = blocks_take(heap, count, alignment, BLOCK_LARGE, ret_number, ret_used);
    if (error != -ENOMEM)
        return error;
    slabs_give_empty_back(heap);
    return blocks_take(heap, count, alignment, BLOCK_LARGE, ret_number, ret_used);
}

static __attribute__((noinline)) int alloc_large(struct pkeyguard_heap *heap, size_t size,
                                                 uintptr_t alignment, void **ret_object)
{
    size_t count = (size >> BLOCK_SHIFT) + (size % BLOCK_SIZE != 0);
    uint32_t number, used;
    int error;

    if (count > heap->spans.count)
        return -ENOMEM;
    alignment = alignment > BLOCK_SIZE ? alignment >> BLOCK_SHIFT : 1;
    error = take_large(heap, (uint32_t)count, alignment, &number, &used);
    if (error != 0)
        return error;
    *ret_object = block_address(heap, number, 0, count << BLOCK_SHIFT);
    wipe_written(*ret_object, (size_t)used << BLOCK_SHIFT);
    return 0;
}

/*
 * Returns the number of blocks of the live object that begins at this block, or 0 if none begins
 * here.
 */
static uint32_t large_block_count(const struct pkeyguard_heap *heap, uint32_t number, unsigned unit)
    LOCK_ANALYSIS(requires_capability(heap->state->spans_lock))
{
    if (load_role(spans_block(&heap->spans, number)) != BLOCK_LARGE || unit != 0)
        return 0;
    return spans_length(&heap->spans, number);
}

static __attribute__((noinline)) int free_large(struct pkeyguard_heap *heap, uint32_t number,
                                                unsigned unit, void *address)
{
    uint32_t count;
    int error = heap_lock_acquire(&heap->state->spans_lock);

    if (error != 0)
        return error;
    count = large_block_count(heap, number, unit);
    /* Wipe without the lock. Meanwhile the blocks are neither live nor free (BLOCK_OTHER). */
    if (count != 0)
        store_role(spans_block(&heap->spans, number), BLOCK_OTHER);
    heap_lock_release(&heap->state->spans_lock);
    if (count == 0)
        return -EINVAL;
    wipe_large(address, (size_t)count << BLOCK_SHIFT);
    /*
     * The lock is refused only in a fork child whose fork came in between. Then the blocks stay as
     * they are.
     */
    if (heap_lock_acquire(&heap->state->spans_lock) == 0) {
        blocks_quarantine(heap, number);
        heap_lock_release(&heap->state->spans_lock);
    }
    return 0;
}

/* ---- objects of both kinds ---- */

/* The class of small objects for a size and an alignment, both up to SMALL_MAX. */
static inline unsigned class_for(size_t size, size_t alignment)
{
    return class_of_aligned_size(size, alignment)->number;
}

static inline bool is_large(size_t size, size_t alignment)
{
    return size > SMALL_MAX || alignment > SMALL_MAX;
}

static inline int objects_alloc(struct pkeyguard_heap *heap, size_t size, size_t alignment,
                                void **ret_object)
{
    if (is_large(size, alignment))
        return alloc_large(heap, size != 0 ? size : 1, alignment, ret_object);
    return slabs_alloc(heap, class_for(size, alignment), ret_object);
}

static inline int objects_free(struct pkeyguard_heap *heap, void *address)
{
    struct place place;

    if (!blocks_locate(heap, address, &place))
        return -EINVAL;
    if (role_kind(place.role) == BLOCK_SLAB)
        return slabs_free(heap, place);
    return free_large(heap, place.number, place.unit, address);
}

/* Returns an object's usable size in bytes, or -EINVAL: no live object begins at the address. */
static int objects_live_size(struct pkeyguard_heap *heap, const void *address, size_t *ret_size)
{
    struct place place;
    uint32_t count;
    int error;

    if (!blocks_locate(heap, address, &place))
        return -EINVAL;
    if (role_kind(place.role) == BLOCK_SLAB)
        return slabs_live_size(heap, &place, ret_size);
    error = heap_lock_acquire(&heap->state->spans_lock);
    if (error != 0)
        return error;
    count = large_block_count(heap, place.number, place.unit);
    heap_lock_release(&heap->state->spans_lock);
    *ret_size = (size_t)count << BLOCK_SHIFT;
    return count == 0 ? -EINVAL : 0;
}

#endif
