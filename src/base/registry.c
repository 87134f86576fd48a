/* SPDX-License-Identifier: MIT */
#include "base/registry.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "base/os.h"

enum { CHUNK_SIZE = 1 << 14 }; /* bytes */

/* A record of the user's with its header. The atomic members are written under the registry's lock
 * and read without it. */
struct registry_record {
    atomic_uint generation; /* odd while published; each publishing and withdrawing adds 1 */
    atomic_uintptr_t start; /* the addresses that find it */
    atomic_size_t length;   /* in bytes */
    struct registry_record *next_unused; /* in registry.unused; under the lock */
    alignas(max_align_t) char record[];
};

/* Memory for several records. It is never freed. */
struct registry_chunk {
    struct registry_chunk *older; /* constant once the chunk is in the registry */
    atomic_size_t used; /* how many of its records were ever taken; under the lock, read without */
    alignas(max_align_t) char records[];
};

static size_t record_stride(const struct registry *registry)
{
    size_t size = sizeof(struct registry_record) + registry->record_size;

    return (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
}

static struct registry_record *nth_record(const struct registry *registry,
                                          struct registry_chunk *chunk, size_t n)
{
    return (struct registry_record *)(void *)(chunk->records + n * record_stride(registry));
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

static struct registry_record *take_fresh_record(struct registry *registry)
{
    size_t room = (CHUNK_SIZE - sizeof(struct registry_chunk)) / record_stride(registry);
    struct registry_chunk *chunk = registry->newest;

    if (chunk == NULL || chunk->used == room) {
        void *pages;

        /* Not from malloc: the caller has a lock, and malloc may be built on this library. */
        if (os_allocate_pages(CHUNK_SIZE, &pages) != 0)
            return NULL;
        chunk = pages;
        chunk->older = registry->newest;
        registry->newest = chunk;
    }
    return nth_record(registry, chunk, chunk->used++);
}

void *registry_take(struct registry *registry)
{
    struct registry_record *header = registry->unused;

    if (header != NULL)
        registry->unused = header->next_unused;
    else
        header = take_fresh_record(registry);
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
        header = nth_record(registry, cursor->chunk, cursor->position++);
        if (is_published(header->generation))
            return header->record;
    }
    return NULL;
}

/* True if the record, published at this generation, has the address. */
static bool record_has(const struct registry_record *header, unsigned generation,
                       const void *address)
{
    uintptr_t start = atomic_load_explicit(&header->start, memory_order_acquire);
    size_t length = atomic_load_explicit(&header->length, memory_order_acquire);

    /* If the generation has changed, start and length may be of two different publishings. */
    return (uintptr_t)address - start < length &&
           atomic_load_explicit(&header->generation, memory_order_relaxed) == generation;
}

void *registry_find(const struct registry *registry, const void *address, unsigned *ret_generation)
{
    for (struct registry_chunk *chunk = registry->newest; chunk != NULL; chunk = chunk->older) {
        size_t used = chunk->used;

        for (size_t n = 0; n < used; n++) {
            struct registry_record *header = nth_record(registry, chunk, n);
            unsigned generation = atomic_load_explicit(&header->generation, memory_order_acquire);

            if (is_published(generation) && record_has(header, generation, address)) {
                *ret_generation = generation;
                return header->record;
            }
        }
    }
    return NULL;
}

bool registry_unchanged(void *record, unsigned generation)
{
    /* Not a load: reads of the record that precede the call must not move behind it. */
    return atomic_fetch_add_explicit(&header_of(record)->generation, 0, memory_order_acq_rel) ==
           generation;
}
