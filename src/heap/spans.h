/* SPDX-License-Identifier: MIT */
/*
 * spans.h - a heap's room, handed out in spans of whole blocks
 *
 * Everything is kept in the heap's metadata, where zeroes stand for nothing handed out yet. It is
 * not trusted: numbers read from it are held to the bounds in struct spans, and the library aborts
 * rather than leave them. All is called with the heap's key open; who takes or gives back spans has
 * them locked, who uses a list has what its head belongs to locked.
 */
#ifndef SPANS_H
#define SPANS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The unit of a heap's room, whatever the kernel's pages are. */
enum { BLOCK_SHIFT = 12, BLOCK_SIZE = 1 << BLOCK_SHIFT };

enum block_kind {
    BLOCK_OTHER, /* never handed out, or inside a span that its first block speaks for */
    BLOCK_FREE,  /* a free span's first or last */
    BLOCK_SLAB,  /* a slab's first */
    BLOCK_SLAB_SECOND,
    BLOCK_LARGE /* the first of an object of whole blocks */
};

/* What the metadata knows of a block. */
struct block {
    atomic_uint role;        /* kind, and for a slab its size class and shard: see heap.c */
    uint32_t count;          /* blocks of the span */
    uint32_t next, previous; /* numbers + 1 in a list of spans; 0: none */
    uint32_t available;      /* of a slab's slots, how many are free */
    uint32_t unused;
    uint64_t free[4]; /* which ones */
    uint64_t unused_too;
};
_Static_assert(sizeof(struct block) == 64, "threads that use different slabs share no cache line");

/* Lists of free spans: one for each length below EXACT_LISTS, one for each power of two above. */
enum { EXACT_LISTS = 64, SPAN_LISTS = EXACT_LISTS + 26 };
struct free_spans {
    uint32_t frontier;          /* blocks from here on were never handed out */
    uint32_t first[SPAN_LISTS]; /* numbers + 1 */
    uint64_t filled[2];         /* which lists are not empty */
};

/* Outside the metadata. */
struct spans {
    struct block *blocks;
    struct free_spans *free;
    uint32_t count; /* of blocks */
    uintptr_t base; /* the first block's address, in blocks */
};

/* What is read from the metadata makes no sense. */
__attribute__((noreturn, cold)) void spans_abort(void);

/* A block's description; aborts when there is no such block. */
static inline struct block *spans_block(const struct spans *spans, uint32_t number)
{
    if (__builtin_expect(number >= spans->count, false))
        spans_abort();
    return &spans->blocks[number];
}

/* The length of the span that a block is the first of. */
uint32_t spans_length(const struct spans *spans, uint32_t number);

/* So many neighbouring blocks, the first on a multiple of alignment blocks. False: no room. */
bool spans_take(const struct spans *spans, uint32_t count, uintptr_t alignment,
                uint32_t *ret_number);
void spans_give_back(const struct spans *spans, uint32_t number, uint32_t count);

/* Lists of spans through their first blocks; head is the first's number + 1. */
void spans_list_insert(const struct spans *spans, uint32_t *head, uint32_t number);
void spans_list_remove(const struct spans *spans, uint32_t *head, uint32_t number);

#endif
