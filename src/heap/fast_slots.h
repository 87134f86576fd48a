/* SPDX-License-Identifier: MIT */
/*
 * fast_slots.h - allocates and frees a small object in the common case, without a call
 *
 * In the common case the calling thread owns its shard, an allocation takes the slot that was freed
 * first from a full quarantine, and a freed slot goes to a free place there. In every other case
 * these functions change nothing, and the caller does the work with slabs.h, whose checks are the
 * same. They expect the heap's key to be open for reading and writing, except those that only
 * enter the shard.
 */
#ifndef FAST_SLOTS_H
#define FAST_SLOTS_H

#include "heap/slabs.h"

/* The lock of the calling thread's shard, or one that it cannot enter. */
ALWAYS_INLINE struct shard_lock *fast_lock(struct pkeyguard_heap *heap)
{
    char *lock = (char *)heap->state + own_heap_thread.own_lock;

    KEEP_VALUE(lock);
    return (struct shard_lock *)(void *)lock;
}

/* The calling thread's bin for this class. */
ALWAYS_INLINE struct bin *fast_bin(struct pkeyguard_heap *heap, const struct size_class *c)
{
    uintptr_t bin = c->bin;

    KEEP_VALUE(bin);
    bin += own_heap_thread.own_bins;
    KEEP_VALUE(bin);
    bin += (uintptr_t)heap->metadata;
    KEEP_VALUE(bin);
    return (struct bin *)bin;
}

/* Returns true if the calling thread is inside its shard now, until shard_lock_leave(). */
ALWAYS_INLINE bool fast_alloc_enter(size_t size, struct shard_lock *lock)
    LOCK_ANALYSIS(try_acquire_capability(true, lock)) LOCK_ANALYSIS(no_thread_safety_analysis)
{
    return size <= SMALL_MAX && shard_lock_enter(lock);
}

/* For a thread that is inside. */
ALWAYS_INLINE enum taken fast_take(struct pkeyguard_heap *heap, size_t size, void **ret_object)
{
    const struct size_class *c = class_of_size(size);

    return bin_take_quarantined(heap, fast_bin(heap, c), &own_heap_thread.own_role, c, ret_object);
}

ALWAYS_INLINE enum taken fast_alloc(struct pkeyguard_heap *heap, size_t size, void **ret_object)
{
    struct shard_lock *lock = fast_lock(heap);
    enum taken taken;

    if (!fast_alloc_enter(size, lock))
        return NONE_TO_TAKE;
    taken = fast_take(heap, size, ret_object);
    shard_lock_leave(lock);
    return taken;
}

/* The same. @unit: the unit_at() of the object */
ALWAYS_INLINE bool fast_free_enter(const struct pkeyguard_heap *heap, size_t unit,
                                   struct shard_lock *lock)
    LOCK_ANALYSIS(try_acquire_capability(true, lock)) LOCK_ANALYSIS(no_thread_safety_analysis)
{
    return unit < heap->units && shard_lock_enter(lock);
}

enum freed {
    FREED,
    NOT_FREED,           /* nothing was changed */
    NOT_FREED_RING_FULL, /* fast_free_into_full_ring() does the rest, and leaves the shard */
};

/*
 * Frees the object if it is of the own shard, the ring has a free place, and the wipe needs no
 * call. For a thread that is inside. If the metadata was overwritten, the wipe may reach the
 * inaccessible page behind the objects, but nothing else outside the heap.
 */
ALWAYS_INLINE enum freed fast_free_inside(struct pkeyguard_heap *heap, char *address, size_t unit)
{
    struct block *block = &heap->spans.blocks[unit / UNITS_PER_BLOCK];
    const struct size_class *c;
    unsigned size_class;
    uint64_t *next;
    struct bin *bin;
    size_t size;

    KEEP_VALUE(block);
    size_class = load_role(block) - own_heap_thread.own_role;
    if (size_class >= STORED_CLASSES ||
        !slot_change(block, unit % UNITS_PER_BLOCK, SLOT_LIVE, SLOT_QUARANTINED))
        return NOT_FREED;
    c = &size_table.classes[size_class];
    size = c->size;
    bin = fast_bin(heap, c);
    next = quarantine_next(bin);
    if (*next != 0)
        return NOT_FREED_RING_FULL;
    bin_put_into_quarantine(bin, next, unit);
    wipe_stored(address, size);
    return FREED;
}

/* Ends the quarantine of the slot that was freed first, and leaves the shard. */
static void fast_free_into_full_ring(struct pkeyguard_heap *heap, const void *address,
                                     struct shard_lock *lock)
    LOCK_ANALYSIS(release_capability(lock)) LOCK_ANALYSIS(no_thread_safety_analysis)
{
    size_t unit = unit_at(heap, address);
    unsigned role = load_role(&heap->spans.blocks[unit / UNITS_PER_BLOCK]);

    slab_quarantine_slot(heap, role_shard(role), role_class(role), unit);
    shard_lock_leave(lock);
}

/* Returns whether it freed the object. */
ALWAYS_INLINE bool fast_free(struct pkeyguard_heap *heap, void *address)
{
    struct shard_lock *lock = fast_lock(heap);
    size_t unit = unit_at(heap, address);
    enum freed freed;

    if (!fast_free_enter(heap, unit, lock))
        return false;
    freed = fast_free_inside(heap, address, unit);
    if (freed == NOT_FREED_RING_FULL)
        fast_free_into_full_ring(heap, address, lock);
    else
        shard_lock_leave(lock);
    return freed != NOT_FREED;
}

#endif
