/* SPDX-License-Identifier: MIT */
/*
 * parted_heap.h - small objects of a closed heap whose key is a software key
 *
 * To open such a heap takes time for each page in use. These functions open the pages of the object
 * alone, and of the metadata its first part and the descriptions of the blocks that are read or
 * written. The other objects stay closed, and the time does not grow with the heap. They hold the
 * library's lock meanwhile. A fork takes the heap's locks first and then the library's, so they do
 * not wait for a lock of the heap (never_waits in struct heap_thread). Where they cannot do the
 * work they change nothing, and the caller opens the whole heap.
 *
 * While the heap is closed no other thread is inside, so what they see stays as it is until the
 * object's lock is taken.
 *
 * Only heap.c includes this file (see blocks.h).
 */
#ifndef PARTED_HEAP_H
#define PARTED_HEAP_H

#include "heap/slabs.h"
#include "region/parts.h"

/*
 * In blocks. A smaller heap is opened as a whole: that takes fewer system calls. So is one that
 * asked for huge pages, which the kernel would have to split.
 */
enum { PARTED_HEAP_MIN = 32 };

static bool is_parted(const struct pkeyguard_heap *heap)
{
    return atomic_load_explicit(&heap->state->used, memory_order_relaxed) >= PARTED_HEAP_MIN &&
           heap->region->head.key->enforcement->kind == PKEYGUARD_MPROTECT &&
           !(heap->region->flags & PKEYGUARD_REGION_HUGE_PAGES) && heap->checker == NULL;
}

/* The metadata before the descriptions of the blocks. Each of these functions opens it. */
enum { METADATA_HEAD = offsetof(struct metadata, blocks) };

/* For a new heap. */
static void prepare_parts(const struct pkeyguard_heap *heap)
{
    size_t page = os_page_size();

    if (heap->spans.count >= PARTED_HEAP_MIN &&
        heap->region->head.key->enforcement->kind == PKEYGUARD_MPROTECT)
        os_keep_apart(heap->metadata, (METADATA_HEAD + page - 1) / page * page);
}

/* Returns false, with the lock released, if the heap cannot be opened in parts. */
static bool begin_parts(struct region_parts *parts, struct pkeyguard_heap *heap)
    LOCK_ANALYSIS(try_acquire_capability(true, library_mutex))
{
    if (library_lock() != 0)
        return false;
    if (region_parts_begin(parts, heap->region)) {
        if (region_parts_open(parts, heap->metadata, METADATA_HEAD) == 0) {
            own_heap_thread.never_waits = true;
            return true;
        }
        region_parts_end(parts);
    }
    library_unlock();
    return false;
}

static void end_parts(struct region_parts *parts) LOCK_ANALYSIS(release_capability(library_mutex))
{
    own_heap_thread.never_waits = false;
    region_parts_end(parts);
    library_unlock();
}

/* ---- the blocks that a call needs ---- */

static NEEDS_LIBRARY_LOCK bool open_blocks(struct region_parts *parts,
                                           const struct pkeyguard_heap *heap, uint32_t first,
                                           uint32_t count)
{
    return first < heap->spans.count && count <= heap->spans.count - first &&
           region_parts_open(parts, &heap->spans.blocks[first], count * sizeof(struct block)) == 0;
}

/* @link: a block number + 1; 0: there is none to open */
static NEEDS_LIBRARY_LOCK bool open_linked_block(struct region_parts *parts,
                                                 const struct pkeyguard_heap *heap, uint32_t link)
{
    return link == 0 || open_blocks(parts, heap, link - 1, 1);
}

/* Opens the blocks for slab_take_slot(). The list is not empty. */
static NEEDS_LIBRARY_LOCK bool open_first_slab(struct region_parts *parts,
                                               const struct pkeyguard_heap *heap,
                                               const struct bin *bin, const struct size_class *c)
{
    const struct block *slab;

    if (!open_blocks(parts, heap, bin->slabs - 1, SLAB_BLOCKS(c->size)))
        return false;
    slab = spans_block(&heap->spans, bin->slabs - 1);
    /* Its last free slot is taken, so the list loses it. */
    return slab->available != 1 || (open_linked_block(parts, heap, slab->next) &&
                                    open_linked_block(parts, heap, slab->previous));
}

/* Opens the blocks for bin_end_quarantine() of the slot that was freed first. */
static NEEDS_LIBRARY_LOCK bool open_oldest_slab(struct region_parts *parts,
                                                const struct pkeyguard_heap *heap, struct bin *bin,
                                                const struct size_class *c)
{
    uint64_t entry = *quarantine_next(bin);
    uint32_t number = (uint32_t)(entry / UNITS_PER_BLOCK);
    const struct block *slab;

    if (entry == 0)
        return true;
    if (!open_blocks(parts, heap, number, 1))
        return false;
    number = slab_first_block(heap, number);
    if (!open_blocks(parts, heap, number, 1))
        return false;
    slab = spans_block(&heap->spans, number);
    /* An empty slab is removed, which can touch any block. */
    if (slab->available + 1 >= c->slots)
        return region_parts_open_annex(parts) == 0;
    return slab->available != 0 || open_linked_block(parts, heap, bin->slabs);
}

/* ---- objects ---- */

/* Opens the object that the next allocation takes, and its blocks. False: it has to make a slab. */
static NEEDS_LIBRARY_LOCK bool open_next_object(struct region_parts *parts,
                                                const struct pkeyguard_heap *heap,
                                                const struct size_class *c)
{
    struct bin *bin = bin_of(heap, heap_thread_shard(), c->number);
    uint64_t entry = *quarantine_next(bin);
    size_t unit;

    if (entry != 0) {
        unit = entry & ~SLOT_ENTRY;
        if (!open_blocks(parts, heap, (uint32_t)(unit / UNITS_PER_BLOCK), 1))
            return false;
    } else {
        if (bin->slabs == 0 || !open_first_slab(parts, heap, bin, c))
            return false;
        unit = slab_first_free(heap, bin->slabs - 1, c->number);
    }
    return region_parts_open(parts, heap->start + unit_offset(heap, unit, c->size), c->size) == 0;
}

/* Returns NULL if the heap has to be opened as a whole. */
static void *parted_alloc(struct pkeyguard_heap *heap, size_t size)
{
    const struct size_class *c = class_of_size(size);
    struct region_parts parts;
    void *object = NULL;

    (void)heap_thread_shard(); /* not while the lock is held */
    if (!begin_parts(&parts, heap))
        return NULL;
    if (open_next_object(&parts, heap, c))
        (void)slabs_alloc_in(heap, heap_thread_shard(), c->number, &object);
    end_parts(&parts);
    return object;
}

/* Finds a live small object, and opens it and the blocks for freeing it. False: there is none. */
static NEEDS_LIBRARY_LOCK bool open_object(struct region_parts *parts, struct pkeyguard_heap *heap,
                                           const void *address, struct place *ret_place)
{
    size_t unit = unit_at(heap, address);
    const struct size_class *c;

    if (unit >= heap->units || !open_blocks(parts, heap, (uint32_t)(unit / UNITS_PER_BLOCK), 1) ||
        !blocks_locate(heap, address, ret_place) || role_kind(ret_place->role) != BLOCK_SLAB ||
        !slot_is_live(ret_place))
        return false;
    c = class_numbered(role_class(ret_place->role));
    return region_parts_open(parts, address, c->size) == 0 &&
           open_oldest_slab(parts, heap, bin_of(heap, role_shard(ret_place->role), c->number), c);
}

/* Returns false if the heap has to be opened as a whole. */
static bool parted_free(struct pkeyguard_heap *heap, void *address)
{
    struct region_parts parts;
    struct place place;
    bool freed;

    if (!pkeyguard_heap_owns(heap, address) || !begin_parts(&parts, heap))
        return false;
    freed = open_object(&parts, heap, address, &place) && slabs_free(heap, place) == 0;
    end_parts(&parts);
    return freed;
}

#endif
