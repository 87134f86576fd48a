/* SPDX-License-Identifier: MIT */
/*
 * parted_heap.h - small objects of a closed heap whose key is a software key
 *
 * To open such a heap takes time for each page in use. These functions open the metadata and the
 * pages of the object alone, and the other objects stay closed. They hold the library's lock
 * meanwhile. A fork takes the heap's locks first and then the library's, so they do not wait for a
 * lock of the heap (never_waits in struct heap_thread). Where they cannot do the work they change
 * nothing, and the caller opens the whole heap.
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

/* Returns false, with the lock released, if the heap cannot be opened in parts. */
static bool begin_parts(struct region_parts *parts, struct pkeyguard_heap *heap)
    LOCK_ANALYSIS(try_acquire_capability(true, library_mutex))
{
    if (library_lock() != 0)
        return false;
    if (region_parts_begin(parts, heap->region)) {
        if (region_parts_open_annex(parts) == 0) {
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

/* Opens the pages of the object that the next allocation takes. False: it has to make a slab. */
static NEEDS_LIBRARY_LOCK bool open_next_object(struct region_parts *parts,
                                                struct pkeyguard_heap *heap, unsigned size_class)
{
    const char *object = slabs_next(heap, heap_thread_shard(), size_class);

    return object != NULL &&
           region_parts_open(parts, object, size_table.classes[size_class].size) == 0;
}

/* Returns NULL if the heap has to be opened as a whole. */
static void *parted_alloc(struct pkeyguard_heap *heap, size_t size)
{
    unsigned size_class = class_of_size(size)->number;
    struct region_parts parts;
    void *object = NULL;

    (void)heap_thread_shard(); /* not while the lock is held */
    if (!begin_parts(&parts, heap))
        return NULL;
    if (open_next_object(&parts, heap, size_class))
        (void)slabs_alloc_in(heap, heap_thread_shard(), size_class, &object);
    end_parts(&parts);
    return object;
}

/* Finds a live small object and opens its pages. False: there is none. */
static NEEDS_LIBRARY_LOCK bool open_object(struct region_parts *parts, struct pkeyguard_heap *heap,
                                           const void *address, struct place *ret_place)
{
    return blocks_locate(heap, address, ret_place) && role_kind(ret_place->role) == BLOCK_SLAB &&
           slot_is_live(ret_place) &&
           region_parts_open(parts, address,
                             size_table.classes[role_class(ret_place->role)].size) == 0;
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
