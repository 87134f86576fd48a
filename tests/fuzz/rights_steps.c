/* SPDX-License-Identifier: MIT */
/* The other steps that change what a thread may do: rights, saves, gates, tried calls, handlers. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "history.h"
#include "observe.h"
#include "run.h"

static void do_change_rights(void *argument)
{
    struct call *call = argument;

    call->result = pkeyguard_key_set_rights(call->key, call->rights);
}

static void do_change_rights_everywhere(void *argument)
{
    struct call *call = argument;

    call->result = pkeyguard_key_set_rights_everywhere(call->key, call->rights);
}

static bool holds_guard_on(const struct model_thread *thread, int key)
{
    for (unsigned i = 0; i < thread->guard_count; i++) {
        if (thread->guards[i].key == key)
            return true;
    }
    return false;
}

/* Under PKU rights that are set inside a guard must be set back before its release. */
bool change_rights(struct run *run, int thread)
{
    struct model *model = &run->model;
    struct call call = {.rights = pick_rights(run)};
    int key = pick_key(run);

    if (key == NO_KEY ||
        (model_is_pku(model->keys[key].kind) && holds_guard_on(&model->threads[thread], key)))
        return false;
    call.key = model->keys[key].real;
    history_add("key %d, rights %d", key, (int)call.rights);
    call_on(run, thread, do_change_rights, &call);
    expect(run, call.result, model->keys[key].guards_only ? INVALID : SUCCESS);
    if (call.result == 0)
        model_set_rights(model, thread, key, call.rights);
    return true;
}

bool change_rights_everywhere(struct run *run, int thread)
{
    struct model *model = &run->model;
    struct call call = {.rights = pick_rights(run)};
    int key = pick_key(run);
    unsigned results = SUCCESS;

    if (key == NO_KEY)
        return false;
    if (model->keys[key].guards_only)
        results = INVALID;
    else if (model_is_pku(model->keys[key].kind) && !model_is_alone(model))
        results = run->signal ? SUCCESS | AGAIN : AGAIN;
    call.key = model->keys[key].real;
    history_add("key %d, rights %d", key, (int)call.rights);
    call_on(run, thread, do_change_rights_everywhere, &call);
    expect(run, call.result, results);
    if (call.result == 0)
        model_set_rights_everywhere(model, key, call.rights);
    return true;
}

static void do_save(void *argument)
{
    struct call *call = argument;

    pkeyguard_thread_save(call->saved);
}

static void do_restore(void *argument)
{
    struct call *call = argument;

    pkeyguard_thread_restore(call->saved);
}

bool save_rights(struct run *run, int thread)
{
    struct call call = {.result = 0};

    if (run->model.threads[thread].frame_count == FRAMES)
        return false;
    call.saved = &model_push_frame(&run->model, thread, false)->rights;
    call_on(run, thread, do_save, &call);
    return true;
}

/* On other processors pkeyguard_thread_restore() does not leave gates. */
#ifdef __x86_64__
enum { LEAVES_GATES = 1 };
#else
enum { LEAVES_GATES = 0 };
#endif

/* As after a longjmp to the save, which leaves guards and gates. */
bool restore_rights(struct run *run, int thread)
{
    struct model_thread *it = &run->model.threads[thread];
    struct call call = {.result = 0};
    unsigned frame = it->frame_count == 0 ? 0 : pick(run, it->frame_count);

    if (it->frame_count == 0 || it->frames[frame].is_gate)
        return false;
    for (unsigned i = frame; i < it->frame_count; i++) {
        if (it->frames[i].is_gate && !LEAVES_GATES)
            return false;
    }
    history_add("frame %u of %u", frame, it->frame_count);
    call.saved = &it->frames[frame].rights;
    call_on(run, thread, do_restore, &call);
    model_restore(&run->model, thread, frame);
    return true;
}

bool forget_saved_rights(struct run *run, int thread)
{
    struct model_thread *it = &run->model.threads[thread];

    if (it->frame_count == 0 || it->frames[it->frame_count - 1].is_gate)
        return false;
    model_forget_save(&run->model, thread);
    return true;
}

struct switch_call {
    struct pkeyguard_thread_rights from;
    const struct pkeyguard_thread_rights *to;
    int result;
};

static void do_switch(void *argument)
{
    struct switch_call *call = argument;

    call->result = pkeyguard_thread_switch(&call->from, call->to);
}

/* What the switch to the thread's other coroutine may return: it takes the pkeys of its guards. */
static unsigned results_of_switching(const struct run *run, int thread)
{
    const struct model_thread *to = &run->model.threads[PARKED + thread];
    unsigned results = SUCCESS, count = 0;
    int keys[GUARDS];

    for (unsigned i = 0; i < to->guard_count; i++) {
        if (!to->guards[i].pins)
            continue;
        keys[count++] = to->guards[i].key;
        results |= results_of_opening(run, thread, to->guards[i].key);
    }
    if (count != 0 && pkeys_taken(run, keys, count) > (unsigned)__builtin_popcount(run->pool))
        results |= BUSY;
    return results;
}

/* The thread runs its other coroutine, on the same stack. Not in a gate or between save and
 * restore. */
bool switch_coroutine(struct run *run, int thread)
{
    struct switch_call call = {.to = &run->model.threads[PARKED + thread].rights};
    unsigned results = results_of_switching(run, thread);

    if (run->model.threads[thread].frame_count != 0 || gate_holds_virtual_keys(run))
        return false;
    call_on(run, thread, do_switch, &call);
    expect(run, call.result, results);
    if (call.result == 0)
        model_switch(&run->model, thread, &call.from);
    return true;
}

static void do_enter_gate(void *argument)
{
    struct call *call = argument;

    pkeyguard_closed_enter(call->gate);
}

static void do_leave_gate(void *argument)
{
    struct call *call = argument;

    pkeyguard_closed_leave(call->gate);
    pkeyguard_closed_leave(call->gate); /* no effect */
}

/*
 * Leaving the gate takes back pkeys, which is not possible while a thread is not registered.
 */
bool enter_gate(struct run *run, int thread)
{
    struct call call = {.result = 0};

    if (run->model.threads[thread].frame_count == FRAMES || !model_all_registered(&run->model))
        return false;
    call.gate = &model_push_frame(&run->model, thread, true)->gate;
    call_on(run, thread, do_enter_gate, &call);
    return true;
}

bool leave_gate(struct run *run, int thread)
{
    struct model_thread *it = &run->model.threads[thread];
    struct call call = {.result = 0};

    if (it->frame_count == 0 || !it->frames[it->frame_count - 1].is_gate)
        return false;
    for (unsigned i = 0; i < it->guard_count; i++) {
        if (it->guards[i].level == it->frame_count)
            return false;
    }
    call.gate = &it->frames[it->frame_count - 1].gate;
    call_on(run, thread, do_leave_gate, &call);
    model_leave_gate(&run->model, thread);
    return true;
}

static void do_reset(void *argument)
{
    (void)argument;
    pkeyguard_thread_reset();
}

static void do_register(void *argument)
{
    struct call *call = argument;

    call->result = pkeyguard_thread_register();
}

bool reset_thread(struct run *run, int thread)
{
    if (run->model.threads[thread].frame_count != 0)
        return false;
    call_on(run, thread, do_reset, NULL);
    model_reset(&run->model, thread);
    return true;
}

bool register_thread(struct run *run, int thread)
{
    struct call call = {.result = 0};

    call_on(run, thread, do_register, &call);
    expect(run, call.result, SUCCESS);
    model_register(&run->model, thread);
    return true;
}

/* A function for pkeyguard_try_call(). */
struct tried {
    struct pkeyguard_region *region; /* NULL: it acquires no guard */
    enum pkeyguard_rights rights;
    bool enters_gate;
    volatile char *forbidden; /* NULL: it returns */
    int acquired;             /* what pkeyguard_acquire() returned */
    struct pkeyguard_fault fault;
    int answer, result;
};

static int tried(void *argument)
{
    struct tried *tried = argument;
    struct pkeyguard_closed gate;
    struct pkeyguard_guard guard = {0};

    if (tried->region != NULL)
        tried->acquired = pkeyguard_acquire(tried->region, tried->rights, &guard);
    if (tried->enters_gate)
        pkeyguard_closed_enter(&gate);
    if (tried->forbidden != NULL)
        *tried->forbidden = 1;
    if (tried->enters_gate)
        pkeyguard_closed_leave(&gate);
    pkeyguard_release(&guard);
    return 7;
}

static void do_try_call(void *argument)
{
    struct tried *it = argument;

    it->result = pkeyguard_try_call(tried, it, &it->answer, &it->fault);
}

/* A byte of a guard page. */
static char *forbidden_byte(const struct model_region *region)
{
    return region->end_aligned ? region->address + region->size : region->address - 1;
}

/* Whatever the function does, the thread has its rights back afterwards. */
bool try_call(struct run *run, int thread)
{
    struct model *model = &run->model;
    int opened = pick_region(run), hit = pick_region(run), key;
    struct tried call = {.rights = pick_rights(run)};

    if (opened == NO_REGION || model->regions[hit].adopted != NULL)
        return false;
    key = model->regions[opened].key;
    call.enters_gate = model_all_registered(model) && chance(run, 30);
    if (chance(run, 70) && leaves_enough_pkeys(run, &key, 1))
        call.region = model->regions[opened].real;
    if (chance(run, 70))
        call.forbidden = forbidden_byte(&model->regions[hit]);
    history_add("opens region %d, rights %d%s%s", call.region == NULL ? NO_REGION : opened,
                (int)call.rights, call.enters_gate ? ", enters a gate" : "",
                call.forbidden == NULL ? "" : ", faults");
    call_on(run, thread, do_try_call, &call);
    history_add(" -> %d", call.result);
    if (call.forbidden == NULL && (call.result != 0 || call.answer != 7))
        history_differ("a tried call did not return");
    if (call.forbidden != NULL &&
        (call.result != -EFAULT || call.fault.kind != PKEYGUARD_FAULT_GUARD_PAGE ||
         call.fault.address != call.forbidden))
        history_differ("a tried call: kind %d, address %p, not %p", (int)call.fault.kind,
                       call.fault.address, (const void *)call.forbidden);
    if (call.region != NULL && call.acquired == 0 && call.rights != PKEYGUARD_NO_ACCESS &&
        model_kind(model, key) == VIRTUAL) {
        model_register(model, thread);
        model->virtual_used = true;
    }
    return true;
}

/* A signal handler of one thread, while the others wait. */
static struct handler_call {
    struct model model; /* as the handler should find it */
    int thread;
    struct model_guard guard;
    int result;
} handler_call;

static void observe_in_handler(void)
{
    struct observation observation = {.model = &handler_call.model};

    observe(&observation);
    compare(&handler_call.model, handler_call.thread, &observation);
}

static void handle(int signal)
{
    struct model *model = &handler_call.model;
    struct model_thread *thread = &model->threads[handler_call.thread];
    struct model_guard guard = handler_call.guard;

    (void)signal;
    history_add(", in the handler");
    observe_in_handler();
    handler_call.result =
        pkeyguard_acquire(model->regions[guard.region].real, guard.rights, &guard.real);
    history_add(" -> %d", handler_call.result);
    if (handler_call.result != 0)
        return;
    model_acquire(model, handler_call.thread, &guard);
    observe_in_handler();
    history_add(", release");
    pkeyguard_release(&thread->guards[thread->guard_count - 1].real);
    model_release(model, handler_call.thread, thread->guard_count - 1);
    observe_in_handler();
}

static void do_raise(void *argument)
{
    (void)argument;
    raise(SIGUSR1);
}

/* A handler starts with every pkey closed, and what it opens is closed when it returns. */
bool handle_signal(struct run *run, int thread)
{
    int region = pick_region(run), key;
    unsigned results;

    if (region == NO_REGION || run->model.threads[thread].guard_count == GUARDS)
        return false;
    key = run->model.regions[region].key;
    if (!leaves_enough_pkeys(run, &key, 1))
        return false;
    results = results_of_opening(run, thread, key);
    handler_call.model = run->model;
    handler_call.thread = thread;
    handler_call.guard =
        (struct model_guard){.key = key, .region = region, .rights = pick_rights(run)};
    memset(handler_call.model.threads[thread].denied, DENY_ALL, KEYS);
    memset(handler_call.model.threads[thread].inherited, 0, KEYS);
    history_add("opens region %d, key %d, rights %d", region, key, (int)handler_call.guard.rights);
    signal(SIGUSR1, handle);
    call_on(run, thread, do_raise, NULL);
    expect(run, handler_call.result, results);
    if (handler_call.result == 0 && handler_call.guard.rights != PKEYGUARD_NO_ACCESS &&
        model_kind(&run->model, key) == VIRTUAL) {
        model_register(&run->model, thread);
        run->model.virtual_used = true;
    }
    return true;
}
