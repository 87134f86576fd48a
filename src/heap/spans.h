/* SPDX-License-Identifier: MIT */
/*
 * spans.h - divides a heap's memory into spans of whole blocks
 *
 * Its data is in the heap's metadata, where zeros mean that nothing was taken yet. The metadata is
 * not trusted: a number read from it is checked against the bounds in struct spans, and the library
 * aborts if it is outside.
 *
 * The heap's key is open in every function. Taking and giving back spans needs the heap's
 * spans_lock; changing a list needs the lock that its head is under.
 */
#ifndef SPANS_H
#define SPANS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In bytes. The kernel's pages may be larger. */
enum { BLOCK_SHIFT = 12, BLOCK_SIZE = 1 << BLOCK_SHIFT };

enum block_kind {
    BLOCK_OTHER, /* in no span, within one, or the first of a large object that is being wiped */
    BLOCK_FREE,  /* the first or last of a free span */
    BLOCK_SLAB,  /* the first of a slab */
    BLOCK_SLAB_SECOND, /* the second of a slab of two */
    BLOCK_LARGE        /* the first of a large object */
};

/*
 * The description of a block; for its span if it is the first of one, or the last of a free one. It
 * is written under the lock of whoever has the span: the shard's lock for a slab, spans_lock for
 * large objects and free spans. Only `role` is also read without.
 */
struct block {
    atomic_uint role; /* its kind; a slab's also has the size class and shard: see blocks.h */
    uint32_t count;   /* blocks of the span */
    uint32_t next, previous; /* numbers + 1 of the span's neighbours in its list; 0: none */

    /* Of a slab. A slot is live, free or in quarantine. Maps have a bit for each, from the lowest
     * of the first word on. */
    uint32_t available; /* how many are free */
    uint32_t fresh;     /* the slots from this one on were never handed out */
    uint64_t live[4];   /* which are live */
    uint64_t free[4];   /* which are free */
    uint64_t unused[5];
};
_Static_assert(sizeof(struct block) == 128, "threads that use different slabs share no cache line");

/* The free spans, under spans_lock: in one list for each length below EXACT_LISTS, then in one for
 * the lengths from each power of two to the next. */
enum { EXACT_LISTS = 64, SPAN_LISTS = EXACT_LISTS + 26 };
struct free_spans {
    uint32_t frontier;          /* blocks from this one on are in no span */
    uint32_t first[SPAN_LISTS]; /* each list's head: the first span's number + 1; 0: it is empty */
    uint64_t filled[2];         /* which lists are not empty: bits, from the lowest of filled[0] */
};

/* The bounds; outside the metadata, and constant while the heap exists. */
struct spans {
    struct block *blocks;    /* in the metadata */
    struct free_spans *free; /* in the metadata */
    uint32_t count;          /* of blocks */
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

/* The length in blocks of the span that begins at this one. Aborts if it exceeds the heap. */
uint32_t spans_length(const struct spans *spans, uint32_t number);

/* Takes count blocks in a row, the first at an address that is a multiple of alignment blocks, a
 * power of two. False: there is no room. */
bool spans_take(const struct spans *spans, uint32_t count, uintptr_t alignment,
                uint32_t *ret_number);
void spans_give_back(const struct spans *spans, uint32_t number, uint32_t count);

/* A list of spans, linked through their first blocks. *head is the first span's number + 1. */
void spans_list_insert(const struct spans *spans, uint32_t *head, uint32_t number);
void spans_list_remove(const struct spans *spans, uint32_t *head, uint32_t number);

#endif
