/* SPDX-License-Identifier: MIT */
/*
 * spans.h - divides a heap's memory into spans of whole blocks
 *
 * Its data is in the heap's metadata, where all zeros mean that no span was taken yet. The library
 * does not trust the metadata. It checks each number from there against the bounds in struct spans,
 * and aborts if the number is outside.
 *
 * Every function expects the heap's key to be open. Taking and freeing spans needs the heap's
 * spans_lock. Changing a list needs the lock of its head.
 */
#ifndef SPANS_H
#define SPANS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In bytes. The kernel's pages may be larger. */
enum { BLOCK_SHIFT = 12, BLOCK_SIZE = 1 << BLOCK_SHIFT };

/* The second byte of a block's role (blocks.h). */
enum block_kind {
    /* in no span, inside one, or the first block of a large object that is being wiped */
    BLOCK_OTHER = 0 << 8,
    BLOCK_FREE = 1 << 8, /* the first or last block of a free span */
    BLOCK_SLAB = 2 << 8, /* the first or the second block of a slab */
    BLOCK_LARGE = 3 << 8 /* the first block of a large object */
};

/*
 * A role has the block's kind, and for a slab the size class and the shard. The class is in the
 * lowest byte: what is left of the role of a slab after its shard's slab_role() of class 0 is
 * subtracted is the class, and for any other role a number that is not a class.
 */
static inline unsigned slab_role(unsigned shard, unsigned size_class)
{
    return size_class | BLOCK_SLAB | shard << 16;
}

/* A unit of 16 bytes: a slot begins at one. */
enum { UNIT_SHIFT = 4, UNITS_PER_BLOCK = BLOCK_SIZE >> UNIT_SHIFT };

/* The state of a slot, kept at the unit where the slot begins. */
enum slot_state { SLOT_FREE = 0, SLOT_LIVE = 1, SLOT_QUARANTINED = 2 };

/*
 * The description of a block. It describes the whole span if the block is the first of a span, or
 * the last of a free span. The shard's lock protects the description of a slab; spans_lock protects
 * the others. Only `role` is also read without a lock.
 */
struct block {
    /* the block's kind; a slab's role also has the size class and the shard (blocks.h) */
    atomic_uint role;
    uint32_t count;          /* the number of blocks in the span; 0: the second block of a slab */
    uint32_t next, previous; /* the neighbours in the span's list, as block number + 1; 0: none */

    /* Of a slab, in its first block. */
    uint32_t available; /* how many slots are free */
    uint32_t fresh; /* slots that begin at this unit of the slab or later were never handed out */

    /* Of each block of a slab. Unit n is bit n % 64 of word n / 64 in the map. */
    uint64_t free[UNITS_PER_BLOCK / 64]; /* the units where free slots begin */
    uint64_t unused;
    uint8_t states[UNITS_PER_BLOCK]; /* an enum slot_state; 0 where no slot begins */
};
_Static_assert(sizeof(struct block) % 64 == 0, "threads with different slabs share no cache line");

/*
 * The free spans, under spans_lock. Each length below EXACT_LISTS has a list. Above that, the
 * lengths from one power of two to the next share a list.
 */
enum { EXACT_LISTS = 64, SPAN_LISTS = EXACT_LISTS + 26 };
struct free_spans {
    uint32_t frontier;          /* blocks from this one on are in no span */
    uint32_t first[SPAN_LISTS]; /* the first span of each list, as block number + 1; 0: empty */
    /* a bit for each list that is not empty; list 0 is the lowest bit of filled[0] */
    uint64_t filled[2];
};

/* The bounds. They are outside the metadata, and constant while the heap exists. */
struct spans {
    struct block *blocks;    /* in the metadata */
    struct free_spans *free; /* in the metadata */
    uint32_t count;          /* the number of blocks */
    uintptr_t base;          /* the first block's address, divided by BLOCK_SIZE */
};

/* Aborts because the metadata makes no sense. */
__attribute__((noreturn, cold)) void spans_abort(void);

/* Returns a block's description; aborts if there is no such block. */
static inline struct block *spans_block(const struct spans *spans, uint32_t number)
{
    if (__builtin_expect(number >= spans->count, false))
        spans_abort();
    return &spans->blocks[number];
}

/*
 * Returns the length, in blocks, of the span that begins at this block. Aborts if the span would
 * end beyond the heap.
 */
uint32_t spans_length(const struct spans *spans, uint32_t number);

/*
 * Takes `count` adjacent blocks. The address of the first is a multiple of `alignment` blocks, a
 * power of two. Returns false if there is no room.
 */
bool spans_take(const struct spans *spans, uint32_t count, uintptr_t alignment,
                uint32_t *ret_number);
void spans_give_back(const struct spans *spans, uint32_t number, uint32_t count);

/*
 * A list of spans, linked through their first blocks. *head is the first span's block number + 1.
 */
void spans_list_insert(const struct spans *spans, uint32_t *head, uint32_t number);
void spans_list_remove(const struct spans *spans, uint32_t *head, uint32_t number);

#endif
