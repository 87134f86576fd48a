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
    size_t size; /* bytes of a slot */
    uint32_t number;
    uint16_t slots; /* slots in a slab */
    uint16_t bin;   /* where the class's bin is in struct shard */
};

/* With these sizes a slab has at least 4 slots, and at most an eighth of a slab is unused. */
enum { ONE_BLOCK_SLAB_MAX = 1024 };
#define SLAB_BLOCKS(size) ((size) <= ONE_BLOCK_SLAB_MAX ? 1u : 2u)
#define CLASS(number, size)                                              \
    {                                                                    \
        size, number, SLAB_BLOCKS(size) * BLOCK_SIZE / (size),           \
            offsetof(struct shard, bins) + (number) * sizeof(struct bin) \
    }

enum { SMALL_MAX = 2048, ALIGNMENT = 16 };

/*
 * The classes, and what finds that of a size. There are 8 classes in steps of ALIGNMENT, then 4 in
 * each power of two. One variable has both tables: then a single address leads to a class.
 */
struct size_table {
    struct size_class classes[CLASS_COUNT];
    /* of each size up to SMALL_MAX, in units of ALIGNMENT, rounded up: how far its class is from
     * the start of this structure */
    uint16_t offsets[SMALL_MAX / ALIGNMENT + 1];
};
#define ONE(n)     (uint16_t)(offsetof(struct size_table, classes) + (n) * sizeof(struct size_class))
#define TWO(n)     ONE(n), ONE(n)
#define FOUR(n)    TWO(n), TWO(n)
#define EIGHT(n)   FOUR(n), FOUR(n)
#define SIXTEEN(n) EIGHT(n), EIGHT(n)
static const struct size_table size_table = {
    {
        CLASS(0, 16),    CLASS(1, 32),    CLASS(2, 48),    CLASS(3, 64),    CLASS(4, 80),
        CLASS(5, 96),    CLASS(6, 112),   CLASS(7, 128),   CLASS(8, 160),   CLASS(9, 192),
        CLASS(10, 224),  CLASS(11, 256),  CLASS(12, 320),  CLASS(13, 384),  CLASS(14, 448),
        CLASS(15, 512),  CLASS(16, 640),  CLASS(17, 768),  CLASS(18, 896),  CLASS(19, 1024),
        CLASS(20, 1280), CLASS(21, 1536), CLASS(22, 1792), CLASS(23, 2048),
    },
    {
        ONE(0),      ONE(0),      ONE(1),      ONE(2),      ONE(3),    ONE(4),    ONE(5),
        ONE(6),      ONE(7),      TWO(8),      TWO(9),      TWO(10),   TWO(11),   FOUR(12),
        FOUR(13),    FOUR(14),    FOUR(15),    EIGHT(16),   EIGHT(17), EIGHT(18), EIGHT(19),
        SIXTEEN(20), SIXTEEN(21), SIXTEEN(22), SIXTEEN(23),
    },
};

/* The classes of up to WIPE_STORED_MAX bytes. */
enum { STORED_CLASSES = 12 };

/* The compiler keeps such a value in a register, and does not compute it anew for each use. */
#define KEEP_VALUE(value) __asm__("" : "+r"(value))

/* The compiler reads the variable again, and keeps no register for its value. */
#define FORGET_VALUE(variable) __asm__("" : "+m"(variable))

static inline const struct size_class *class_numbered(unsigned size_class)
{
    const struct size_class *c = &size_table.classes[size_class];

    KEEP_VALUE(c);
    return c;
}

/* Returns the class of a size up to SMALL_MAX. */
static inline const struct size_class *class_of_size(size_t size)
{
    const struct size_table *table = &size_table;
    const void *c;

    KEEP_VALUE(table);
    c = (const char *)table + table->offsets[(size + ALIGNMENT - 1) / ALIGNMENT];
    return c;
}

/*
 * Returns the smallest class for this size whose slots are multiples of `alignment`, a power of two
 * up to SMALL_MAX. A slab begins at a block, so a slot is aligned if its size is a multiple of the
 * alignment; the last class has slots of SMALL_MAX bytes.
 */
static const struct size_class *class_of_aligned_size(size_t size, size_t alignment)
{
    const struct size_class *c = class_of_size(size < alignment ? alignment : size);

    while ((c->size & (alignment - 1)) != 0)
        c++;
    return c;
}

/* ---- slots: under the lock of the slab's shard ---- */

static inline struct bin *bin_of(const struct pkeyguard_heap *heap, unsigned shard,
                                 unsigned size_class)
{
    struct bin *bin = &heap->metadata->shards[shard].bins[size_class];

    KEEP_VALUE(bin);
    return bin;
}

/* The word of a block's map of free slots that has the unit's bit, and that bit. */
static inline uint64_t *map_word(struct block *block, unsigned unit)
{
    return &block->free[unit / 64];
}

static inline uint64_t map_bit(unsigned unit)
{
    return UINT64_C(1) << unit % 64;
}

/* Changes the state of a slot, which has to be `before`; if it is not, returns false. */
ALWAYS_INLINE bool slot_change(struct block *block, unsigned unit, enum slot_state before,
                               enum slot_state after)
{
    if (block->states[unit] != before)
        return false;
    block->states[unit] = (uint8_t)after;
    return true;
}

/*
 * True if a live slot begins at the place. A block keeps its role while its slab holds a live
 * object. So if the role has changed since it was read without the lock, no object there is live.
 */
static inline bool slot_is_live(const struct place *place)
{
    return load_role(place->block) == place->role && place->block->states[place->unit] == SLOT_LIVE;
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

/* Marks all slots of a slab free, of which this is the first block. */
static void slab_fill(struct block *first, const struct size_class *c)
{
    for (unsigned i = 0; i < SLAB_BLOCKS(c->size); i++) {
        memset(first[i].free, 0, sizeof(first[i].free));
        memset(first[i].states, 0, sizeof(first[i].states));
    }
    for (unsigned i = 0; i < c->slots; i++) {
        unsigned unit = (unsigned)units_of(i * (size_t)c->size);

        *map_word(&first[unit / UNITS_PER_BLOCK], unit % UNITS_PER_BLOCK) |= map_bit(unit);
    }
}

/* Makes a slab with all slots free. Returns 0, -ENOMEM: there is no room, or -EDEADLK. */
static __attribute__((noinline)) int slab_add(struct pkeyguard_heap *heap, unsigned shard,
                                              unsigned size_class)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    const struct size_class *c = &size_table.classes[size_class];
    uint32_t count = SLAB_BLOCKS(c->size), number, used;
    unsigned role = slab_role(shard, size_class);
    struct block *first;
    int error = blocks_take(heap, count, 1, role, &number, &used);

    if (error != 0)
        return error;
    first = spans_block(&heap->spans, number);
    first->available = c->slots;
    first->fresh = used == 0 ? 0 : count * UNITS_PER_BLOCK;
    slab_fill(first, c);
    if (count == 2) {
        first[1].count = 0;
        store_role(&first[1], role);
    }
    spans_list_insert(&heap->spans, &bin_of(heap, shard, size_class)->slabs, number);
    return 0;
}

/* Frees the blocks of a slab whose slots are all free. Keeps the slab if spans_lock is refused. */
static __attribute__((noinline)) void slab_remove(struct pkeyguard_heap *heap, unsigned shard,
                                                  unsigned size_class, uint32_t number)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    uint32_t count = SLAB_BLOCKS(size_table.classes[size_class].size);

    if (heap_lock_acquire(&heap->state->spans_lock) != 0)
        return;
    spans_list_remove(&heap->spans, &bin_of(heap, shard, size_class)->slabs, number);
    for (uint32_t i = 0; i < count; i++)
        store_role(spans_block(&heap->spans, number + i), BLOCK_OTHER);
    spans_give_back(&heap->spans, number, count);
    heap_lock_release(&heap->state->spans_lock);
}

/* Returns the unit of the heap where the slab's first free slot begins; there is one. */
static inline size_t slab_first_free(const struct pkeyguard_heap *heap, uint32_t first,
                                     unsigned size_class)
{
    for (uint32_t i = 0; i < SLAB_BLOCKS(size_table.classes[size_class].size); i++) {
        const uint64_t *free = spans_block(&heap->spans, first + i)->free;

        for (unsigned word = 0; word < UNITS_PER_BLOCK / 64; word++) {
            if (free[word] != 0)
                return (size_t)(first + i) * UNITS_PER_BLOCK + (size_t)64 * word +
                       (unsigned)__builtin_ctzll(free[word]);
        }
    }
    spans_abort();
}

/* Takes a free slot of a slab, which has one. */
static inline void *slab_take_slot(struct pkeyguard_heap *heap, unsigned shard, unsigned size_class)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    struct bin *bin = bin_of(heap, shard, size_class);
    uint32_t first = bin->slabs - 1;
    struct block *slab = spans_block(&heap->spans, first), *block;
    size_t unit = slab_first_free(heap, first, size_class),
           size = size_table.classes[size_class].size;
    size_t unit_in_slab = unit - (size_t)first * UNITS_PER_BLOCK;
    char *object = heap->start + unit_offset(heap, unit, size);

    block = spans_block(&heap->spans, (uint32_t)(unit / UNITS_PER_BLOCK));
    *map_word(block, unit % UNITS_PER_BLOCK) &= ~map_bit(unit % UNITS_PER_BLOCK);
    block->states[unit % UNITS_PER_BLOCK] = SLOT_LIVE;
    if (--slab->available == 0)
        spans_list_remove(&heap->spans, &bin->slabs, first);
    if (unit_in_slab >= slab->fresh)
        slab->fresh = (uint32_t)unit_in_slab + 1;
    else
        require_zero(heap, object, size);
    return object;
}

/* Returns the first block of the slab that this block is of. */
static inline uint32_t slab_first_block(const struct pkeyguard_heap *heap, uint32_t number)
{
    return spans_block(&heap->spans, number)->count == 0 ? number - 1 : number;
}

/* Makes a slot free that was in quarantine. @unit: of the heap, where it begins */
static inline void slab_give_slot_back(struct pkeyguard_heap *heap, unsigned shard,
                                       unsigned size_class, size_t unit)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    uint32_t number = (uint32_t)(unit / UNITS_PER_BLOCK), first = slab_first_block(heap, number);
    struct block *slab = spans_block(&heap->spans, first);

    *map_word(spans_block(&heap->spans, number), unit % UNITS_PER_BLOCK) |=
        map_bit(unit % UNITS_PER_BLOCK);
    if (++slab->available == 1)
        spans_list_insert(&heap->spans, &bin_of(heap, shard, size_class)->slabs, first);
    /*
     * Keep an empty slab if its list has no other slab. Otherwise a program that allocates and
     * frees one object again and again would make and free a slab each time.
     */
    if (slab->available == size_table.classes[size_class].slots &&
        (slab->next | slab->previous) != 0)
        slab_remove(heap, shard, size_class, first);
}

/* ---- the quarantine of slots: under the lock of the slab's shard ---- */

/* Set in each slot that a ring holds. The rest is the number of the slot's first unit in the heap.
 */
#define SLOT_ENTRY (UINT64_C(1) << 63)

/*
 * The place in the ring for the slot that is freed next. If the ring is full, the slot that was
 * freed first is there.
 */
static inline uint64_t *quarantine_next(struct bin *bin)
{
    return &bin->quarantine[bin->freed % SLOTS_IN_QUARANTINE];
}

/* What came of taking a slot from the ring. After the last two the program has to be aborted. */
enum taken {
    TAKEN,
    NONE_TO_TAKE,        /* nothing was changed */
    TAKEN_OF_NO_SLAB,    /* the ring's entry is not a slot in quarantine of the bin's slabs */
    TAKEN_AND_WRITTEN_TO /* the program has written to the slot since it was freed */
};

static void require_taken_whole(const struct pkeyguard_heap *heap, enum taken taken)
{
    if (taken == TAKEN_OF_NO_SLAB)
        spans_abort();
    if (taken == TAKEN_AND_WRITTEN_TO)
        abort_written_to(heap, "a freed object");
}

/*
 * Takes the ring's entry out of quarantine, and gives the slot this state. It has to be of this
 * class, and of the shard whose slabs of class 0 have this role.
 */
ALWAYS_INLINE enum taken slot_end_quarantine(const struct pkeyguard_heap *heap, uint64_t entry,
                                             const unsigned *role, const struct size_class *c,
                                             enum slot_state after)
{
    size_t offset = entry << UNIT_SHIFT;
    struct block *block;

    if (offset > heap->size - c->size)
        return TAKEN_OF_NO_SLAB;
    block = &heap->spans.blocks[offset >> BLOCK_SHIFT];
    KEEP_VALUE(block);
    if (load_role(block) - *role != c->number ||
        !slot_change(block, entry % UNITS_PER_BLOCK, SLOT_QUARANTINED, after))
        return TAKEN_OF_NO_SLAB;
    return TAKEN;
}

/* Takes the slot that was freed first, if the ring is full. The bin's slabs have this class. */
ALWAYS_INLINE enum taken bin_take_quarantined(struct pkeyguard_heap *heap, struct bin *bin,
                                              const unsigned *role, const struct size_class *c,
                                              void **ret_object)
{
    uint64_t *oldest = quarantine_next(bin), entry;
    enum taken taken;
    char *object;

    KEEP_VALUE(oldest);
    entry = *oldest;
    if (entry == 0)
        return NONE_TO_TAKE;
    *oldest = 0;
    taken = slot_end_quarantine(heap, entry, role, c, SLOT_LIVE);
    if (taken != TAKEN)
        return taken;
    object = heap->start + (entry << UNIT_SHIFT);
    if (__builtin_expect(!is_zero(object, c->size), 0))
        return TAKEN_AND_WRITTEN_TO;
    *ret_object = object;
    return TAKEN;
}

/* Makes the slot at this place of the ring free. */
static inline void bin_end_quarantine(struct pkeyguard_heap *heap, unsigned shard,
                                      unsigned size_class, uint64_t *place)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    unsigned role = slab_role(shard, 0);
    uint64_t entry = *place;

    if (entry == 0)
        return;
    require_taken_whole(
        heap, slot_end_quarantine(heap, entry, &role, class_numbered(size_class), SLOT_FREE));
    *place = 0;
    slab_give_slot_back(heap, shard, size_class, entry & ~SLOT_ENTRY);
}

/*
 * Puts the slot that begins at this unit of the heap into the ring. `next` is the ring's next
 * place, and is free.
 */
ALWAYS_INLINE void bin_put_into_quarantine(struct bin *bin, uint64_t *next, size_t unit)
{
    *next = unit | SLOT_ENTRY;
    FORGET_VALUE(bin->freed);
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
        if (block->available == size_table.classes[size_class].slots)
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
    struct bin *bin = bin_of(heap, shard, size_class);
    unsigned role = slab_role(shard, 0);
    enum taken taken;

    if (error != 0)
        return error;
    taken = bin_take_quarantined(heap, bin, &role, class_numbered(size_class), ret_object);
    require_taken_whole(heap, taken);
    if (taken == NONE_TO_TAKE) {
        if (bin->slabs == 0)
            error = slab_add(heap, shard, size_class);
        if (error == 0)
            *ret_object = slab_take_slot(heap, shard, size_class);
    }
    shard_lock_release(&heap->state->shard_locks[shard], shard);
    return error;
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
 * Puts a slot that is no longer live into quarantine, and wipes it. Ends the quarantine of the one
 * that was freed first, if the ring is full.
 * @unit: of the heap, where the slot begins
 */
static inline void slab_quarantine_slot(struct pkeyguard_heap *heap, unsigned shard,
                                        unsigned size_class, size_t unit)
    LOCK_ANALYSIS(requires_capability(heap->state->shard_locks[shard]))
{
    struct block *block = &heap->spans.blocks[unit / UNITS_PER_BLOCK];
    struct bin *bin = bin_of(heap, shard, size_class);
    size_t size = size_table.classes[size_class].size;
    uint64_t *next = quarantine_next(bin);

    bin_end_quarantine(heap, shard, size_class, next);
    block->states[unit % UNITS_PER_BLOCK] = SLOT_QUARANTINED;
    bin_put_into_quarantine(bin, next, unit);
    wipe_small(heap->start + unit_offset(heap, unit, size), size);
}

/*
 * Wipes and frees the object at the place. -EINVAL: no live object begins there.
 */
static inline int slabs_free(struct pkeyguard_heap *heap, struct place place)
{
    unsigned shard = role_shard(place.role), size_class = role_class(place.role);
    int error = shard_lock_acquire(&heap->state->shard_locks[shard], shard);

    if (error != 0)
        return error;
    if (slot_is_live(&place))
        slab_quarantine_slot(heap, shard, size_class,
                             (size_t)place.number * UNITS_PER_BLOCK + place.unit);
    else
        error = -EINVAL;
    shard_lock_release(&heap->state->shard_locks[shard], shard);
    return error;
}

/*
 * Returns the usable size in bytes of the object at the place, or 0 if no live object begins there.
 */
static inline int slabs_live_size(struct pkeyguard_heap *heap, const struct place *place,
                                  size_t *ret_size)
{
    unsigned shard = role_shard(place->role);
    int error = shard_lock_acquire(&heap->state->shard_locks[shard], shard);

    if (error != 0)
        return error;
    if (slot_is_live(place))
        *ret_size = size_table.classes[role_class(place->role)].size;
    else
        error = -EINVAL;
    shard_lock_release(&heap->state->shard_locks[shard], shard);
    return error;
}

#endif
