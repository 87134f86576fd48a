/* SPDX-License-Identifier: MIT */
#include "model.h"

#include <string.h>
#include <sys/mman.h>

static enum pkeyguard_rights wider(enum pkeyguard_rights a, enum pkeyguard_rights b)
{
    return a > b ? a : b;
}

static enum pkeyguard_rights narrower(enum pkeyguard_rights a, enum pkeyguard_rights b)
{
    return a < b ? a : b;
}

static unsigned char deny_for(enum pkeyguard_rights rights)
{
    if (rights == PKEYGUARD_READ_WRITE)
        return 0;
    return rights == PKEYGUARD_READ_ONLY ? DENY_WRITE : DENY_BOTH;
}

static enum pkeyguard_rights rights_of(unsigned char denied)
{
    if (denied & DENY_ALL)
        return PKEYGUARD_NO_ACCESS;
    return denied & DENY_WRITE ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE;
}

bool model_is_pku(enum kind kind)
{
    return kind == DEDICATED || kind == VIRTUAL;
}

enum kind model_kind(const struct model *model, int key)
{
    return key == NO_KEY ? SOFTWARE : model->keys[key].kind;
}

/* False while a gate that was entered after the guard has closed it. */
static bool counts(const struct model_thread *thread, const struct model_guard *guard)
{
    for (unsigned i = guard->level; i < thread->frame_count; i++) {
        if (thread->frames[i].is_gate)
            return false;
    }
    return true;
}

/* The widest rights of the open guards on a software region; of the key for NO_REGION. */
static enum pkeyguard_rights widest(const struct model *model, int key, int region)
{
    enum pkeyguard_rights rights = PKEYGUARD_NO_ACCESS;

    for (int t = 0; t < RECORDS; t++) {
        const struct model_thread *thread = &model->threads[t];

        for (unsigned i = 0; i < thread->guard_count; i++) {
            const struct model_guard *guard = &thread->guards[i];

            if (guard->region == region && (region != NO_REGION || guard->key == key) &&
                !guard->narrows && counts(thread, guard))
                rights = wider(rights, guard->rights);
        }
    }
    return rights;
}

/* The narrowest rights of the restrict guards on a software region. */
static enum pkeyguard_rights limit(const struct model *model, int region)
{
    enum pkeyguard_rights rights = PKEYGUARD_READ_WRITE;

    for (int t = 0; t < RECORDS; t++) {
        const struct model_thread *thread = &model->threads[t];

        for (unsigned i = 0; i < thread->guard_count; i++) {
            const struct model_guard *guard = &thread->guards[i];

            if (guard->region == region && guard->narrows && counts(thread, guard))
                rights = narrower(rights, guard->rights);
        }
    }
    return rights;
}

enum pkeyguard_rights model_rights(const struct model *model, int thread, int key)
{
    switch (model_kind(model, key)) {
    case UNENFORCED:
        return PKEYGUARD_READ_WRITE;
    case SOFTWARE:
        return key == NO_KEY ? PKEYGUARD_NO_ACCESS
                             : wider(model->keys[key].base, widest(model, key, NO_REGION));
    default:
        return rights_of(model->threads[thread].denied[key]);
    }
}

struct access_rights model_access(const struct model *model, int thread, int region)
{
    const struct model_region *it = &model->regions[region];
    enum pkeyguard_rights rights = model_rights(model, thread, it->key);

    if (model_kind(model, it->key) == SOFTWARE) {
        enum pkeyguard_rights base =
            it->key == NO_KEY ? PKEYGUARD_NO_ACCESS : model->keys[it->key].base;

        rights = narrower(base, limit(model, region));
        rights = wider(rights, widest(model, it->key, region));
        if (it->key != NO_KEY)
            rights = wider(rights, widest(model, it->key, NO_REGION));
    }
    return (struct access_rights){
        .read = rights >= PKEYGUARD_READ_ONLY && (it->prot & (PROT_READ | PROT_WRITE)) != 0,
        .write = rights == PKEYGUARD_READ_WRITE && (it->prot & PROT_WRITE) != 0,
    };
}

static void forget_key(struct model *model, int key)
{
    for (int t = 0; t < RECORDS; t++) {
        struct model_thread *thread = &model->threads[t];

        thread->denied[key] = DENY_ALL;
        thread->inherited[key] = thread->knows[key] = false;
        for (unsigned i = 0; i < thread->frame_count; i++)
            thread->frames[i].knows[key] = false;
    }
}

void model_key_created(struct model *model, int thread, int key)
{
    struct model_key *it = &model->keys[key];

    forget_key(model, key);
    it->base = it->default_rights;
    if (it->kind == DEDICATED)
        model->threads[thread].denied[key] = deny_for(it->default_rights);
    if (it->kind == VIRTUAL)
        model_register(model, thread);
}

void model_key_destroyed(struct model *model, int key)
{
    forget_key(model, key);
    model->keys[key] = (struct model_key){0};
}

static unsigned char widened(unsigned char denied, enum pkeyguard_rights rights)
{
    if (rights == PKEYGUARD_READ_WRITE)
        return 0;
    return denied & DENY_ALL ? DENY_WRITE : denied;
}

static unsigned char narrowed(unsigned char denied, enum pkeyguard_rights rights)
{
    return denied & DENY_ALL ? denied : denied | deny_for(rights);
}

void model_acquire(struct model *model, int thread, const struct model_guard *guard)
{
    struct model_thread *it = &model->threads[thread];
    struct model_guard *added = &it->guards[it->guard_count++];
    enum kind kind = model_kind(model, guard->key);
    unsigned char before, after;

    *added = *guard;
    added->level = it->frame_count;
    added->changes_nothing =
        kind == UNENFORCED ||
        guard->rights == (guard->narrows ? PKEYGUARD_READ_WRITE : PKEYGUARD_NO_ACCESS);
    if (added->changes_nothing || !model_is_pku(kind))
        return;
    if (kind == VIRTUAL &&
        (!guard->narrows || model_rights(model, thread, guard->key) > guard->rights))
        model_register(model, thread);
    before = it->denied[guard->key];
    after = guard->narrows ? narrowed(before, guard->rights) : widened(before, guard->rights);
    added->cleared = before & (unsigned char)~after;
    added->set = after & (unsigned char)~before;
    added->pins = kind == VIRTUAL && (!guard->narrows || added->set != 0);
    if (added->pins)
        model->virtual_used = true;
    it->denied[guard->key] = after;
}

/* Restrict guards on a key are released last in, first out. */
bool model_may_release(const struct model *model, int thread, unsigned guard)
{
    const struct model_thread *it = &model->threads[thread];
    const struct model_guard *released = &it->guards[guard];

    if (released->level != it->frame_count)
        return false;
    if (released->changes_nothing)
        return true;
    for (unsigned i = guard + 1; i < it->guard_count; i++) {
        const struct model_guard *later = &it->guards[i];

        if (later->key == released->key && !later->changes_nothing &&
            (later->narrows || released->narrows) &&
            (later->key != NO_KEY || later->region == released->region))
            return false;
    }
    return true;
}

void model_forget_guard(struct model *model, int thread, unsigned guard)
{
    struct model_thread *it = &model->threads[thread];

    it->guard_count--;
    memmove(&it->guards[guard], &it->guards[guard + 1],
            (it->guard_count - guard) * sizeof(it->guards[0]));
}

void model_release(struct model *model, int thread, unsigned guard)
{
    struct model_thread *it = &model->threads[thread];
    const struct model_guard *released = &it->guards[guard];

    if (released->cleared != 0 || released->set != 0) {
        unsigned char *denied = &it->denied[released->key];

        *denied = (unsigned char)((*denied & ~released->set) | released->cleared);
    }
    model_forget_guard(model, thread, guard);
}

void model_set_rights(struct model *model, int thread, int key, enum pkeyguard_rights rights)
{
    if (model_is_pku(model->keys[key].kind))
        model->threads[thread].denied[key] = deny_for(rights);
    else
        model->keys[key].base = rights;
}

/* What was saved before does not come back. */
void model_set_rights_everywhere(struct model *model, int key, enum pkeyguard_rights rights)
{
    for (int t = 0; t < RECORDS; t++) {
        struct model_thread *thread = &model->threads[t];

        model_set_rights(model, t, key, rights);
        for (unsigned i = 0; i < thread->frame_count; i++)
            thread->frames[i].denied[key] = deny_for(rights);
    }
}

static void close_inherited(struct model *model, int thread)
{
    struct model_thread *it = &model->threads[thread];

    for (int k = 0; k < KEYS; k++) {
        if (it->inherited[k])
            it->denied[k] = DENY_BOTH;
        it->inherited[k] = false;
    }
}

void model_register(struct model *model, int thread)
{
    if (!model->threads[thread].registered)
        close_inherited(model, thread);
    model->threads[thread].registered = true;
}

/* Guards under mprotect stay open. */
static void drop_pku_guards(struct model *model, int thread, unsigned from_level)
{
    struct model_thread *it = &model->threads[thread];

    for (unsigned i = it->guard_count; i-- > 0;) {
        struct model_guard *guard = &it->guards[i];

        if (guard->level < from_level)
            continue;
        if (guard->changes_nothing || model_is_pku(model_kind(model, guard->key)))
            model_forget_guard(model, thread, i);
    }
}

void model_reset(struct model *model, int thread)
{
    struct model_thread *it = &model->threads[thread];

    drop_pku_guards(model, thread, 0);
    for (int k = 0; k < KEYS; k++) {
        if (model->keys[k].real == NULL)
            continue;
        if (model->keys[k].kind == DEDICATED)
            it->denied[k] = deny_for(model->keys[k].default_rights);
        if (model->keys[k].kind == VIRTUAL)
            it->denied[k] = DENY_BOTH;
        it->inherited[k] = false;
    }
    if (model->virtual_used)
        model_register(model, thread);
}

struct model_frame *model_push_frame(struct model *model, int thread, bool is_gate)
{
    struct model_thread *it = &model->threads[thread];
    struct model_frame *frame = &it->frames[it->frame_count++];

    frame->is_gate = is_gate;
    memcpy(frame->denied, it->denied, sizeof(frame->denied));
    memcpy(frame->inherited, it->inherited, sizeof(frame->inherited));
    for (int k = 0; k < KEYS; k++) {
        frame->knows[k] = model->keys[k].real != NULL;
        if (is_gate) {
            it->denied[k] = DENY_BOTH;
            it->inherited[k] = false;
        }
    }
    return frame;
}

/* Brings back what was saved. A virtual key comes back only if a guard still has it open. */
static void bring_back(struct model *model, int thread, const struct model_frame *frame)
{
    struct model_thread *it = &model->threads[thread];

    for (int k = 0; k < KEYS; k++) {
        if (model->keys[k].kind == VIRTUAL) {
            if (frame->knows[k] && frame->inherited[k] && !it->registered) {
                it->denied[k] = frame->denied[k];
                it->inherited[k] = true;
            } else if (!it->inherited[k]) {
                it->denied[k] = frame->knows[k] && model_pinned_by(model, thread, k, false)
                                    ? frame->denied[k]
                                    : DENY_BOTH;
            }
        } else if (frame->knows[k]) {
            it->denied[k] = frame->denied[k];
        }
    }
}

void model_leave_gate(struct model *model, int thread)
{
    struct model_thread *it = &model->threads[thread];
    const struct model_frame *frame = &it->frames[--it->frame_count];

    bring_back(model, thread, frame);
}

void model_forget_save(struct model *model, int thread)
{
    struct model_thread *it = &model->threads[thread];

    it->frame_count--;
    for (unsigned i = 0; i < it->guard_count; i++) {
        if (it->guards[i].level > it->frame_count)
            it->guards[i].level = it->frame_count;
    }
}

void model_restore(struct model *model, int thread, unsigned frame)
{
    struct model_thread *it = &model->threads[thread];

    drop_pku_guards(model, thread, frame + 1);
    for (unsigned i = 0; i < it->guard_count; i++) {
        if (it->guards[i].level > frame)
            it->guards[i].level = frame;
    }
    it->frame_count = frame;
    bring_back(model, thread, &it->frames[frame]);
}

/* A virtual key is open if the coroutine's own guards keep it open. */
static unsigned char denied_after_switch(const struct model *model, int thread, int key)
{
    const struct model_thread *it = &model->threads[thread];

    if (model->keys[key].kind == VIRTUAL)
        return it->knows[key] && model_pinned_by(model, thread, key, false) ? it->denied[key]
                                                                            : DENY_BOTH;
    return it->knows[key] ? it->denied[key] : deny_for(model->keys[key].default_rights);
}

void model_switch(struct model *model, int thread, const struct pkeyguard_thread_rights *from)
{
    struct model_thread *it = &model->threads[thread], *parked = &model->threads[PARKED + thread];
    struct model_thread stops = *it;

    *it = *parked;
    it->lives = true;
    it->registered = stops.registered;
    *parked = stops;
    parked->lives = false;
    parked->rights = *from;
    for (int k = 0; k < KEYS; k++) {
        bool exists = model->keys[k].real != NULL;

        if (exists && !stops.inherited[k])
            it->denied[k] = denied_after_switch(model, thread, k);
        it->inherited[k] = parked->inherited[k];
        if (it->inherited[k])
            it->denied[k] = stops.denied[k];
        parked->inherited[k] = false;
        parked->knows[k] = exists;
    }
}

void model_thread_created(struct model *model, int creator, int thread)
{
    struct model_thread *added = &model->threads[thread];

    *added = (struct model_thread){.lives = true};
    for (int k = 0; k < KEYS; k++) {
        added->denied[k] = model->threads[creator].denied[k];
        added->inherited[k] =
            model->keys[k].kind == VIRTUAL && rights_of(added->denied[k]) != PKEYGUARD_NO_ACCESS;
    }
}

void model_thread_ended(struct model *model, int thread)
{
    model->threads[thread] = (struct model_thread){.lives = false};
    model->threads[PARKED + thread] = (struct model_thread){.lives = false};
}

void model_forked(struct model *model, int thread)
{
    for (int t = 0; t < THREADS; t++) {
        if (t != thread)
            model_thread_ended(model, t);
    }
}

bool model_key_guarded(const struct model *model, int key)
{
    for (int t = 0; t < RECORDS; t++) {
        for (unsigned i = 0; i < model->threads[t].guard_count; i++) {
            if (model->threads[t].guards[i].key == key)
                return true;
        }
    }
    return false;
}

bool model_region_guarded(const struct model *model, int region, bool empty_too)
{
    for (int t = 0; t < RECORDS; t++) {
        for (unsigned i = 0; i < model->threads[t].guard_count; i++) {
            const struct model_guard *guard = &model->threads[t].guards[i];

            if (guard->region == region && (empty_too || !guard->changes_nothing))
                return true;
        }
    }
    return false;
}

bool model_pinned_by(const struct model *model, int thread, int key, bool gated)
{
    const struct model_thread *it = &model->threads[thread];

    for (unsigned i = 0; i < it->guard_count; i++) {
        const struct model_guard *guard = &it->guards[i];

        if (guard->key == key && guard->pins && (gated || counts(it, guard)))
            return true;
    }
    return false;
}

bool model_pinned(const struct model *model, int key, bool gated)
{
    for (int t = 0; t < THREADS; t++) {
        if (model_pinned_by(model, t, key, gated))
            return true;
    }
    return false;
}

bool model_all_registered(const struct model *model)
{
    for (int t = 0; t < THREADS; t++) {
        if (model->threads[t].lives && !model->threads[t].registered)
            return false;
    }
    return true;
}

bool model_is_alone(const struct model *model)
{
    unsigned threads = 0;

    for (int t = 0; t < THREADS; t++)
        threads += model->threads[t].lives;
    return threads == 1;
}
