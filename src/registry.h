/* SPDX-License-Identifier: MIT */
/*
 * registry.h - which record an address belongs to, for code that has no lock to take
 *
 * Records are looked up by address while other threads, or the code that a signal handler has
 * interrupted, add and remove some. Their memory is never freed, so a record that is found may be
 * read at any later time; whether it was still the same one is asked afterwards. The search looks
 * at one record after the other: it serves faults, and registries of few records.
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

/* A zeroed record, found by no address yet; NULL: no memory. Under the library's lock. */
void *registry_take(struct registry *registry);

/* From now on the record is found by these addresses, which no other record has. Under the lock. */
void registry_publish(void *record, const void *start, size_t length);

/* The end of a record, published or not. Under the lock. */
void registry_give_back(struct registry *registry, void *record);

/* The record of an address, or NULL. Async-signal-safe. */
void *registry_find(struct registry *registry, const void *address, unsigned *ret_generation);

/* Whether the record was the one found until now. Async-signal-safe. */
bool registry_unchanged(void *record, unsigned generation);

#endif
