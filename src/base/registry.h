/* SPDX-License-Identifier: MIT */
/*
 * registry.h - which record an address belongs to, for code that has no lock to take
 *
 * Records are looked up by address while other threads, or the code that a signal handler has
 * interrupted, add and remove some. Their memory is never freed, so a record that is found may be
 * read at any later time; whether it was still the same one is asked afterwards. The search looks
 * at one record after the other: it serves faults, and registries of few records.
 *
 * What changes a registry, and what goes through it, needs one lock: the library's or its user's.
 */
#ifndef REGISTRY_H
#define REGISTRY_H

#include <stdbool.h>
#include <stddef.h>

struct registry_chunk;
struct registry_record;

struct registry {
    size_t record_size;
    struct registry_chunk *_Atomic newest;
    struct registry_record *unused;
};

#define REGISTRY_INIT(type)         \
    {                               \
        .record_size = sizeof(type) \
    }

/* A zeroed record, found by no address yet; NULL: no memory. */
void *registry_take(struct registry *registry);

/* From now on the record is found by these addresses, which no other record has. */
void registry_publish(void *record, const void *start, size_t length);

/* From now on it is found by none, if it was. */
void registry_withdraw(void *record);

/* The end of a record, published or not. */
void registry_give_back(struct registry *registry, void *record);

/* Goes through the published records: the next one, or NULL. */
struct registry_cursor {
    struct registry_chunk *chunk;
    size_t position;
};
struct registry_cursor registry_begin(const struct registry *registry);
void *registry_next(const struct registry *registry, struct registry_cursor *cursor);

/* The record of an address, or NULL. Needs no lock, and is async-signal-safe, as the next. */
void *registry_find(const struct registry *registry, const void *address, unsigned *ret_generation);

/* Whether the record was the one found until now. */
bool registry_unchanged(void *record, unsigned generation);

#endif
