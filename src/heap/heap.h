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

/* Slabs of every size class. Each thread allocates from one shard, so that threads seldom wait for
 * each other. An object goes back to the shard of its slab. */
struct shard {
    /* The slabs that have a free slot, by size class: the first one's block number + 1; 0: none. */
    _Alignas(64) uint32_t slabs[CLASS_COUNT];
};

/* All zero in a heap without objects. */
struct metadata {
    struct shard shards[SHARD_COUNT]; /* each under its lock in shard_locks */
    struct free_spans spans;          /* under spans_lock */

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
