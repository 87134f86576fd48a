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

struct eviction eviction;

static NEEDS_LIBRARY_LOCK int next_of(int place)
{
    return eviction.places[place].next;
}

static NEEDS_LIBRARY_LOCK int previous_of(int place)
{
    return eviction.places[place].previous;
}

/* The last store puts the pkey into the list, so a fork child finds every `next` right (list.h). */
static NEEDS_LIBRARY_LOCK void insert_behind(int place, int pkey)
{
    eviction.places[pkey].next = (uint8_t)next_of(place);
    eviction.places[pkey].previous = (uint8_t)place;
    eviction.places[next_of(place)].previous = (uint8_t)pkey;
    __atomic_store_n(&eviction.places[place].next, (uint8_t)pkey, __ATOMIC_RELEASE);
}

void eviction_add(int pkey)
{
    eviction.scores[pkey] = 0;
    insert_behind(0, pkey);
}

void eviction_remove(int pkey)
{
    __atomic_store_n(&eviction.places[previous_of(pkey)].next, (uint8_t)next_of(pkey),
                     __ATOMIC_RELEASE);
    eviction.places[next_of(pkey)].previous = (uint8_t)previous_of(pkey);
}

pkru_bits eviction_first_few(pkru_bits pkeys, int count)
{
    pkru_bits few = 0;

    for (int pkey = next_of(0); pkey != 0 && count > 0; pkey = next_of(pkey)) {
        if (pkeys & PKEY_AD(pkey)) {
            few |= PKEY_BITS(pkey);
            count--;
        }
    }
    return few;
}

/* Puts a pkey behind those with the same score, which were used less recently. Searches from the
 * end: a pkey that was just used belongs near it. */
static NEEDS_LIBRARY_LOCK void move_back(int pkey)
{
    int place;

    eviction_remove(pkey);
    for (place = previous_of(0); place != 0; place = previous_of(place)) {
        if (eviction.scores[place] <= eviction.scores[pkey])
            break;
    }
    insert_behind(place, pkey);
}

/* The scores are right. The order may lack a pkey that was being moved. */
void eviction_mend(void)
{
    pkru_bits missing = pkeys_pool();
    int place = 0;

    for (int pkey = next_of(0); missing & PKEY_AD(pkey); pkey = next_of(pkey)) {
        eviction.places[pkey].previous = (uint8_t)place;
        missing &= ~PKEY_BITS(pkey);
        place = pkey;
    }
    eviction.places[place].next = 0;
    eviction.places[0].previous = (uint8_t)place;
    for_each_pkey_left(left, missing)
    {
        int pkey = pkru_first_pkey(left);

        insert_behind(0, pkey);
        move_back(pkey);
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
}

void eviction_note_loss(int pkey, struct eviction_history *ret_key)
{
    *ret_key = (struct eviction_history){.score = eviction.scores[pkey], .age = eviction.age};
    eviction.scores[pkey] = 0;
}

/* Collects what the threads have opened, and forgets it. */
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
        move_back(pkey);
    }
}
