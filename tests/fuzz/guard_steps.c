/* SPDX-License-Identifier: MIT */
/* The steps that acquire and release guards. */
#include <errno.h>

#include "history.h"
#include "run.h"

static void do_acquire(void *argument)
{
    struct call *call = argument;

    call->result = pkeyguard_acquire(call->region, call->rights, call->guard);
}

static void do_key_acquire(void *argument)
{
    struct call *call = argument;

    call->result = pkeyguard_key_acquire(call->key, call->rights, call->guard);
}

static void do_restrict(void *argument)
{
    struct call *call = argument;

    call->result = pkeyguard_restrict(call->region, call->rights, call->guard);
}

static bool open_guard(struct run *run, int thread, struct model_guard guard,
                       void (*acquire)(void *))
{
    struct model *model = &run->model;
    struct call call = {.rights = guard.rights, .guard = &guard.real};
    unsigned results = SUCCESS;

    if (model->threads[thread].guard_count == GUARDS || !leaves_enough_pkeys(run, &guard.key, 1))
        return false;
    if (guard.key != NO_KEY)
        call.key = model->keys[guard.key].real;
    if (guard.region != NO_REGION)
        call.region = model->regions[guard.region].real;
    if (guard.rights != (guard.narrows ? PKEYGUARD_READ_WRITE : PKEYGUARD_NO_ACCESS) &&
        (!guard.narrows || model_rights(model, thread, guard.key) > guard.rights))
        results = results_of_opening(run, thread, guard.key);
    history_add("region %d, key %d, rights %d", guard.region, guard.key, (int)guard.rights);
    call_on(run, thread, acquire, &call);
    expect(run, call.result, results);
    if (call.result == 0) {
        model_acquire(model, thread, &guard);
        run->guards++;
    }
    return true;
}

bool acquire_region(struct run *run, int thread)
{
    int region = pick_region(run);

    return region != NO_REGION &&
           open_guard(run, thread,
                      (struct model_guard){.key = run->model.regions[region].key,
                                           .region = region,
                                           .rights = pick_rights(run)},
                      do_acquire);
}

bool acquire_key(struct run *run, int thread)
{
    int key = pick_key(run);

    return key != NO_KEY &&
           open_guard(
               run, thread,
               (struct model_guard){.key = key, .region = NO_REGION, .rights = pick_rights(run)},
               do_key_acquire);
}

bool restrict_region(struct run *run, int thread)
{
    int region = pick_region(run);

    return region != NO_REGION &&
           open_guard(run, thread,
                      (struct model_guard){.key = run->model.regions[region].key,
                                           .region = region,
                                           .rights = pick_rights(run),
                                           .narrows = true},
                      do_restrict);
}

enum { SEVERAL = 3 };

struct call_for_several {
    struct pkeyguard_region *regions[SEVERAL];
    enum pkeyguard_rights rights[SEVERAL];
    struct pkeyguard_guard guards[SEVERAL];
    bool may_wait;
    int result;
};

static void do_acquire_several(void *argument)
{
    struct call_for_several *call = argument;

    call->result =
        call->may_wait
            ? pkeyguard_acquire_all(SEVERAL, call->regions, call->rights, call->guards)
            : pkeyguard_acquire_all_timed(SEVERAL, call->regions, call->rights, 0, call->guards);
}

/* Nothing ends a wait, because one thread runs at a time. So it waits only if it need not. */
bool acquire_several(struct run *run, int thread)
{
    struct model *model = &run->model;
    struct call_for_several call = {.result = 0};
    int regions[SEVERAL], keys[SEVERAL];
    unsigned results = SUCCESS;

    if (model->threads[thread].guard_count + SEVERAL > GUARDS || pick_region(run) == NO_REGION)
        return false;
    for (int i = 0; i < SEVERAL; i++) {
        regions[i] = pick_region(run);
        keys[i] = model->regions[regions[i]].key;
        call.regions[i] = model->regions[regions[i]].real;
        call.rights[i] = pick_rights(run);
        results |= results_of_opening(run, thread, keys[i]);
    }
    if (!leaves_enough_pkeys(run, keys, SEVERAL))
        return false;
    if (pkeys_taken(run, keys, SEVERAL) > (unsigned)__builtin_popcount(run->pool))
        results |= BUSY;
    else
        call.may_wait = chance(run, 80);
    if (!call.may_wait && results & (BUSY | AGAIN))
        results = (results & ~(unsigned)(BUSY | AGAIN)) | TIMED_OUT;
    for (int i = 0; i < SEVERAL; i++)
        history_add("region %d, key %d, rights %d; ", regions[i], keys[i], (int)call.rights[i]);
    call_on(run, thread, do_acquire_several, &call);
    expect(run, call.result, results);
    for (int i = 0; i < SEVERAL && call.result == 0; i++) {
        model_acquire(model, thread,
                      &(struct model_guard){.real = call.guards[i],
                                            .key = keys[i],
                                            .region = regions[i],
                                            .rights = call.rights[i]});
        run->guards++;
    }
    return true;
}

static void do_release(void *argument)
{
    struct call *call = argument;

    errno = ERANGE;
    pkeyguard_release(call->guard);
    call->result = errno == ERANGE ? 0 : -errno;
    pkeyguard_release(call->guard); /* no effect */
}

bool release_guard(struct run *run, int thread)
{
    struct model_thread *it = &run->model.threads[thread];
    struct call call = {.result = 0};
    unsigned i;

    if (it->guard_count == 0)
        return false;
    i = pick(run, it->guard_count);
    if (!model_may_release(&run->model, thread, i))
        return false;
    history_add("guard %u: region %d, key %d, rights %d%s", i, it->guards[i].region,
                it->guards[i].key, (int)it->guards[i].rights,
                it->guards[i].narrows ? ", a restrict" : "");
    call.guard = &it->guards[i].real;
    call_on(run, thread, do_release, &call);
    expect(run, call.result, SUCCESS);
    model_release(&run->model, thread, i);
    return true;
}
