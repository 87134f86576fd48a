/* SPDX-License-Identifier: MIT */
#include "key/eviction.h"

#include "pkey/thread_records.h"

struct eviction eviction = {.order = LIST_INIT(eviction.order)};

static NEEDS_LIBRARY_LOCK void move_before(struct list *place, struct list *before)
{
    list_remove(place);
    list_insert(before->previous, place);
}

void eviction_add(int pkey)
{
    list_insert(eviction.order.previous, &eviction.places[pkey]);
}

void eviction_remove(int pkey)
{
    list_remove(&eviction.places[pkey]);
}

void eviction_note_binding(int pkey)
{
    move_before(&eviction.places[pkey], &eviction.order);
}

static NEEDS_LIBRARY_LOCK pkru_bits collect_uses(void)
{
    pkru_bits used = 0;

    for_each_thread(record)
    {
        if (record->used != 0) {
            used |= record->used;
            record->used = 0;
        }
    }
    /* A guard that found its key unbound noted UNBOUND, which is no pkey of the pool. */
    return used & pkeys_pool();
}

/* Moves the used ones to the end, in the order that they have among each other. */
void eviction_note_uses(void)
{
    struct list *end = &eviction.order, *place = end->previous, *next;
    pkru_bits used = collect_uses();

    /* From the end, where most of them are already. */
    for (; used != 0; place = next) {
        pkru_bits bits = PKEY_BITS(eviction_pkey_at(place));

        next = place->previous;
        if (used & bits) {
            used &= ~bits;
            move_before(place, end);
            end = place;
        }
    }
}
