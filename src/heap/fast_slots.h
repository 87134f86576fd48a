/* SPDX-License-Identifier: MIT */
/*
 * fast_slots.h - allocates and frees a small object in the common case, without a call
 *
 * In the common case the calling thread owns its shard, an allocation takes the slot that was freed
 * first from a full quarantine, and a freed slot goes to a free place there. In every other case
 * these functions change nothing, and the caller does the work with slabs.h, whose checks are the
 * same. They expect the heap's key to be open for reading and writing.
 */
#ifndef FAST_SLOTS_H
#define FAST_SLOTS_H

#include "heap/slabs.h"

/* The lock of the calling thread's shard, which may own it; NULL: it owns none. */
ALWAYS_INLINE struct shard_lock *fast_lock(struct pkeyguard_heap *heap)
{
    size_t offset = own_heap_thread.own_lock;

    return offset == 0 ? NULL : (struct shard_lock *)(void *)((char *)heap->state + offset);
}

/* The calling thread's bin for this class. */
ALWAYS_INLINE struct bin *fast_bin(struct pkeyguard_heap *heap, const struct size_class *c)
{
    char *bin = (char *)heap->metadata + own_heap_thread.own_bins + c->bin;

    KEEP_POINTER(bin);
    return (struct bin *)(void *)bin;
}

/* Returns NULL if this is not the common case. */
ALWAYS_INLINE void *fast_alloc(struct pkeyguard_heap *heap, size_t size)
{
    struct shard_lock *lock = fast_lock(heap);
    const struct size_class *c;
    void *object;

    if (size > SMALL_MAX || lock == NULL || !shard_lock_enter(lock))
        return NULL;
    c = class_numbered(class_of_size(size));
    object = bin_take_quarantined(heap, fast_bin(heap, c), own_heap_thread.own_role + c->number, c);
    shard_lock_leave(lock);
    return object;
}

/*
 * Frees the object if its slab has one block and is of the own shard, the bin has a free place, and
 * the wipe needs no call. The heap starts at a multiple of the block size.
 */
ALWAYS_INLINE bool fast_free_own(struct pkeyguard_heap *heap, char *address)
{
    struct block *block = &heap->spans.blocks[(size_t)(address - heap->start) >> BLOCK_SHIFT];
    const struct size_class *c;
    unsigned size_class, slot;
    uint64_t *next;
    struct bin *bin;

    KEEP_POINTER(block);
    size_class = load_role(block) - own_heap_thread.own_role;
    if (size_class >= STORED_CLASSES)
        return false;
    c = class_numbered(size_class);
    if (!slot_begins_at(c, (uintptr_t)address % BLOCK_SIZE, &slot))
        return false;
    bin = fast_bin(heap, c);
    next = quarantine_next(bin);
    KEEP_POINTER(next);
    if (*next != 0 || !slot_clear_live(block, slot))
        return false;
    bin_put_into_quarantine(bin, next, slot_entry((size_t)(address - heap->start), slot));
    wipe_stored(address, c->size);
    return true;
}

/* Returns false if this is not the common case. */
ALWAYS_INLINE bool fast_free(struct pkeyguard_heap *heap, void *address)
{
    struct shard_lock *lock = fast_lock(heap);
    bool freed;

    if ((uintptr_t)address - (uintptr_t)heap->start >= heap->size || lock == NULL ||
        !shard_lock_enter(lock))
        return false;
    freed = fast_free_own(heap, address);
    shard_lock_leave(lock);
    return freed;
}

#endif
