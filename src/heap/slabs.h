/* SPDX-License-Identifier: MIT */
/*
 * slabs.h - small objects
 *
 * A slab is one block or two, divided into slots of one size. A slot holds one object. The
 * description of a slab is in its first block.
 *
 * Only heap.c includes this file (see blocks.h). Every function that is given a heap expects the
 * heap's key to be open for reading and writing.
 */
#ifndef SLABS_H
#define SLABS_H

#include "base/os.h"
#include "heap/blocks.h"
#include "heap/wipe.h"

/* ---- size classes ---- */

struct size_class {
    uint16_t size;    /* bytes of a slot */
    uint16_t slots;   /* slots in a slab */
    uint32_t inverse; /* 2^32 / size, rounded up: replaces division of an offset by size, which is
                         exact for the offset of a slot, a multiple */
};

/* With these sizes a slab has at least 4 slots, and at most an eighth of a slab is unused. */
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

/*
 * Returns the class of a size from 1 to SMALL_MAX. There are 8 classes in steps of 16, then 4
 * classes in each power of two.
 */
static unsigned class_of_size(size_t size)
{
    unsigned last = (unsigned)size - 1, log2;

    if (last < 128)
        return last / 16;
    log2 = 31 - (unsigned)__builtin_clz(last);
    return 8 + 4 * (log2 - 7) + (last >> (log2 - 2)) % 4;
}

/*
 * Returns the smallest class for this size whose slots are multiples of `alignment`, a power of two
 * up to SMALL_MAX. A slab begins at a block, so a slot is aligned if its size is a multiple of the
 * alignment; the last class has slots of SMALL_MAX bytes.
 */
static unsigned class_of_aligned_size(size_t size, size_t alignment)
{
    unsigned size_class = class_of_size(size < alignment ? alignment : size);

    while ((size_classes[size_class].size & (alignment - 1)) != 0)
        size_class++;
    return size_class;
}

/* ---- slots: under the lock of the slab's shard ---- */

static inline struct bin *bin_of(const struct pkeyguard_heap *heap, unsigned shard,
                                 unsigned size_class)
{
    return &heap->metadata->shards[shard].bins[size_class];
}

/* The word of a bit map that has the slot's bit, and that bit. */
static inline uint64_t *map_word(uint64_t map[4], unsigned slot)
{
    return &map[slot / 64];
}

static inline uint64_t map_bit(unsigned slot)
{
    return UINT64_C(1) << slot % 64;
}

/*
 * True if a slot of the slab begins at the place. A block keeps its role while the slab holds a
 * live object. So if the role has changed since it was read without the lock, no object there is
 * live.
 */
static inline bool slot_at(const struct place *place, unsigned *ret_slot)
{
    const struct size_class *c = &size_classes[role_class(place->role)];
    unsigned slot = (unsigned)((uint64_t)place->offset * c->inverse >> 32);

    *ret_slot = slot;
    return load_role(place->block) == place->role && slot * c->size == place->offset &&
           slot < c->slots;
}

static inline bool slot_is_live(const struct place *place, unsigned *ret_slot)
{
    return slot_at(place, ret_slot) &&
           (*map_word(place->block->live, *ret_slot) & map_bit(*ret_slot)) != 0;
}

static inline void mark_slot_live(struct block *block, unsigned slot)
{
    *map_word(block->live, slot) |= map_bit(slot);
}

/* The program has written to freed memory, so the memory is not handed out. */
static __attribute__((noreturn, cold)) void abort_written_to(const struct pkeyguard_heap *heap)
{
    const char *name = heap->region->name;
    bool named = name[0] != '\0';

    os_abort("a freed object of a heap was written to", named ? ": region '" : "", name,
             named ? "'" : "", NULL);
}

static inline void require_zero(const struct pkeyguard_heap *heap, const char *object, size_t size)
{
    if (__builtin_expect(!is_zero(object, size), 0))
        abort_written_to(heap);
}

/* ---- slabs: under the lock of the slab's shard ---- */

/* Makes a slab with all slots free. Returns false if there is no room. */
static __attribute__((noinline)) int slab_add(struct pkeyguard_heap *heap, unsigned shard,
                                              unsigned size_class)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    const struct size_class *c = &size_classes[size_class];
    uint32_t number, used;
    struct block *block;
    int error =
        blocks_take(heap, SLAB_BLOCKS(c->size), 1, slab_role(shard, size_class), &number, &used);

    if (error != 0)
        return error;
    block = spans_block(&heap->spans, number);
    block->available = c->slots;
    block->fresh = used == 0 ? 0 : c->slots;
    for (unsigned first = 0; first < 256; first += 64) {
        unsigned slots = c->slots > first ? c->slots - first : 0;

        block->free[first / 64] = slots >= 64 ? UINT64_MAX : map_bit(slots) - 1;
        block->live[first / 64] = 0;
    }
    if (block->count == 2)
        store_role(spans_block(&heap->spans, number + 1), BLOCK_SLAB_SECOND);
    spans_list_insert(&heap->spans, &bin_of(heap, shard, size_class)->slabs, number);
    return 0;
}

/* Frees the blocks of a slab whose slots are all free. Keeps the slab if spans_lock is refused. */
static __attribute__((noinline)) void slab_remove(struct pkeyguard_heap *heap, unsigned shard,
                                                  unsigned size_class, uint32_t number)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    uint32_t count = SLAB_BLOCKS(size_classes[size_class].size);

    if (heap_lock_acquire(&heap->state->spans_lock) != 0)
        return;
    spans_list_remove(&heap->spans, &bin_of(heap, shard, size_class)->slabs, number);
    for (uint32_t i = 0; i < count; i++)
        store_role(spans_block(&heap->spans, number + i), BLOCK_OTHER);
    spans_give_back(&heap->spans, number, count);
    heap_lock_release(&heap->state->spans_lock);
}

/* Takes a free slot of a slab, which has one. */
static inline void *slab_take_slot(struct pkeyguard_heap *heap, unsigned shard, unsigned size_class)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    struct bin *bin = bin_of(heap, shard, size_class);
    uint32_t number = bin->slabs - 1;
    struct block *block = spans_block(&heap->spans, number);
    size_t size = size_classes[size_class].size;
    unsigned word = 0, slot;
    char *object;

    while (block->free[word] == 0) {
        if (++word == 4)
            spans_abort();
    }
    slot = 64 * word + (unsigned)__builtin_ctzll(block->free[word]);
    block->free[word] &= block->free[word] - 1;
    mark_slot_live(block, slot);
    if (--block->available == 0)
        spans_list_remove(&heap->spans, &bin->slabs, number);
    object = block_address(heap, number, slot * size, size);
    if (slot >= block->fresh)
        block->fresh = slot + 1;
    else
        require_zero(heap, object, size);
    return object;
}

/* Makes a slot free that was in quarantine. */
static inline void slab_give_slot_back(struct pkeyguard_heap *heap, unsigned shard,
                                       unsigned size_class, const struct place *place,
                                       unsigned slot)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    struct block *block = place->block;

    *map_word(block->free, slot) |= map_bit(slot);
    if (++block->available == 1)
        spans_list_insert(&heap->spans, &bin_of(heap, shard, size_class)->slabs, place->number);
    /*
     * Keep an empty slab if its list has no other slab. Otherwise a program that allocates and
     * frees one object again and again would make and free a slab each time.
     */
    if (block->available == size_classes[size_class].slots && (block->next | block->previous) != 0)
        slab_remove(heap, shard, size_class, place->number);
}

/* ---- the quarantine of slots: under the lock of the slab's shard ---- */

/* The form in which a ring holds a slot. Never 0. An address has at most 56 bits. */
static inline uint64_t slot_entry(const void *address, unsigned slot)
{
    return (uint64_t)(uintptr_t)address << 8 | slot;
}

/* Returns the slot of an entry. Aborts if it is not a slot of this bin. */
static inline char *slot_of_entry(const struct pkeyguard_heap *heap, unsigned shard,
                                  unsigned size_class, uint64_t entry, struct place *ret_place,
                                  unsigned *ret_slot)
{
    char *address = (char *)(uintptr_t)(entry >> 8); // NOLINT(performance-no-int-to-ptr)

    if (!blocks_locate(heap, address, ret_place) ||
        ret_place->role != slab_role(shard, size_class) || !slot_at(ret_place, ret_slot))
        spans_abort();
    return block_address(heap, ret_place->number, ret_place->offset, size_classes[size_class].size);
}

/*
 * The place in the ring for the slot that is freed next. If the ring is full, the slot that was
 * freed first is there.
 */
static inline uint64_t *quarantine_next(struct bin *bin)
{
    return &bin->quarantine[bin->freed % SLOTS_IN_QUARANTINE];
}

/* Takes the slot that was freed first, or returns NULL if the ring is not full. */
static inline void *bin_take_quarantined(struct pkeyguard_heap *heap, unsigned shard,
                                         unsigned size_class)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    uint64_t *oldest = quarantine_next(bin_of(heap, shard, size_class));
    struct place place;
    unsigned slot;
    char *object;

    if (*oldest == 0)
        return NULL;
    object = slot_of_entry(heap, shard, size_class, *oldest, &place, &slot);
    *oldest = 0;
    mark_slot_live(place.block, slot);
    require_zero(heap, object, size_classes[size_class].size);
    return object;
}

/* Makes the slot at this place of the ring free. */
static inline void bin_end_quarantine(struct pkeyguard_heap *heap, unsigned shard,
                                      unsigned size_class, uint64_t *entry)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    struct place place;
    unsigned slot;

    if (*entry == 0)
        return;
    slot_of_entry(heap, shard, size_class, *entry, &place, &slot);
    *entry = 0;
    slab_give_slot_back(heap, shard, size_class, &place, slot);
}

/* Makes every slot of the bin free that is in quarantine. */
static void bin_end_quarantine_of_all(struct pkeyguard_heap *heap, unsigned shard,
                                      unsigned size_class)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    for (unsigned i = 0; i < SLOTS_IN_QUARANTINE; i++)
        bin_end_quarantine(heap, shard, size_class,
                           &bin_of(heap, shard, size_class)->quarantine[i]);
}

/* Frees the blocks of every slab without objects, for other sizes and shards. */
static void bin_remove_empty_slabs(struct pkeyguard_heap *heap, unsigned shard, unsigned size_class)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    for (uint32_t link = bin_of(heap, shard, size_class)->slabs, next; link != 0; link = next) {
        const struct block *block = spans_block(&heap->spans, link - 1);

        next = block->next;
        if (block->available == size_classes[size_class].slots)
            slab_remove(heap, shard, size_class, link - 1);
    }
}

/*
 * Frees every block that holds no object, for other sizes and shards. Ends the quarantine, unless a
 * lock is refused. Called when there is no room.
 */
static void slabs_give_empty_back(struct pkeyguard_heap *heap)
{
    for (unsigned shard = 0; shard < SHARD_COUNT; shard++) {
        if (heap_lock_acquire(&heap->state->shard_locks[shard]) != 0)
            continue;
        for (unsigned i = 0; i < CLASS_COUNT; i++) {
            bin_end_quarantine_of_all(heap, shard, i);
            bin_remove_empty_slabs(heap, shard, i);
        }
        heap_lock_release(&heap->state->shard_locks[shard]);
    }
}

/* ---- small objects ---- */

static unsigned own_shard(void)
{
    return (heap_thread_number() - 1) % SHARD_COUNT;
}

/* Takes a free slot of the list's first slab, which has one. */
static inline int slabs_alloc_in(struct pkeyguard_heap *heap, unsigned shard, unsigned size_class,
                                 void **ret_object)
{
    int error = heap_lock_acquire(&heap->state->shard_locks[shard]);

    if (error != 0)
        return error;
    *ret_object = bin_take_quarantined(heap, shard, size_class);
    if (*ret_object == NULL) {
        if (bin_of(heap, shard, size_class)->slabs == 0)
            error = slab_add(heap, shard, size_class);
        if (error == 0)
            *ret_object = slab_take_slot(heap, shard, size_class);
    }
    heap_lock_release(&heap->state->shard_locks[shard]);
    return error;
}

/* Takes a slot from quarantine, or else from any shard. Called when there is no room. */
static __attribute__((noinline)) int slabs_alloc_anywhere(struct pkeyguard_heap *heap,
                                                          unsigned size_class, void **ret_object)
{
    unsigned shard = own_shard();
    int error = heap_lock_acquire(&heap->state->shard_locks[shard]);

    if (error != 0)
        return error;
    bin_end_quarantine_of_all(heap, shard, size_class);
    heap_lock_release(&heap->state->shard_locks[shard]);
    error = slabs_alloc_in(heap, shard, size_class, ret_object);
    if (error != -ENOMEM)
        return error;
    blocks_end_quarantine(heap);
    slabs_give_empty_back(heap);
    for (unsigned i = 0; i < SHARD_COUNT && error != 0; i++)
        error = slabs_alloc_in(heap, i, size_class, ret_object);
    return error == 0 ? 0 : -ENOMEM;
}

static inline int slabs_alloc(struct pkeyguard_heap *heap, unsigned size_class, void **ret_object)
{
    int error = slabs_alloc_in(heap, own_shard(), size_class, ret_object);

    return error == -ENOMEM ? slabs_alloc_anywhere(heap, size_class, ret_object) : error;
}

/*
 * Wipes and frees the object at `address`, which is the place. -EINVAL: no live object begins
 * there.
 */
static inline int slabs_free(struct pkeyguard_heap *heap, struct place place, void *address)
{
    unsigned shard = role_shard(place.role), size_class = role_class(place.role), slot;
    struct bin *bin = bin_of(heap, shard, size_class);
    int error = heap_lock_acquire(&heap->state->shard_locks[shard]);

    if (error != 0)
        return error;
    if (!slot_is_live(&place, &slot)) {
        heap_lock_release(&heap->state->shard_locks[shard]);
        return -EINVAL;
    }
    *map_word(place.block->live, slot) &= ~map_bit(slot);
    wipe_small(address, size_classes[size_class].size);
    bin_end_quarantine(heap, shard, size_class, quarantine_next(bin));
    *quarantine_next(bin) = slot_entry(address, slot);
    bin->freed++;
    heap_lock_release(&heap->state->shard_locks[shard]);
    return 0;
}

/*
 * Returns the usable size in bytes of the object at the place, or 0 if no live object begins there.
 */
static inline int slabs_live_size(struct pkeyguard_heap *heap, const struct place *place,
                                  size_t *ret_size)
{
    unsigned shard = role_shard(place->role), slot;
    int error = heap_lock_acquire(&heap->state->shard_locks[shard]);

    if (error != 0)
        return error;
    if (slot_is_live(place, &slot))
        *ret_size = size_classes[role_class(place->role)].size;
    else
        error = -EINVAL;
    heap_lock_release(&heap->state->shard_locks[shard]);
    return error;
}

#endif
