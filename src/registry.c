/* SPDX-License-Identifier: MIT */
#include "registry.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_SIZE = 1 << 14 };

/* Before each record. */
struct registry_record {
    atomic_uint generation; /* odd while published */
    atomic_uintptr_t start;
    atomic_size_t length;
    struct registry_record *next_unused;
    alignas(max_align_t) char record[];
};

struct registry_chunk {
    struct registry_chunk *older;
    atomic_size_t used; /* records that were ever taken */
    alignas(max_align_t) char records[];
};

static size_t stride(const struct registry *registry)
{
    size_t size = sizeof(struct registry_record) + registry->record_size;

    return (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
}

static struct registry_record *nth(const struct registry *registry, struct registry_chunk *chunk,
                                   size_t n)
{
    return (struct registry_record *)(void *)(chunk->records + n * stride(registry));
}

static struct registry_record *header_of(void *record)
{
    return (struct registry_record *)(void *)((char *)record -
                                              offsetof(struct registry_record, record));
}

static bool is_published(unsigned generation)
{
    return generation % 2 != 0;
}

static struct registry_record *take_fresh(struct registry *registry)
{
    size_t room = (CHUNK_SIZE - sizeof(struct registry_chunk)) / stride(registry);
    struct registry_chunk *chunk = registry->newest;

    if (chunk == NULL || chunk->used == room) {
        /* From malloc, so that leak checkers follow what records point to. */
        chunk = calloc(1, CHUNK_SIZE);
        if (chunk == NULL)
            return NULL;
        chunk->older = registry->newest;
        registry->newest = chunk;
    }
    return nth(registry, chunk, chunk->used++);
}

void *registry_take(struct registry *registry)
{
    struct registry_record *header = registry->unused;

    if (header != NULL)
        registry->unused = header->next_unused;
    else
        header = take_fresh(registry);
    return header == NULL ? NULL : memset(header->record, 0, registry->record_size);
}

void registry_publish(void *record, const void *start, size_t length)
{
    struct registry_record *header = header_of(record);

    header->start = (uintptr_t)start;
    header->length = length;
    header->generation++;
}

void registry_withdraw(void *record)
{
    struct registry_record *header = header_of(record);

    if (is_published(header->generation))
        header->generation++;
}

void registry_give_back(struct registry *registry, void *record)
{
    struct registry_record *header = header_of(record);

    registry_withdraw(record);
    header->next_unused = registry->unused;
    registry->unused = header;
}

struct registry_cursor registry_begin(const struct registry *registry)
{
    return (struct registry_cursor){.chunk = registry->newest};
}

/* The next record that was ever taken. */
static struct registry_record *advance(const struct registry *registry,
                                       struct registry_cursor *cursor)
{
    while (cursor->chunk != NULL && cursor->position == cursor->chunk->used)
        *cursor = (struct registry_cursor){.chunk = cursor->chunk->older};
    return cursor->chunk == NULL ? NULL : nth(registry, cursor->chunk, cursor->position++);
}

void *registry_next(const struct registry *registry, struct registry_cursor *cursor)
{
    struct registry_record *header;

    do {
        header = advance(registry, cursor);
    } while (header != NULL && !is_published(header->generation));
    return header == NULL ? NULL : header->record;
}

static bool has(const struct registry_record *header, const void *address)
{
    return (uintptr_t)address - atomic_load_explicit(&header->start, memory_order_relaxed) <
           atomic_load_explicit(&header->length, memory_order_relaxed);
}

void *registry_find(const struct registry *registry, const void *address, unsigned *ret_generation)
{
    struct registry_cursor cursor = registry_begin(registry);
    struct registry_record *header;

    while ((header = advance(registry, &cursor)) != NULL) {
        unsigned generation = atomic_load_explicit(&header->generation, memory_order_acquire);

        if (!is_published(generation) || !has(header, address))
            continue;
        /* Where it changed meanwhile its start and length need not belong together. */
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&header->generation, memory_order_relaxed) != generation)
            continue;
        *ret_generation = generation;
        return header->record;
    }
    return NULL;
}

bool registry_unchanged(void *record, unsigned generation)
{
    /* Not a load: what was read of the record before must not be read after. */
    return atomic_fetch_add_explicit(&header_of(record)->generation, 0, memory_order_acq_rel) ==
           generation;
}
