/* SPDX-License-Identifier: MIT */
#include "key/eviction.h"

#include <limits.h>

#include "pkey/thread_records.h"

/*
 * These values come from a simulation with a pool of 14 pkeys and 100 keys. If the keys are used by
 * Zipf's law (1 / rank), 43 % of the uses find no pkey; "least recently used" has 52 %. With a
 * working set of 12 keys that changes every 1,000 uses, 16 % find no pkey under both policies. A
 * larger AGE improves the first case and worsens the second.
 */
enum { USE = 16, SCORE_MAX = 1 << 12, AGE = 48 };

struct eviction eviction = {.order = LIST_INIT(eviction.order)};

void eviction_add(int pkey)
{
    eviction.scores[pkey] = 0;
    list_insert(&eviction.order, &eviction.places[pkey]);
}

void eviction_remove(int pkey)
{
    list_remove(&eviction.places[pkey]);
}

/* Puts the pkey behind those with the same score, which were used less recently. */
static NEEDS_LIBRARY_LOCK void put_in_order(int pkey)
{
    struct list *place = &eviction.places[pkey], *behind;

    list_remove(place);
    /* Search from the end: most pkeys that were just used belong there. */
    for (behind = eviction.order.previous; behind != &eviction.order; behind = behind->previous) {
        if (eviction.scores[eviction_pkey_at(behind)] <= eviction.scores[pkey])
            break;
    }
    list_insert(behind, place);
}

static NEEDS_LIBRARY_LOCK void add_last(int pkey)
{
    list_insert(eviction.order.previous, &eviction.places[pkey]);
}

/* The scores are right. The order may lack a pkey that was being moved. */
void eviction_mend(void)
{
    struct list *place = eviction.order.next;
    pkru_bits missing = pkeys_pool();

    list_init(&eviction.order);
    while (missing & PKEY_BITS(eviction_pkey_at(place))) {
        int pkey = eviction_pkey_at(place);

        place = place->next;
        missing &= ~PKEY_BITS(pkey);
        add_last(pkey);
    }
    for_each_pkey_left(left, missing)
    {
        add_last(pkru_first_pkey(left));
        put_in_order(pkru_first_pkey(left));
    }
}

static unsigned raised(unsigned score)
{
    return score + USE < SCORE_MAX ? score + USE : SCORE_MAX;
}

static NEEDS_LIBRARY_LOCK void count_binding(void)
{
    if (++eviction.bindings % AGE != 0)
        return;
    eviction.age++;
    for (int pkey = 1; pkey < PKEYS; pkey++)
        eviction.scores[pkey] /= 2;
}

void eviction_note_binding(int pkey, const struct eviction_history *key)
{
    unsigned halvings = eviction.age - key->age;

    count_binding();
    eviction.scores[pkey] =
        raised(halvings < sizeof(key->score) * CHAR_BIT ? key->score >> halvings : 0);
    put_in_order(pkey);
}

void eviction_note_loss(int pkey, struct eviction_history *ret_key)
{
    *ret_key = (struct eviction_history){.score = eviction.scores[pkey], .age = eviction.age};
    eviction.scores[pkey] = 0;
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
    /* Remove UNBOUND, which a guard on an unbound key noted and which is no pkey of the pool. */
    return used & pkeys_pool();
}

void eviction_note_uses(void)
{
    for_each_pkey_left(left, collect_uses())
    {
        int pkey = pkru_first_pkey(left);

        if (eviction.scores[pkey] != 0)
            eviction.scores[pkey] = raised(eviction.scores[pkey]);
        put_in_order(pkey);
    }
}
