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

/* For what a fast path needs. */
#define ALWAYS_INLINE __attribute__((always_inline)) static inline

/* ---- size classes ---- */

struct size_class {
    uint32_t size;    /* bytes of a slot */
    uint32_t slots;   /* slots in a slab */
    uint32_t inverse; /* 2^32 / size, rounded up: replaces division of an offset by size, which is
                         exact for the offset of a slot, a multiple */
    uint16_t number;
    uint16_t bin; /* where the class's bin is in struct shard */
};

/* With these sizes a slab has at least 4 slots, and at most an eighth of a slab is unused. */
enum { ONE_BLOCK_SLAB_MAX = 1024 };
#define SLAB_BLOCKS(size) ((size) <= ONE_BLOCK_SLAB_MAX ? 1u : 2u)
#define CLASS(number, size)                                                             \
    {                                                                                   \
        size, SLAB_BLOCKS(size) * BLOCK_SIZE / (size), UINT32_MAX / (size) + 1, number, \
            offsetof(struct shard, bins) + (number) * sizeof(struct bin)                \
    }

static const struct size_class size_classes[] = {
    CLASS(0, 16),    CLASS(1, 32),    CLASS(2, 48),    CLASS(3, 64),    CLASS(4, 80),
    CLASS(5, 96),    CLASS(6, 112),   CLASS(7, 128),   CLASS(8, 160),   CLASS(9, 192),
    CLASS(10, 224),  CLASS(11, 256),  CLASS(12, 320),  CLASS(13, 384),  CLASS(14, 448),
    CLASS(15, 512),  CLASS(16, 640),  CLASS(17, 768),  CLASS(18, 896),  CLASS(19, 1024),
    CLASS(20, 1280), CLASS(21, 1536), CLASS(22, 1792), CLASS(23, 2048),
};
enum { SMALL_MAX = 2048, ALIGNMENT = 16 };
_Static_assert(sizeof(size_classes) / sizeof(size_classes[0]) == CLASS_COUNT, "in heap.h");

/* The classes of up to WIPE_STORED_MAX bytes. */
enum { STORED_CLASSES = 12 };

/*
 * The class of each size up to SMALL_MAX, in units of ALIGNMENT, rounded up. There are 8 classes in
 * steps of one unit, then 4 classes in each power of two.
 */
#define TWICE(n)   n, n
#define FOUR(n)    TWICE(n), TWICE(n)
#define EIGHT(n)   FOUR(n), FOUR(n)
#define SIXTEEN(n) EIGHT(n), EIGHT(n)
static const uint8_t class_of_units[] = {
    0,           0,           1,           2,           3,         4,         5,
    6,           7,           TWICE(8),    TWICE(9),    TWICE(10), TWICE(11), FOUR(12),
    FOUR(13),    FOUR(14),    FOUR(15),    EIGHT(16),   EIGHT(17), EIGHT(18), EIGHT(19),
    SIXTEEN(20), SIXTEEN(21), SIXTEEN(22), SIXTEEN(23),
};
_Static_assert(sizeof(class_of_units) == SMALL_MAX / ALIGNMENT + 1, "up to SMALL_MAX");

/* Returns the class of a size up to SMALL_MAX. */
static inline unsigned class_of_size(size_t size)
{
    return class_of_units[(size + ALIGNMENT - 1) / ALIGNMENT];
}

/* The compiler keeps such a pointer in a register, and does not compute it anew for each use. */
#define KEEP_POINTER(pointer) __asm__("" : "+r"(pointer))

static inline const struct size_class *class_numbered(unsigned size_class)
{
    const struct size_class *c = &size_classes[size_class];

    KEEP_POINTER(c);
    return c;
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
    struct bin *bin = &heap->metadata->shards[shard].bins[size_class];

    KEEP_POINTER(bin);
    return bin;
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

/* True if a slot begins at the offset from the start of a slab of this class. */
ALWAYS_INLINE bool slot_begins_at(const struct size_class *c, unsigned offset, unsigned *ret_slot)
{
    unsigned slot = (unsigned)((uint64_t)offset * c->inverse >> 32);

    *ret_slot = slot;
    return slot * c->size == offset && slot < c->slots;
}

/*
 * True if a slot of the slab begins at the place. A block keeps its role while the slab holds a
 * live object. So if the role has changed since it was read without the lock, no object there is
 * live.
 */
static inline bool slot_at(const struct place *place, unsigned *ret_slot)
{
    return load_role(place->block) == place->role &&
           slot_begins_at(class_numbered(role_class(place->role)), place->offset, ret_slot);
}

static inline bool slot_is_live(struct block *block, unsigned slot)
{
    return (*map_word(block->live, slot) & map_bit(slot)) != 0;
}

/* Marks a slot live. */
ALWAYS_INLINE void slot_set_live(struct block *block, unsigned slot)
{
#ifdef __x86_64__
    __asm__("{btsl %1, %0|bts %0, %1}" : "+m"(block->live) : "r"(slot) : "cc");
#else
    *map_word(block->live, slot) |= map_bit(slot);
#endif
}

/* Marks a slot not live. Returns whether it was live. */
ALWAYS_INLINE bool slot_clear_live(struct block *block, unsigned slot)
{
#ifdef __x86_64__
    bool was_live;

    __asm__("{btrl %2, %0|btr %0, %2}" : "+m"(block->live), "=@ccc"(was_live) : "r"(slot));
    return was_live;
#else
    uint64_t *word = map_word(block->live, slot), before = *word;

    *word = before & ~map_bit(slot);
    return before != *word;
#endif
}

/* The program has written where it may not. */
static __attribute__((noreturn, cold)) void abort_written_to(const struct pkeyguard_heap *heap,
                                                             const char *what)
{
    const char *name = heap->region->name;
    bool named = name[0] != '\0';

    os_abort(what, " of a heap was written to", named ? ": region '" : "", name, named ? "'" : "",
             NULL);
}

static inline void require_zero(const struct pkeyguard_heap *heap, const char *object, size_t size)
{
    if (__builtin_expect(!is_zero(object, size), 0))
        abort_written_to(heap, "a freed object");
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

/* Returns the first free slot of the slab; there is one. */
static inline unsigned slab_first_free(const struct block *block)
{
    unsigned word = 0;

    while (block->free[word] == 0) {
        if (++word == 4)
            spans_abort();
    }
    return 64 * word + (unsigned)__builtin_ctzll(block->free[word]);
}

/* Takes a free slot of a slab, which has one. */
static inline void *slab_take_slot(struct pkeyguard_heap *heap, unsigned shard, unsigned size_class)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    struct bin *bin = bin_of(heap, shard, size_class);
    uint32_t number = bin->slabs - 1;
    struct block *block = spans_block(&heap->spans, number);
    size_t size = size_classes[size_class].size;
    unsigned slot = slab_first_free(block);
    char *object;

    *map_word(block->free, slot) &= ~map_bit(slot);
    slot_set_live(block, slot);
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
                                       unsigned size_class, uint32_t number, unsigned slot)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    struct block *block = spans_block(&heap->spans, number);

    *map_word(block->free, slot) |= map_bit(slot);
    if (++block->available == 1)
        spans_list_insert(&heap->spans, &bin_of(heap, shard, size_class)->slabs, number);
    /*
     * Keep an empty slab if its list has no other slab. Otherwise a program that allocates and
     * frees one object again and again would make and free a slab each time.
     */
    if (block->available == size_classes[size_class].slots && (block->next | block->previous) != 0)
        slab_remove(heap, shard, size_class, number);
}

/* ---- the quarantine of slots: under the lock of the slab's shard ---- */

/*
 * The form in which a ring holds a slot: the number of the slab's block, and of the slot. Never 0.
 * @offset: of the block or any place in it, from the heap's start.
 */
enum { SLOT_BITS = 8 };
static inline uint64_t slot_entry(size_t offset, unsigned slot)
{
    return UINT64_C(1) << 63 | (offset >> (BLOCK_SHIFT - SLOT_BITS) & ~(uint64_t)UINT8_MAX) | slot;
}

static inline uint32_t entry_block(uint64_t entry)
{
    return (uint32_t)(entry >> SLOT_BITS);
}

static inline unsigned entry_slot(uint64_t entry)
{
    return (uint8_t)entry;
}

/*
 * Returns the slot's address, and the first block of its slab. Aborts if it is not a slot of a slab
 * with this role and class.
 */
ALWAYS_INLINE char *slot_of_entry(const struct pkeyguard_heap *heap, unsigned role,
                                  const struct size_class *c, uint64_t entry,
                                  struct block **ret_block)
{
    unsigned slot = entry_slot(entry);
    char *object = block_address(heap, entry_block(entry), slot * (size_t)c->size, c->size);
    struct block *block = &heap->spans.blocks[entry_block(entry)];

    KEEP_POINTER(block);
    if (load_role(block) != role || slot >= c->slots)
        spans_abort();
    *ret_block = block;
    return object;
}

/*
 * The place in the ring for the slot that is freed next. If the ring is full, the slot that was
 * freed first is there.
 */
static inline uint64_t *quarantine_next(struct bin *bin)
{
    return &bin->quarantine[bin->freed % SLOTS_IN_QUARANTINE];
}

/*
 * Takes the slot that was freed first, or returns NULL if the ring is not full. The bin's slabs
 * have this role and class.
 */
ALWAYS_INLINE void *bin_take_quarantined(struct pkeyguard_heap *heap, struct bin *bin,
                                         unsigned role, const struct size_class *c)
{
    uint64_t *oldest = quarantine_next(bin), entry;
    struct block *block;
    char *object;

    KEEP_POINTER(oldest);
    entry = *oldest;
    if (entry == 0)
        return NULL;
    object = slot_of_entry(heap, role, c, entry, &block);
    *oldest = 0;
    slot_set_live(block, entry_slot(entry));
    require_zero(heap, object, c->size);
    return object;
}

/* Makes the slot at this place of the ring free. */
static inline void bin_end_quarantine(struct pkeyguard_heap *heap, unsigned shard,
                                      unsigned size_class, uint64_t *place)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    uint64_t entry = *place;
    struct block *block;

    if (entry == 0)
        return;
    (void)slot_of_entry(heap, slab_role(shard, size_class), class_numbered(size_class), entry,
                        &block);
    *place = 0;
    slab_give_slot_back(heap, shard, size_class, entry_block(entry), entry_slot(entry));
}

/* `next` is the ring's next place, and is free. */
static inline void bin_put_into_quarantine(struct bin *bin, uint64_t *next, uint64_t entry)
{
    *next = entry;
    bin->freed++;
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
        if (shard_lock_acquire(&heap->state->shard_locks[shard], shard) != 0)
            continue;
        for (unsigned i = 0; i < CLASS_COUNT; i++) {
            bin_end_quarantine_of_all(heap, shard, i);
            bin_remove_empty_slabs(heap, shard, i);
        }
        shard_lock_release(&heap->state->shard_locks[shard], shard);
    }
}

/* ---- small objects ---- */

/* Takes a free slot of the list's first slab, which has one. */
static inline int slabs_alloc_in(struct pkeyguard_heap *heap, unsigned shard, unsigned size_class,
                                 void **ret_object)
{
    int error = shard_lock_acquire(&heap->state->shard_locks[shard], shard);

    if (error != 0)
        return error;
    *ret_object = bin_take_quarantined(heap, bin_of(heap, shard, size_class),
                                       slab_role(shard, size_class), class_numbered(size_class));
    if (*ret_object == NULL) {
        if (bin_of(heap, shard, size_class)->slabs == 0)
            error = slab_add(heap, shard, size_class);
        if (error == 0)
            *ret_object = slab_take_slot(heap, shard, size_class);
    }
    shard_lock_release(&heap->state->shard_locks[shard], shard);
    return error;
}

/*
 * Returns the object that slabs_alloc_in() would take, or NULL: it would have to make a slab. For
 * when no other thread is in the heap.
 */
static const char *slabs_next(const struct pkeyguard_heap *heap, unsigned shard,
                              unsigned size_class)
{
    struct bin *bin = bin_of(heap, shard, size_class);
    const struct size_class *c = class_numbered(size_class);
    uint64_t entry = *quarantine_next(bin);
    struct block *unused;

    if (entry != 0)
        return slot_of_entry(heap, slab_role(shard, size_class), c, entry, &unused);
    if (bin->slabs == 0)
        return NULL;
    return block_address(
        heap, bin->slabs - 1,
        slab_first_free(spans_block(&heap->spans, bin->slabs - 1)) * (size_t)c->size, c->size);
}

/* Takes a slot from quarantine, or else from any shard. Called when there is no room. */
static __attribute__((noinline)) int slabs_alloc_anywhere(struct pkeyguard_heap *heap,
                                                          unsigned size_class, void **ret_object)
{
    unsigned shard = heap_thread_shard();
    int error = shard_lock_acquire(&heap->state->shard_locks[shard], shard);

    if (error != 0)
        return error;
    bin_end_quarantine_of_all(heap, shard, size_class);
    shard_lock_release(&heap->state->shard_locks[shard], shard);
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
    int error = slabs_alloc_in(heap, heap_thread_shard(), size_class, ret_object);

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
    int error = shard_lock_acquire(&heap->state->shard_locks[shard], shard);

    if (error != 0)
        return error;
    if (slot_at(&place, &slot) && slot_clear_live(place.block, slot)) {
        uint64_t *next = quarantine_next(bin);

        bin_end_quarantine(heap, shard, size_class, next);
        bin_put_into_quarantine(bin, next, slot_entry((size_t)place.number << BLOCK_SHIFT, slot));
        wipe_small(address, size_classes[size_class].size);
    } else {
        error = -EINVAL;
    }
    shard_lock_release(&heap->state->shard_locks[shard], shard);
    return error;
}

/*
 * Returns the usable size in bytes of the object at the place, or 0 if no live object begins there.
 */
static inline int slabs_live_size(struct pkeyguard_heap *heap, const struct place *place,
                                  size_t *ret_size)
{
    unsigned shard = role_shard(place->role), slot;
    int error = shard_lock_acquire(&heap->state->shard_locks[shard], shard);

    if (error != 0)
        return error;
    if (slot_at(place, &slot) && slot_is_live(place->block, slot))
        *ret_size = size_classes[role_class(place->role)].size;
    else
        error = -EINVAL;
    shard_lock_release(&heap->state->shard_locks[shard], shard);
    return error;
}

#endif
