/* SPDX-License-Identifier: MIT */
/*
 * blocks.h - a heap's blocks: takes and gives back spans of them, finds the block of an address
 *
 * Part of heap.c, which alone includes it: so the compiler inlines an allocation as a whole. The
 * heap's key is open for reading and writing in every function that is given a heap.
 */
#ifndef BLOCKS_H
#define BLOCKS_H

#include "heap/heap.h"
#include "region/annexed_region.h"

/* A block's role: its kind; in a slab's first block also the slab's size class and shard. */
static unsigned slab_role(unsigned shard, unsigned size_class)
{
    return BLOCK_SLAB | size_class << 8 | shard << 16;
}

static enum block_kind role_kind(unsigned role)
{
    return (enum block_kind)(role & 0xff);
}

static unsigned role_class(unsigned role)
{
    return role >> 8 & 0xff;
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

/* The address at this offset from a block's start. Aborts if not all size bytes there are in the
 * heap. */
static inline void *block_address(const struct pkeyguard_heap *heap, uint32_t number, size_t offset,
                                  size_t size)
{
    size_t start = ((size_t)number << BLOCK_SHIFT) + offset;

    if (start + size > heap->size)
        spans_abort();
    return heap->start + start;
}

/* Tells the region that all blocks before this one may hold content. False: the region is a locked
 * one, and no more memory may be locked. */
static bool blocks_use(struct pkeyguard_heap *heap, uint32_t end)
    LOCK_ANALYSIS(requires_capability(heap->spans_lock))
{
    if (end <= heap->used)
        return true;
    if (region_use(heap->region, (size_t)end << BLOCK_SHIFT,
                   sizeof(struct metadata) + end * sizeof(struct block)) != 0)
        return false;
    heap->used = end;
    return true;
}

/* Takes a span of count blocks, whose address is a multiple of alignment blocks, and gives its
 * first block the role. False: there is no room. */
static bool blocks_take(struct pkeyguard_heap *heap, uint32_t count, uintptr_t alignment,
                        unsigned role, uint32_t *ret_number)
{
    bool taken;

    heap_lock_acquire(&heap->spans_lock);
    taken = spans_take(&heap->spans, count, alignment, ret_number);
    if (taken && !blocks_use(heap, *ret_number + count)) {
        spans_give_back(&heap->spans, *ret_number, count);
        taken = false;
    }
    if (taken) {
        struct block *block = spans_block(&heap->spans, *ret_number);

        block->count = count;
        store_role(block, role);
    }
    heap_lock_release(&heap->spans_lock);
    return taken;
}

static void blocks_give_back(struct pkeyguard_heap *heap, uint32_t number, uint32_t count)
{
    heap_lock_acquire(&heap->spans_lock);
    spans_give_back(&heap->spans, number, count);
    heap_lock_release(&heap->spans_lock);
}

/* The place of an address in a heap. The block is the one that the address is in, or the first
 * block if that one is a slab's second. */
struct place {
    uint32_t number;     /* the block's */
    struct block *block; /* its description */
    unsigned role;       /* its role, read without a lock: it may have changed since */
    unsigned offset;     /* bytes from the block's start */
};

/* False: the address is outside the heap. */
static inline bool blocks_locate(const struct pkeyguard_heap *heap, const void *address,
                                 struct place *ret_place)
{
    size_t offset = (uintptr_t)address - (uintptr_t)heap->start;
    struct place place;

    if (offset >= heap->size)
        return false;
    place.number = (uint32_t)(offset >> BLOCK_SHIFT);
    place.block = &heap->spans.blocks[place.number];
    place.role = load_role(place.block);
    place.offset = offset % BLOCK_SIZE;
    if (role_kind(place.role) == BLOCK_SLAB_SECOND) {
        place.block = spans_block(&heap->spans, --place.number);
        place.role = load_role(place.block);
        place.offset += BLOCK_SIZE;
    }
    if (role_class(place.role) >= CLASS_COUNT || role_shard(place.role) >= SHARD_COUNT)
        spans_abort();
    *ret_place = place;
    return true;
}

#endif
