/* SPDX-License-Identifier: MIT */
/*
 * heap.h - what a heap consists of
 *
 * Its objects lie in one region, which is divided into blocks (spans.h). Small objects share a slab
 * with others of their size class (slabs.h); a large object has blocks of its own (heap.c). The
 * metadata, which describes the blocks, lies in the region's annex: under the same key, out of the
 * objects' reach.
 */
#ifndef HEAP_H
#define HEAP_H

#include <stddef.h>
#include <stdint.h>

#include <pkeyguard/heap.h>

#include "heap/heap_lock.h"
#include "heap/spans.h"

enum { SHARD_COUNT = 16, CLASS_COUNT = 24 };

/*
 * What was freed is kept in quarantine, and not handed out again before so much more was freed: so
 * many slots of the same bin, or large objects.
 */
enum { SLOTS_IN_QUARANTINE = 8, LARGE_IN_QUARANTINE = 4 };

/* The slabs of one size class and shard. */
struct bin {
    uint64_t
        quarantine[SLOTS_IN_QUARANTINE]; /* a ring of slots, as slot_entry() writes them, or 0 */
    uint32_t freed; /* slots ever freed; modulo the ring's size, the place for the next one */
    uint32_t slabs; /* those that have a free slot: the first one's block number + 1; 0: none */
};

/* Slabs of every size class. Each thread allocates from one shard, so that threads seldom wait for
 * each other. An object goes back to the shard of its slab. */
struct shard {
    _Alignas(64) struct bin bins[CLASS_COUNT];
};

/* All zero in a heap without objects. */
struct metadata {
    struct shard shards[SHARD_COUNT]; /* each under its lock in shard_locks */

    /* Under spans_lock. */
    struct free_spans spans;
    uint32_t quarantine[LARGE_IN_QUARANTINE]; /* a ring of large objects: block number + 1, or 0 */
    uint32_t freed; /* large objects ever freed; modulo the ring's size, the place for the next */

    /* Those of a slab under its shard's lock, others under spans_lock. */
    _Alignas(64) struct block blocks[];
};

struct pkeyguard_heap {
    /* Constant while the heap exists. */
    struct pkeyguard_region *region;
    char *start; /* of the objects */
    size_t size; /* bytes for objects: the region's, whole pages */
    struct metadata *metadata;
    struct spans spans;

    uint32_t used;               /* blocks from the start that were ever in use; under spans_lock */
    struct heap_lock spans_lock; /* may be taken while a shard's is held, not the reverse */
    struct heap_lock shard_locks[SHARD_COUNT];
};

#endif
