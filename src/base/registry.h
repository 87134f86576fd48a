/* SPDX-License-Identifier: MIT */
/*
 * registry.h - finds the record that an address belongs to, without a lock
 *
 * registry_find() may run while another thread, or the code that a signal handler interrupted, adds
 * or removes records. The memory of a record is never freed, so it can be read after it was found;
 * registry_unchanged() tells afterwards whether it was still the same record. A search looks at one
 * record after the other: it is for faults, and for registries of few records.
 *
 * Every other function needs the registry's lock, which is its user's: the library's lock for
 * regions, the heap directory's for heaps.
 */
#ifndef REGISTRY_H
#define REGISTRY_H

#include <stdbool.h>
#include <stddef.h>

struct registry_chunk;
struct registry_record;

struct registry {
    size_t record_size;                    /* bytes; constant */
    struct registry_chunk *_Atomic newest; /* written under the lock, read by registry_find() */
    struct registry_record *unused;        /* records given back; under the lock */
};

#define REGISTRY_INIT(type)         \
    {                               \
        .record_size = sizeof(type) \
    }

/* Returns a new record, all zero, which no address finds yet; NULL: no memory. */
void *registry_take(struct registry *registry);

/* From now on these addresses find the record, which is not published yet. They may not overlap
 * those of another one. */
void registry_publish(void *record, const void *start, size_t length);

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

/* Returns the record of an address, or NULL. Takes no lock and is async-signal-safe, as is
 * registry_unchanged(). */
void *registry_find(const struct registry *registry, const void *address, unsigned *ret_generation);

/* True if the record is still the one that was found, published by the same call. */
bool registry_unchanged(void *record, unsigned generation);

#endif
