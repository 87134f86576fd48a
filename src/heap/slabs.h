/* SPDX-License-Identifier: MIT */
/*
 * slabs.h - small objects
 *
 * A slab is one block or two, divided into slots of one size. Each holds an object. The first
 * block's description is the slab's.
 *
 * Part of heap.c, which alone includes it; see blocks.h. The heap's key is open for reading and
 * writing in every function that is given a heap.
 */
#ifndef SLABS_H
#define SLABS_H

#include <errno.h>
#include <string.h>

#include "heap/blocks.h"
#include "heap/heap_directory.h"

/* ---- size classes ---- */

struct size_class {
    uint16_t size;    /* bytes of a slot */
    uint16_t slots;   /* slots in a slab */
    uint32_t inverse; /* 2^32 / size, rounded up: replaces division of an offset by size, which is
                         exact for the offset of a slot, a multiple */
};

/* With these sizes a slab has at least 4 slots, and leaves at most an eighth of itself unused. */
enum { ONE_BLOCK_SLAB_MAX = 1024 };
#define SLAB_BLOCKS(size) ((size) <= ONE_BLOCK_SLAB_MAX ? 1u : 2u)
#define CLASS(size)                                                            \
    {                                                                          \
        size, SLAB_BLOCKS(size) * BLOCK_SIZE / (size), UINT32_MAX / (size) + 1 \
    }

static const struct size_class size_classes[] = {
    CLASS(16),  CLASS(32),   CLASS(48),   CLASS(64),   CLASS(80),   CLASS(96),
    CLASS(112), CLASS(128),  CLASS(160),  CLASS(192),  CLASS(224),  CLASS(256),
    CLASS(320), CLASS(384),  CLASS(448),  CLASS(512),  CLASS(640),  CLASS(768),
    CLASS(896), CLASS(1024), CLASS(1280), CLASS(1536), CLASS(1792), CLASS(2048),
};
enum { SMALL_MAX = 2048, ALIGNMENT = 16 };
_Static_assert(sizeof(size_classes) / sizeof(size_classes[0]) == CLASS_COUNT, "in heap.h");

/* The class of a size from 1 to SMALL_MAX: 8 steps of 16, then 4 steps in each power of two. */
static unsigned class_of_size(size_t size)
{
    unsigned last = (unsigned)size - 1, log2;

    if (last < 128)
        return last / 16;
    log2 = 31 - (unsigned)__builtin_clz(last);
    return 8 + 4 * (log2 - 7) + (last >> (log2 - 2)) % 4;
}

/*
 * The smallest class for this size whose slots are multiples of alignment, which is a power of two
 * up to SMALL_MAX. Slabs begin at a block, so a slot is aligned as its size is; in the last class
 * that is SMALL_MAX.
 */
static unsigned class_of_aligned_size(size_t size, size_t alignment)
{
    unsigned size_class = class_of_size(size < alignment ? alignment : size);

    while ((size_classes[size_class].size & (alignment - 1)) != 0)
        size_class++;
    return size_class;
}

/* ---- slots: under the lock of the slab's shard ---- */

static inline uint32_t *slab_list(const struct pkeyguard_heap *heap, unsigned shard,
                                  unsigned size_class)
{
    return &heap->metadata->shards[shard].slabs[size_class];
}

/* Takes a slot of the list's first slab, which has a free one. */
static inline void *slot_take(struct pkeyguard_heap *heap, unsigned shard, unsigned size_class)
    LOCK_ANALYSIS(requires_capability(heap->shard_locks[shard]))
{
    uint32_t *slabs = slab_list(heap, shard, size_class);
    uint32_t number = *slabs - 1;
    struct block *block = spans_block(&heap->spans, number);
    unsigned word = 0, slot;

    while (block->free[word] == 0) {
        if (++word == 4)
            spans_abort();
    }
    slot = 64 * word + (unsigned)__builtin_ctzll(block->free[word]);
    block->free[word] &= block->free[word] - 1;
    if (--block->available == 0)
        spans_list_remove(&heap->spans, slabs, number);
    return block_address(heap, number, (size_t)slot * size_classes[size_class].size,
                         size_classes[size_class].size);
}

/*
 * True if a live object begins at the place. While one does its block keeps its role: if the role
 * has changed since it was read without the lock, none does.
 */
static inline bool slot_is_live(const struct pkeyguard_heap *heap, unsigned shard,
                                const struct place *place, unsigned *ret_slot)
    LOCK_ANALYSIS(requires_capability(heap->shard_locks[shard]))
{
    const struct size_class *c = &size_classes[role_class(place->role)];
    unsigned slot = (unsigned)((uint64_t)place->offset * c->inverse >> 32);

    (void)heap, (void)shard; /* they name the lock */
    *ret_slot = slot;
    return load_role(place->block) == place->role && slot * c->size == place->offset &&
           slot < c->slots && (place->block->free[slot / 64] >> slot % 64 & 1) == 0;
}

/* Small slots by plain stores, which are cheaper than a call. */
enum { STORED_MAX = 128 };

static inline void slot_wipe(char *slot, size_t size)
{
    const char *end = slot + size;

    if (size > STORED_MAX) {
        explicit_bzero(slot, size);
        return;
    }
    do {
        memset(slot, 0, ALIGNMENT);
        __asm__ volatile("" : : "r"(slot) : "memory"); /* the compiler must keep the stores */
        slot += ALIGNMENT;
    } while (slot != end);
}

/* ---- slabs: under the lock of the slab's shard ---- */

/* Makes a slab with all slots free. False: there is no room. */
static __attribute__((noinline)) bool slab_add(struct pkeyguard_heap *heap, unsigned shard,
                                               unsigned size_class)
    LOCK_ANALYSIS(requires_capability(heap->shard_locks[shard]))
{
    const struct size_class *c = &size_classes[size_class];
    struct block *block;
    uint32_t number;

    if (!blocks_take(heap, SLAB_BLOCKS(c->size), 1, slab_role(shard, size_class), &number))
        return false;
    block = spans_block(&heap->spans, number);
    block->available = c->slots;
    for (unsigned first = 0; first < 256; first += 64) {
        unsigned slots = c->slots > first ? c->slots - first : 0;

        block->free[first / 64] = slots >= 64 ? UINT64_MAX : (UINT64_C(1) << slots) - 1;
    }
    if (block->count == 2)
        store_role(spans_block(&heap->spans, number + 1), BLOCK_SLAB_SECOND);
    spans_list_insert(&heap->spans, slab_list(heap, shard, size_class), number);
    return true;
}

/* Apart from slab_remove(), so that slabs_free() computes the list's address once. */
static __attribute__((noinline)) void slab_unlist(struct pkeyguard_heap *heap, uint32_t *slabs,
                                                  unsigned size_class, uint32_t number)
{
    uint32_t count = SLAB_BLOCKS(size_classes[size_class].size);

    spans_list_remove(&heap->spans, slabs, number);
    for (uint32_t i = 0; i < count; i++)
        store_role(spans_block(&heap->spans, number + i), BLOCK_OTHER);
    blocks_give_back(heap, number, count);
}

/* For a slab without a live object. */
static inline void slab_remove(struct pkeyguard_heap *heap, unsigned shard, unsigned size_class,
                               uint32_t number)
    LOCK_ANALYSIS(requires_capability(heap->shard_locks[shard]))
{
    slab_unlist(heap, slab_list(heap, shard, size_class), size_class, number);
}

/* Gives back the blocks of every slab without objects, for other sizes and shards to use. */
static void slabs_give_empty_back(struct pkeyguard_heap *heap)
{
    for (unsigned shard = 0; shard < SHARD_COUNT; shard++) {
        heap_lock_acquire(&heap->shard_locks[shard]);
        for (unsigned i = 0; i < CLASS_COUNT; i++) {
            for (uint32_t link = *slab_list(heap, shard, i), next; link != 0; link = next) {
                const struct block *block = spans_block(&heap->spans, link - 1);

                next = block->next;
                if (block->available == size_classes[i].slots)
                    slab_remove(heap, shard, i, link - 1);
            }
        }
        heap_lock_release(&heap->shard_locks[shard]);
    }
}

/* ---- small objects ---- */

/* A thread's state, the same for all heaps. */
struct heap_thread {
    unsigned shard_number; /* of the shard that it allocates from, + 1; 0: it has none yet */
};
static __thread struct heap_thread own_thread __attribute__((tls_model("initial-exec")));

static unsigned own_shard(void)
{
    if (own_thread.shard_number == 0)
        own_thread.shard_number = atomic_fetch_add(&heap_directory.threads, 1) % SHARD_COUNT + 1;
    return own_thread.shard_number - 1;
}

static void *slabs_alloc_in(struct pkeyguard_heap *heap, unsigned shard, unsigned size_class)
{
    void *object = NULL;

    heap_lock_acquire(&heap->shard_locks[shard]);
    if (*slab_list(heap, shard, size_class) != 0 || slab_add(heap, shard, size_class))
        object = slot_take(heap, shard, size_class);
    heap_lock_release(&heap->shard_locks[shard]);
    return object;
}

/* For when the shard has no slab with a free slot: makes one, there or in another shard. */
static __attribute__((noinline)) void *slabs_alloc_anywhere(struct pkeyguard_heap *heap,
                                                            unsigned shard, unsigned size_class)
{
    void *object = slabs_alloc_in(heap, shard, size_class);

    if (object == NULL)
        slabs_give_empty_back(heap);
    for (unsigned i = 0; i < SHARD_COUNT && object == NULL; i++)
        object = slabs_alloc_in(heap, i, size_class);
    return object;
}

/* NULL: there is no room. */
static inline void *slabs_alloc(struct pkeyguard_heap *heap, unsigned size_class)
{
    unsigned shard = own_shard();
    void *object;

    heap_lock_acquire(&heap->shard_locks[shard]);
    if (*slab_list(heap, shard, size_class) == 0) {
        heap_lock_release(&heap->shard_locks[shard]);
        return slabs_alloc_anywhere(heap, shard, size_class);
    }
    object = slot_take(heap, shard, size_class);
    heap_lock_release(&heap->shard_locks[shard]);
    return object;
}

/* Wipes and frees the object at the place, which is address. -EINVAL: there is none. */
static inline int slabs_free(struct pkeyguard_heap *heap, struct place place, void *address)
{
    unsigned shard = role_shard(place.role), size_class = role_class(place.role), slot;
    struct block *block = place.block;

    heap_lock_acquire(&heap->shard_locks[shard]);
    if (!slot_is_live(heap, shard, &place, &slot)) {
        heap_lock_release(&heap->shard_locks[shard]);
        return -EINVAL;
    }
    slot_wipe(address, size_classes[size_class].size);
    block->free[slot / 64] |= UINT64_C(1) << slot % 64;
    if (++block->available == 1)
        spans_list_insert(&heap->spans, slab_list(heap, shard, size_class), place.number);
    /* Keep an empty slab that is the list's only one: otherwise a program that allocates and frees
     * one object again and again would create and remove a slab each time. */
    if (block->available == size_classes[size_class].slots && (block->next | block->previous) != 0)
        slab_remove(heap, shard, size_class, place.number);
    heap_lock_release(&heap->shard_locks[shard]);
    return 0;
}

/* The usable size of the object at the place, in bytes; 0: there is none. */
static inline size_t slabs_live_size(struct pkeyguard_heap *heap, const struct place *place)
{
    unsigned shard = role_shard(place->role), slot;
    size_t size;

    heap_lock_acquire(&heap->shard_locks[shard]);
    size = slot_is_live(heap, shard, place, &slot) ? size_classes[role_class(place->role)].size : 0;
    heap_lock_release(&heap->shard_locks[shard]);
    return size;
}

#endif
