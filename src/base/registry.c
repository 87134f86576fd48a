/* SPDX-License-Identifier: MIT */
#include "base/registry.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "base/fence.h"
#include "base/os.h"
#include "base/process.h"

enum { CHUNK_SIZE = 1 << 14 }; /* bytes */

/* A record of the user's with its header. The atomic members are written under the registry's lock
 * and read without it. */
struct registry_record {
    atomic_uint generation; /* odd while published; each publishing and withdrawing adds 1 */
    atomic_uintptr_t start, own_start; /* struct registry_addresses */
    atomic_size_t length, own_length;  /* length 0: it was not published yet */
    atomic_uint only_process;
    struct registry_record *next_unused; /* in registry.unused; under the lock */
    alignas(max_align_t) char record[];
};

/* Memory for several records. It is never freed. */
struct registry_chunk {
    struct registry_chunk *older; /* constant once the chunk is in the registry */
    size_t used;                  /* how many of its records were ever taken; under the lock */
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

static struct registry_record *header_of(const void *record)
{
    return (struct registry_record *)(uintptr_t)((const char *)record -
                                                 offsetof(struct registry_record, record));
}

bool registry_is_published(unsigned generation)
{
    return generation % 2 != 0;
}

unsigned registry_generation(const void *record)
{
    return header_of(record)->generation;
}

/* Not from malloc: the caller has a lock, and malloc may be built on this library. */
static int allocate_chunk(const struct registry *registry, void **ret_memory)
{
    return registry->in_record_memory ? record_memory_take(CHUNK_SIZE, ret_memory)
                                      : os_allocate_pages(CHUNK_SIZE, ret_memory);
}

static struct registry_record *take_fresh_record(struct registry *registry)
{
    size_t room = (CHUNK_SIZE - sizeof(struct registry_chunk)) / record_stride(registry);
    struct registry_chunk *chunk = registry->newest;

    if (chunk == NULL || chunk->used == room) {
        void *memory;

        if (allocate_chunk(registry, &memory) != 0)
            return NULL;
        chunk = memory;
        to_write(chunk)->older = registry->newest;
        to_write(registry)->newest = chunk;
    }
    return nth_record(registry, chunk, to_write(chunk)->used++);
}

static struct registry_record *take_record(struct registry *registry)
{
    struct registry_record *header = registry->unused;

    if (header == NULL)
        return take_fresh_record(registry);
    to_write(registry)->unused = header->next_unused;
    return header;
}

void *registry_take(struct registry *registry)
{
    struct registry_record *header;

    if (registry->in_record_memory && record_memory_add(registry, sizeof(*registry)) != 0)
        return NULL;
    /* So that registry_publish() cannot fail. */
    if (registry->searched && page_tree_reserve(&registry->tree) != 0)
        return NULL;
    header = take_record(registry);
    if (header == NULL) {
        if (registry->searched)
            page_tree_cancel(&registry->tree);
        return NULL;
    }
    memset(to_write(header)->record, 0, registry->record_size);
    return header->record;
}

void registry_publish(struct registry *registry, void *record,
                      const struct registry_addresses *addresses)
{
    struct registry_record *header = header_of(record), *written = to_write(header);

    if (addresses != NULL && header->length == 0) {
        written->start = (uintptr_t)addresses->start;
        written->length = addresses->length;
        written->own_start = (uintptr_t)addresses->own_start;
        written->own_length = addresses->own_length;
        written->only_process = addresses->only_process;
        page_tree_set(&registry->tree, addresses->start, addresses->length, header);
    }
    written->generation++;
}

void registry_withdraw(void *record)
{
    struct registry_record *header = header_of(record);

    if (registry_is_published(header->generation))
        to_write(header)->generation++;
}

void registry_give_back(struct registry *registry, void *record)
{
    struct registry_record *header = header_of(record), *written = to_write(header);

    registry_withdraw(record);
    if (header->length != 0)
        page_tree_clear(&registry->tree, (const void *)header->start, header->length, header);
    else if (registry->searched)
        page_tree_cancel(&registry->tree);
    written->length = 0;
    written->next_unused = registry->unused;
    to_write(registry)->unused = header;
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
        if (registry_is_published(header->generation))
            return header->record;
    }
    return NULL;
}

static bool header_is_published(const void *header)
{
    return registry_is_published(((const struct registry_record *)header)->generation);
}

bool registry_any(const struct registry *registry, const void *start, size_t length)
{
    return page_tree_any(&registry->tree, start, length, header_is_published);
}

/* In a fork child the addresses of a record that it does not have may belong to something else. */
static bool exists_here(const struct registry_record *header)
{
    return process_has(atomic_load_explicit(&header->only_process, memory_order_acquire));
}

/*
 * True if the address was one of those from *start on while the record was published. The tree may
 * have given a record that was withdrawn since, and is now published at other addresses.
 */
static bool has_address(const struct registry_record *header, const atomic_uintptr_t *start,
                        const atomic_size_t *length, const void *address, unsigned *ret_generation)
{
    unsigned generation = atomic_load_explicit(&header->generation, memory_order_acquire);
    uintptr_t first = atomic_load_explicit(start, memory_order_acquire);
    size_t bytes = atomic_load_explicit(length, memory_order_acquire);

    *ret_generation = generation;
    /* If the generation has changed, start and length may be of two different publishings. */
    return registry_is_published(generation) && (uintptr_t)address - first < bytes &&
           exists_here(header) &&
           atomic_load_explicit(&header->generation, memory_order_relaxed) == generation;
}

void *registry_find(const struct registry *registry, const void *address, unsigned *ret_generation)
{
    struct registry_record *header = page_tree_find(&registry->tree, address);

    return header != NULL &&
                   has_address(header, &header->start, &header->length, address, ret_generation)
               ? header->record
               : NULL;
}

void *registry_owner(const struct registry *registry, const void *address)
{
    struct registry_record *header = page_tree_find(&registry->tree, address);
    unsigned unused;

    return header != NULL &&
                   has_address(header, &header->own_start, &header->own_length, address, &unused)
               ? header->record
               : NULL;
}

bool registry_unchanged(void *record, unsigned generation)
{
    /* Reads of the record that precede the call must not move behind the load. */
    load_fence();
    return atomic_load_explicit(&header_of(record)->generation, memory_order_relaxed) == generation;
}
