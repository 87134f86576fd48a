/* SPDX-License-Identifier: MIT */
#include "base/registry.h"

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

void *registry_next(const struct registry *registry, struct registry_cursor *cursor)
{
    while (cursor->chunk != NULL) {
        struct registry_record *header;

        if (cursor->position == cursor->chunk->used) {
            *cursor = (struct registry_cursor){.chunk = cursor->chunk->older};
            continue;
        }
        header = nth(registry, cursor->chunk, cursor->position++);
        if (is_published(header->generation))
            return header->record;
    }
    return NULL;
}

/* Whether the address is the record's, which was published at this generation. */
static bool has(const struct registry_record *header, unsigned generation, const void *address)
{
    uintptr_t start = atomic_load_explicit(&header->start, memory_order_acquire);
    size_t length = atomic_load_explicit(&header->length, memory_order_acquire);

    /* Where it has changed since, start and length need not belong together. */
    return (uintptr_t)address - start < length &&
           atomic_load_explicit(&header->generation, memory_order_relaxed) == generation;
}

void *registry_find(const struct registry *registry, const void *address, unsigned *ret_generation)
{
    for (struct registry_chunk *chunk = registry->newest; chunk != NULL; chunk = chunk->older) {
        size_t used = chunk->used;

        for (size_t n = 0; n < used; n++) {
            struct registry_record *header = nth(registry, chunk, n);
            unsigned generation = atomic_load_explicit(&header->generation, memory_order_acquire);

            if (is_published(generation) && has(header, generation, address)) {
                *ret_generation = generation;
                return header->record;
            }
        }
    }
    return NULL;
}

bool registry_unchanged(void *record, unsigned generation)
{
    /* Not a load: what was read of the record before must not be read after. */
    return atomic_fetch_add_explicit(&header_of(record)->generation, 0, memory_order_acq_rel) ==
           generation;
}
