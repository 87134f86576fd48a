/* SPDX-License-Identifier: MIT */
#include "run.h"

#include <errno.h>

#include "history.h"

/* xorshift64* */
unsigned pick(struct run *run, unsigned count)
{
    run->random ^= run->random >> 12;
    run->random ^= run->random << 25;
    run->random ^= run->random >> 27;
    return (unsigned)((run->random * 0x2545f4914f6cdd1du) >> 33) % count;
}

bool chance(struct run *run, unsigned percent)
{
    return pick(run, 100) < percent;
}

int pick_thread(struct run *run)
{
    int thread;

    do
        thread = (int)pick(run, THREADS);
    while (!run->model.threads[thread].lives);
    return thread;
}

int pick_key(struct run *run)
{
    int first = (int)pick(run, KEYS);

    for (int i = 0; i < KEYS; i++) {
        if (run->model.keys[(first + i) % KEYS].real != NULL)
            return (first + i) % KEYS;
    }
    return NO_KEY;
}

int pick_region(struct run *run)
{
    int first = (int)pick(run, REGIONS);

    for (int i = 0; i < REGIONS; i++) {
        if (run->model.regions[(first + i) % REGIONS].real != NULL)
            return (first + i) % REGIONS;
    }
    return NO_REGION;
}

enum pkeyguard_rights pick_rights(struct run *run)
{
    return (enum pkeyguard_rights)(PKEYGUARD_NO_ACCESS + pick(run, 3));
}

void call_on(struct run *run, int thread, void (*work)(void *), void *argument)
{
    if (thread == 0)
        work(argument);
    else
        run_on(&run->workers[thread], work, argument);
}

static unsigned result_bit(int result)
{
    switch (result) {
    case 0:
        return SUCCESS;
    case -EBUSY:
        return BUSY;
    case -EAGAIN:
        return AGAIN;
    case -ENOSPC:
        return NO_SPACE;
    case -EINVAL:
        return INVALID;
    case -ENOTSUP:
        return NOT_SUPPORTED;
    case -ETIMEDOUT:
        return TIMED_OUT;
    default:
        return 0;
    }
}

void expect(struct run *run, int result, unsigned results)
{
    history_add(" -> %d", result);
    if (result == -EBUSY || result == -EAGAIN)
        run->refused++;
    if ((result_bit(result) & results) == 0)
        history_differ("the call returned %d; possible are %#x", result, results);
}

/* The pkeys that guards keep. */
static unsigned pinned_pkeys(const struct model *model)
{
    unsigned pinned = 0;

    for (int k = 0; k < KEYS; k++) {
        if (model->keys[k].kind == VIRTUAL && model_pinned(model, k, false))
            pinned |= 1u << pkeyguard_key_number(model->keys[k].real);
    }
    return pinned;
}

unsigned results_of_opening(const struct run *run, int thread, int key)
{
    const struct model *model = &run->model;
    unsigned results = SUCCESS;

    if (model_kind(model, key) != VIRTUAL ||
        (pkeyguard_key_number(model->keys[key].real) > 0 && model->threads[thread].registered))
        return SUCCESS;
    if (!model_all_registered(model))
        results |= AGAIN;
    if ((run->pool & ~pinned_pkeys(model)) == 0)
        results |= run->pool == 0 ? NO_SPACE : BUSY;
    return results;
}

bool gate_holds_virtual_keys(const struct run *run)
{
    for (int k = 0; k < KEYS; k++) {
        if (run->model.keys[k].kind != VIRTUAL)
            continue;
        for (int t = 0; t < THREADS; t++) {
            if (model_pinned_by(&run->model, t, k, true) &&
                !model_pinned_by(&run->model, t, k, false))
                return true;
        }
    }
    return false;
}

unsigned pkeys_taken(const struct run *run, const int *keys, unsigned count)
{
    unsigned taken = 0;

    for (int k = 0; k < KEYS; k++) {
        bool takes = model_pinned(&run->model, k, true);

        for (unsigned i = 0; i < count; i++)
            takes = takes || (keys[i] == k && run->model.keys[k].kind == VIRTUAL);
        if (takes)
            taken++;
    }
    return taken;
}

bool leaves_enough_pkeys(const struct run *run, const int *keys, unsigned count)
{
    return !gate_holds_virtual_keys(run) ||
           pkeys_taken(run, keys, count) <= (unsigned)__builtin_popcount(run->pool);
}

void note_pkeys(struct run *run)
{
    for (int k = 0; k < KEYS; k++) {
        const struct model_key *key = &run->model.keys[k];
        int pkey = pkeyguard_key_number(key->real);

        if (pkey < 0)
            continue;
        run->seen |= 1u << pkey;
        if (key->kind == VIRTUAL)
            run->pool |= 1u << pkey;
        else
            run->pool &= ~(1u << pkey);
        if (key->kind == VIRTUAL && run->last_owner[pkey] != k + 1) {
            run->taken += run->last_owner[pkey] != 0;
            run->last_owner[pkey] = k + 1;
        }
    }
}
