/* SPDX-License-Identifier: MIT */
/*
 * checked_objects.h - objects of a heap that a memory checker watches
 *
 * Such an object is one of objects.h, of which only the size that was asked for is the program's.
 * The rest, at least RED_ZONE bytes, is the red zone, and has that size in its last bytes. It is
 * closed for the checker, and so are freed memory and memory that no object had yet.
 *
 * An object is closed while it is still live, and opened when it is live already. So it is always
 * the object's only user who tells the checker, and no lock is needed.
 *
 * The heap's shards have no owners, so fast_slots.h leaves all work to this file; and the heap is
 * not opened in parts (parted_heap.h).
 *
 * Only heap.c includes this file (see blocks.h). Every function expects the heap's key to be open
 * for reading and writing.
 */
#ifndef CHECKED_OBJECTS_H
#define CHECKED_OBJECTS_H

#include "heap/heap_directory.h"
#include "heap/memory_checker.h"
#include "heap/objects.h"

/* In bytes. memcheck takes what is up to 24 bytes behind a block for an access past that block. */
enum { RED_ZONE = 32 };

/* Runs when a heap is made. */
static void let_nobody_own_shards(struct heap_state *state)
{
    for (unsigned shard = 0; shard < SHARD_COUNT; shard++)
        state->shard_locks[shard].never_owned = true;
}

/* ---- the stored size ---- */

/* @usable: what objects.h says is the object's size. */
static size_t *size_place(const char *object, size_t usable)
{
    return (size_t *)(uintptr_t)(object + usable - sizeof(size_t));
}

static NOT_CHECKED_BY_ASAN void store_size(char *object, size_t usable, size_t size)
{
    *size_place(object, usable) = size;
}

static NOT_CHECKED_BY_ASAN size_t load_size(const char *object, size_t usable)
{
    return *size_place(object, usable);
}

static bool is_size_within(size_t size, size_t usable)
{
    return size != 0 && size <= usable - RED_ZONE;
}

/* The size that objects.h gives an object that is asked for with this one. */
static size_t usable_size_for(size_t size, size_t alignment)
{
    return is_large(size, alignment) ? (size + BLOCK_SIZE - 1) / BLOCK_SIZE * BLOCK_SIZE
                                     : size_table.classes[class_for(size, alignment)].size;
}

/* ---- objects ---- */

static __attribute__((noinline)) int checked_alloc(struct pkeyguard_heap *heap, size_t size,
                                                   size_t alignment, void **ret_object)
{
    size_t with_red_zone;
    int error;

    size += size == 0;
    if (__builtin_add_overflow(size, RED_ZONE, &with_red_zone))
        return -ENOMEM;
    heap->checker->pause();
    error = objects_alloc(heap, with_red_zone, alignment, ret_object);
    if (error == 0)
        store_size(*ret_object, usable_size_for(with_red_zone, alignment), size);
    heap->checker->resume();
    if (error == 0)
        heap->checker->allocated(*ret_object, size);
    return error;
}

/* *ret_usable is the size with the red zone. */
static int find_checked(struct pkeyguard_heap *heap, const void *address, size_t *ret_size,
                        size_t *ret_usable)
{
    int error = objects_live_size(heap, address, ret_usable);

    if (error != 0)
        return error;
    heap->checker->pause();
    *ret_size = load_size(address, *ret_usable);
    heap->checker->resume();
    if (!is_size_within(*ret_size, *ret_usable))
        abort_written_to(heap, "the red zone after an object");
    return 0;
}

/* Returns the size that was asked for, or as objects_live_size(). */
static int checked_live_size(struct pkeyguard_heap *heap, const void *address, size_t *ret_size)
{
    size_t unused;

    return find_checked(heap, address, ret_size, &unused);
}

/* The program wants to free or resize what is no live object. */
static void checked_report(const struct pkeyguard_heap *heap, void *address)
{
    if (pkeyguard_heap_owns(heap, address))
        heap->checker->refused(address);
}

static __attribute__((noinline)) int checked_free(struct pkeyguard_heap *heap, void *address)
{
    size_t size;
    int error = checked_live_size(heap, address, &size);

    if (error == 0) {
        heap->checker->freed(address, size);
        heap->checker->pause();
        error = objects_free(heap, address);
        heap->checker->resume();
        /* -EINVAL: another thread has just freed it, too. */
        if (error != 0 && error != -EINVAL)
            heap->checker->allocated(address, size);
    }
    if (error == -EINVAL)
        checked_report(heap, address);
    return error;
}

static int checked_shrink(struct pkeyguard_heap *heap, void *object, size_t size)
{
    size_t before, usable;
    int error = find_checked(heap, object, &before, &usable);

    if (error != 0)
        return error;
    size += size == 0;
    if (size == before)
        return 0;
    heap->checker->pause();
    store_size(object, usable, size);
    heap->checker->resume();
    heap->checker->shrunk(object, before, size);
    return 0;
}

/* ---- what is not in an object ---- */

/* Closes what is between `from` and the object. Returns the object's end. */
static char *close_before(const struct pkeyguard_heap *heap, const char *from, char *object,
                          size_t usable)
{
    size_t size = load_size(object, usable);

    /* A fork child may have an object that a thread of the parent was about to make. */
    if (!is_size_within(size, usable))
        size = 0;
    heap->checker->close(from, (size_t)(object - from));
    return object + size;
}

static char *close_in_slab(const struct pkeyguard_heap *heap, char *from, uint32_t number)
{
    const struct block *block = spans_block(&heap->spans, number);
    size_t size = size_table.classes[role_class(load_role(block))].size;

    for (unsigned unit = 0; unit < UNITS_PER_BLOCK; unit++) {
        if (block->states[unit] == SLOT_LIVE)
            from = close_before(
                heap, from, block_address(heap, number, (size_t)unit << UNIT_SHIFT, size), size);
    }
    return from;
}

static char *close_in_large(const struct pkeyguard_heap *heap, char *from, uint32_t number)
{
    size_t usable = (size_t)spans_length(&heap->spans, number) << BLOCK_SHIFT;

    return close_before(heap, from, block_address(heap, number, 0, usable), usable);
}

/*
 * Runs after mprotect(2) has opened the pages of a heap, or let them be read only. Before, no
 * thread could write to them, so no thread is changing the heap.
 */
static void close_all_but_objects(const struct pages *pages)
{
    struct pkeyguard_heap *heap = pkeyguard_heap_of(pages->address);
    uint32_t used = heap->state->used;
    char *from = heap->start;

    for (uint32_t number = 0; number < used; number++) {
        enum block_kind kind = role_kind(load_role(spans_block(&heap->spans, number)));

        if (kind == BLOCK_SLAB)
            from = close_in_slab(heap, from, number);
        else if (kind == BLOCK_LARGE)
            from = close_in_large(heap, from, number);
    }
    heap->checker->close(from, (size_t)(heap->start + ((size_t)used << BLOCK_SHIFT) - from));
}

#endif
