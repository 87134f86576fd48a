/* SPDX-License-Identifier: MIT */
#include "key/eviction.h"

#include <limits.h>

#include "pkey/thread_records.h"

/*
 * Found by simulation, with a pool of 14 and 100 keys. Of the uses that are drawn by Zipf's law
 * (1 / rank), 43 % find no pkey; with "least recently used" 52 %. With a working set of 12 keys
 * that changes every 1,000 uses it is 16 %, as with "least recently used". A larger AGE is better
 * for the former and worse for the latter.
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

/* Behind those with the same score: they were used less recently. */
static NEEDS_LIBRARY_LOCK void put_in_order(int pkey)
{
    struct list *place = &eviction.places[pkey], *behind;

    list_remove(place);
    /* From the end, where most of the used ones belong. */
    for (behind = eviction.order.previous; behind != &eviction.order; behind = behind->previous) {
        if (eviction.scores[eviction_pkey_at(behind)] <= eviction.scores[pkey])
            break;
    }
    list_insert(behind, place);
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
    /* A guard that found its key unbound noted UNBOUND, which is no pkey of the pool. */
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
