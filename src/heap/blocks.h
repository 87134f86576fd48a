/* SPDX-License-Identifier: MIT */
/*
 * blocks.h - takes spans of a heap's blocks, frees them, and finds the block of an address
 *
 * Only heap.c includes this file, so that the compiler inlines a whole allocation. Every function
 * that is given a heap expects the heap's key to be open for reading and writing.
 */
#ifndef BLOCKS_H
#define BLOCKS_H

#include <errno.h>

#include "heap/heap.h"
#include "region/annexed_region.h"

static enum block_kind role_kind(unsigned role)
{
    return (enum block_kind)(role & 0xff00);
}

static unsigned role_class(unsigned role)
{
    return role & 0xff;
}

static unsigned role_shard(unsigned role)
{
    return role >> 16;
}

static unsigned load_role(const struct block *block)
{
    return atomic_load_explicit(&block->role, memory_order_relaxed);
}

static void store_role(struct block *block, unsigned role)
{
    atomic_store_explicit(&block->role, role, memory_order_relaxed);
}

/*
 * Returns the address at this offset from a block's start. Aborts unless all `size` bytes are in
 * the heap.
 */
static inline void *block_address(const struct pkeyguard_heap *heap, uint32_t number, size_t offset,
                                  size_t size)
{
    size_t start = ((size_t)number << BLOCK_SHIFT) + offset;

    if (start + size > heap->size)
        spans_abort();
    return heap->start + start;
}

/* The number of units in so many bytes, whole units. */
static inline size_t units_of(size_t size)
{
    return size >> UNIT_SHIFT;
}

/*
 * Returns how far a unit is from the heap's start. Aborts unless all `size` bytes from there are in
 * the heap, whose size is no less.
 */
static inline size_t unit_offset(const struct pkeyguard_heap *heap, size_t unit, size_t size)
{
    size_t offset = unit << UNIT_SHIFT;

    if (offset > heap->size - size)
        spans_abort();
    return offset;
}

/*
 * Returns the number of the unit that begins at the address. If the address is not in the heap, or
 * no unit begins there, the number is not below the heap's: the bits that must be 0 go to the top.
 */
static inline size_t unit_at(const struct pkeyguard_heap *heap, const void *address)
{
    uintptr_t offset = (uintptr_t)address - (uintptr_t)heap->start;

    return offset >> UNIT_SHIFT | offset << (8 * sizeof(offset) - UNIT_SHIFT);
}

/*
 * Tells the region that all blocks before `end` may hold content. Returns false if the region is
 * locked and no more memory can be locked.
 */
static bool blocks_use(struct pkeyguard_heap *heap, uint32_t end)
    LOCK_ANALYSIS(requires_capability(heap->state->spans_lock))
{
    if (end <= heap->state->used)
        return true;
    if (region_use(heap->region, (size_t)end << BLOCK_SHIFT,
                   sizeof(struct metadata) + end * sizeof(struct block)) != 0)
        return false;
    if (heap->checker != NULL)
        heap->checker->close(heap->start + ((size_t)heap->state->used << BLOCK_SHIFT),
                             (size_t)(end - heap->state->used) << BLOCK_SHIFT);
    heap->state->used = end;
    return true;
}

/*
 * Takes a span of `count` blocks, whose address is a multiple of `alignment` blocks, and gives its
 * first block the role. Returns false if there is no room.
 */
static int blocks_take(struct pkeyguard_heap *heap, uint32_t count, uintptr_t alignment,
                       unsigned role, uint32_t *ret_number, uint32_t *ret_used)
{
    uint32_t number, used;
    int error = heap_lock_acquire(&heap->state->spans_lock);

    if (error != 0)
        return error;
    used = heap->state->used;
    error = spans_take(&heap->spans, count, alignment, &number) ? 0 : -ENOMEM;
    if (error == 0 && !blocks_use(heap, number + count)) {
        spans_give_back(&heap->spans, number, count);
        error = -ENOMEM;
    }
    if (error == 0) {
        struct block *block = spans_block(&heap->spans, number);

        block->count = count;
        store_role(block, role);
        *ret_number = number;
        *ret_used = used <= number ? 0 : used - number < count ? used - number : count;
    }
    heap_lock_release(&heap->state->spans_lock);
    return error;
}

/* ---- the quarantine of large objects ---- */

/* Gives back what is at this place of the ring. */
static void end_large_quarantine(struct pkeyguard_heap *heap, uint32_t *place)
    LOCK_ANALYSIS(requires_capability(heap->state->spans_lock))
{
    uint32_t link = *place;

    *place = 0;
    if (link != 0)
        spans_give_back(&heap->spans, link - 1, spans_length(&heap->spans, link - 1));
}

/* Puts a span of blocks into quarantine, which is of no kind, and has its count. */
static void blocks_quarantine(struct pkeyguard_heap *heap, uint32_t number)
    LOCK_ANALYSIS(requires_capability(heap->state->spans_lock))
{
    struct metadata *metadata = heap->metadata;
    uint32_t *place = &metadata->quarantine[metadata->freed++ % LARGE_IN_QUARANTINE];

    end_large_quarantine(heap, place);
    *place = number + 1;
}

/* For when there is no room. */
static void blocks_end_quarantine(struct pkeyguard_heap *heap)
{
    if (heap_lock_acquire(&heap->state->spans_lock) != 0)
        return;
    for (unsigned i = 0; i < LARGE_IN_QUARANTINE; i++)
        end_large_quarantine(heap, &heap->metadata->quarantine[i]);
    heap_lock_release(&heap->state->spans_lock);
}

/* ---- the block of an address ---- */

/* The place of an address in a heap. */
struct place {
    uint32_t number;     /* the block's number */
    struct block *block; /* its description */
    unsigned role;       /* its role, read without a lock, so it may have changed since */
    unsigned unit;       /* the unit's number in the block */
};

/* Finds the place. Returns false if the address is outside the heap, or no unit begins there. */
static inline bool blocks_locate(const struct pkeyguard_heap *heap, const void *address,
                                 struct place *ret_place)
{
    size_t unit = unit_at(heap, address);
    struct place place;

    if (unit >= heap->units)
        return false;
    place.number = (uint32_t)(unit / UNITS_PER_BLOCK);
    place.block = &heap->spans.blocks[place.number];
    place.role = load_role(place.block);
    place.unit = (unsigned)(unit % UNITS_PER_BLOCK);
    if (role_class(place.role) >= CLASS_COUNT || role_shard(place.role) >= SHARD_COUNT)
        spans_abort();
    *ret_place = place;
    return true;
}

#endif
