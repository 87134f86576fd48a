/* SPDX-License-Identifier: MIT */
/*
 * registry.h - finds the record that an address belongs to, without a lock
 *
 * registry_find() may run while another thread, or the code that a signal handler interrupted, adds
 * or removes records. The memory of a record is never freed, so it can be read after it was found;
 * registry_unchanged() tells afterwards whether it was still the same record. The time of a search
 * does not depend on the number of records (page_tree.h).
 *
 * Every other function needs the library's lock.
 */
#ifndef REGISTRY_H
#define REGISTRY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/page_tree.h"
#include "base/record_memory.h"

struct registry_chunk;
struct registry_record;

struct registry {
    alignas(RECORD_PAGE) size_t record_size; /* bytes; constant */
    bool searched;                           /* records are found by address; constant */
    bool in_record_memory;                   /* record_memory.h; constant */
    struct page_tree tree;          /* the records' headers, by the addresses that find them */
    struct registry_chunk *newest;  /* under the lock */
    struct registry_record *unused; /* records given back; under the lock */
};

/* A registry whose records are found by address. */
#define REGISTRY_INIT(type)                                                     \
    {                                                                           \
        .record_size = sizeof(type), .searched = true, .in_record_memory = true \
    }

/* A registry whose records no address finds. */
#define REGISTRY_INIT_UNSEARCHED(type)                        \
    {                                                         \
        .record_size = sizeof(type), .in_record_memory = true \
    }

/* The same for records that are never protected. Its lock need not be the library's. */
#define REGISTRY_INIT_WRITABLE(type) \
    {                                \
        .record_size = sizeof(type)  \
    }

/* Returns a new record, all zero, which no address finds yet; NULL: no memory. Its user writes it
 * through to_write(). */
void *registry_take(struct registry *registry);

/* What finds a record: whole pages, in bytes. */
struct registry_addresses {
    const char *start;
    size_t length;
    const char *own_start; /* of these, the ones that are the record's own: no guard pages */
    size_t own_length;
    unsigned only_process; /* the process that has them, as process_number(); 0: and its children */
};

/*
 * From now on these addresses find the record, which is not published. If it was withdrawn they are
 * the same as before. Where they overlap those of another record, that one is no longer found. In a
 * registry that is not searched addresses is NULL.
 */
void registry_publish(struct registry *registry, void *record,
                      const struct registry_addresses *addresses);

/* From now on no address finds the record. Does nothing if none does already. */
void registry_withdraw(void *record);

/* Ends a record, published or not. registry_take() returns it again later. */
void registry_give_back(struct registry *registry, void *record);

/* Iterates over the published records. registry_next() returns NULL after the last. */
struct registry_cursor {
    struct registry_chunk *chunk;
    size_t position; /* in the chunk, of the record to look at next */
};
struct registry_cursor registry_begin(const struct registry *registry);
void *registry_next(const struct registry *registry, struct registry_cursor *cursor);

/* True if one of these addresses finds a record. */
bool registry_any(const struct registry *registry, const void *start, size_t length);

/* Return the record that an address finds, or that has it as its own; or NULL. They take no lock
 * and are async-signal-safe, as is registry_unchanged(). */
void *registry_find(const struct registry *registry, const void *address, unsigned *ret_generation);
void *registry_owner(const struct registry *registry, const void *address);

/* True if the record is still the one that was found, published by the same call. */
bool registry_unchanged(void *record, unsigned generation);

/* A record's present generation, which each publishing and withdrawing changes; and whether it is
 * one of a published record. Need no lock. */
unsigned registry_generation(const void *record);
bool registry_is_published(unsigned generation);

#endif
