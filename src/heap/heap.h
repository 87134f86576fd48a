/* SPDX-License-Identifier: MIT */
/*
 * heap.h - the parts of a heap
 *
 * All objects are in one region, which is divided into blocks (spans.h). Small objects share a slab
 * with others of their size class (slabs.h). A large object has blocks of its own (objects.h). The
 * metadata, which describes the blocks, is in the region's annex. It has the same key, and a guard
 * page separates it from the objects.
 */
#ifndef HEAP_H
#define HEAP_H

#include <stddef.h>
#include <stdint.h>

#include <pkeyguard/heap.h>

#include "heap/heap_lock.h"
#include "heap/memory_checker.h"
#include "heap/shard_lock.h"
#include "heap/spans.h"

enum { CLASS_COUNT = 24 };

/*
 * Freed memory is kept in quarantine. It is handed out again only after this many more slots of the
 * same bin, or large objects, were freed.
 */
enum { SLOTS_IN_QUARANTINE = 8, LARGE_IN_QUARANTINE = 4 };

/* The slabs of one size class and shard. */
struct bin {
    uint64_t quarantine[SLOTS_IN_QUARANTINE]; /* a ring of slots, see SLOT_ENTRY; 0: none */
    /* the number of slots ever freed; modulo the ring's size, the place for the next one */
    uint32_t freed;
    uint32_t slabs; /* the slabs with a free slot: the first one's block number + 1; 0: none */
};

/*
 * A shard has slabs of every size class. Each thread allocates from one shard, so threads seldom
 * wait for each other. A freed object goes back to the shard of its slab.
 */
struct shard {
    _Alignas(64) struct bin bins[CLASS_COUNT];
};

/* All zeros in a heap without objects. */
struct metadata {
    struct shard shards[SHARD_COUNT]; /* each under its lock in shard_locks */

    /* Under spans_lock. */
    struct free_spans spans;
    uint32_t quarantine[LARGE_IN_QUARANTINE]; /* a ring of large objects: block number + 1, or 0 */
    /* the number of large objects ever freed; modulo the ring's size, the place for the next one */
    uint32_t freed;

    /* The blocks of a slab are under its shard's lock, all others under spans_lock. */
    _Alignas(64) struct block blocks[];
};

/*
 * What threads change without the library's lock. It stays writable when the program has the
 * library's records protected.
 */
struct heap_state {
    struct shard_lock of_no_shard; /* that of a thread without a seat, which cannot enter it */
    /* blocks from the start that were ever in use; written under spans_lock */
    atomic_uint used;
    struct heap_lock spans_lock; /* may be taken while a shard's is held, not the reverse */
    struct shard_lock shard_locks[SHARD_COUNT];
};

/* Constant while the heap exists. */
struct pkeyguard_heap {
    struct pkeyguard_region *region;
    char *start;  /* the first byte for objects */
    size_t size;  /* bytes for objects, whole pages */
    size_t units; /* the same in units */
    struct metadata *metadata;
    struct spans spans;

    struct heap_state *state;
    const struct memory_checker *checker; /* until the heap is withdrawn; NULL: it has none */
};

#endif
