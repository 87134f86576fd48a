/* SPDX-License-Identifier: MIT */
/* The steps that create and destroy keys, regions, threads and processes. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "history.h"
#include "observe.h"
#include "run.h"

/* PKEYS: how many the kernel certainly has. */
enum { PAGE = 4096, DEDICATED_AT_MOST = 4, PKEYS = 14 };

static int pick_prot(struct run *run)
{
    static const int prots[] = {PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ,
                                PROT_NONE};

    return prots[pick(run, sizeof(prots) / sizeof(*prots))];
}

static void do_create_key(void *argument)
{
    struct call *call = argument;

    call->result = pkeyguard_key_create(call->rights, call->flags, &call->key);
}

static enum kind kind_of(const struct run *run, unsigned flags)
{
    switch (flags) {
    case PKEYGUARD_KEY_SOFTWARE:
        return SOFTWARE;
    case PKEYGUARD_KEY_VIRTUAL:
        return run->model.pku ? VIRTUAL : SOFTWARE;
    case PKEYGUARD_KEY_OPTIONAL:
        return run->model.pku ? DEDICATED : UNENFORCED;
    default:
        return run->model.pku ? DEDICATED : SOFTWARE;
    }
}

static int free_key(const struct run *run)
{
    for (int k = 0; k < KEYS; k++) {
        if (run->model.keys[k].real == NULL)
            return k;
    }
    return NO_KEY;
}

/* Dedicated keys may take pkeys that a gate needs again. */
static bool may_create(const struct run *run, enum kind kind)
{
    unsigned dedicated = 0;

    if (kind != DEDICATED)
        return true;
    for (int k = 0; k < KEYS; k++)
        dedicated += run->model.keys[k].real != NULL && run->model.keys[k].kind == DEDICATED;
    return dedicated < DEDICATED_AT_MOST && !gate_holds_virtual_keys(run);
}

static unsigned results_of_creating(const struct run *run, const struct call *call, enum kind kind)
{
    if (call->flags == PKEYGUARD_KEY_VIRTUAL && call->rights != PKEYGUARD_NO_ACCESS)
        return INVALID;
    if (call->flags == PKEYGUARD_KEY_HARDWARE && !run->model.pku)
        return NOT_SUPPORTED;
    if (kind != DEDICATED)
        return SUCCESS;
    /* If a thread does not answer a signal in time, the pkeys of the kernel are not used. */
    if (run->signal && !model_is_alone(&run->model))
        return SUCCESS | NO_SPACE;
    return __builtin_popcount(run->seen) < PKEYS ? SUCCESS : SUCCESS | NO_SPACE;
}

/* After a dedicated key took a pkey from the virtual ones, only those still bound are certain. */
static void forget_pool(struct run *run)
{
    if (__builtin_popcount(run->seen) >= PKEYS)
        run->pool = 0;
}

bool create_key(struct run *run, int thread)
{
    static const unsigned flags[] = {0,
                                     PKEYGUARD_KEY_HARDWARE,
                                     PKEYGUARD_KEY_SOFTWARE,
                                     PKEYGUARD_KEY_OPTIONAL,
                                     PKEYGUARD_KEY_VIRTUAL,
                                     PKEYGUARD_KEY_VIRTUAL,
                                     PKEYGUARD_KEY_VIRTUAL,
                                     PKEYGUARD_KEY_VIRTUAL,
                                     PKEYGUARD_KEY_VIRTUAL,
                                     PKEYGUARD_KEY_VIRTUAL};
    struct call call = {.flags = flags[pick(run, sizeof(flags) / sizeof(*flags))],
                        .rights = PKEYGUARD_NO_ACCESS};
    enum kind kind = kind_of(run, call.flags);
    int key = free_key(run);

    if (key == NO_KEY || !may_create(run, kind))
        return false;
    if (call.flags != PKEYGUARD_KEY_VIRTUAL || chance(run, 5))
        call.rights = pick_rights(run);
    history_add("key %d, flags %u, rights %d", key, call.flags, (int)call.rights);
    call_on(run, thread, do_create_key, &call);
    expect(run, call.result, results_of_creating(run, &call, kind));
    if (kind == DEDICATED)
        forget_pool(run);
    if (call.result != 0)
        return true;
    run->model.keys[key] = (struct model_key){.real = call.key,
                                              .kind = kind,
                                              .default_rights = call.rights,
                                              .guards_only = call.flags == PKEYGUARD_KEY_VIRTUAL};
    model_key_created(&run->model, thread, key);
    return true;
}

static void do_destroy_key(void *argument)
{
    struct call *call = argument;

    call->result = pkeyguard_key_destroy(call->key);
}

static bool has_regions(const struct model *model, int key)
{
    for (int r = 0; r < REGIONS; r++) {
        if (model->regions[r].real != NULL && model->regions[r].key == key)
            return true;
    }
    return false;
}

/* True if the library must know that a guard on the key is open. */
static bool known_guarded(const struct model *model, int key)
{
    if (model->keys[key].kind == VIRTUAL)
        return model_pinned(model, key, false);
    if (model->keys[key].kind != SOFTWARE)
        return false;
    for (int t = 0; t < RECORDS; t++) {
        const struct model_thread *thread = &model->threads[t];

        for (unsigned i = 0; i < thread->guard_count; i++) {
            if (thread->guards[i].key == key && thread->guards[i].region == NO_REGION &&
                !thread->guards[i].changes_nothing)
                return true;
        }
    }
    return false;
}

bool destroy_key(struct run *run, int thread)
{
    int key = pick_key(run);
    struct call call = {.result = 0};
    bool busy;

    if (key == NO_KEY)
        return false;
    busy = has_regions(&run->model, key) || known_guarded(&run->model, key);
    if (!busy && model_key_guarded(&run->model, key))
        return false;
    call.key = run->model.keys[key].real;
    history_add("key %d", key);
    call_on(run, thread, do_destroy_key, &call);
    expect(run, call.result, busy ? BUSY : SUCCESS);
    if (!busy)
        model_key_destroyed(&run->model, key);
    return true;
}

static int free_region(const struct run *run)
{
    for (int r = 0; r < REGIONS; r++) {
        if (run->model.regions[r].real == NULL)
            return r;
    }
    return NO_REGION;
}

/* Sometimes no key: the region then has a private one. */
static int pick_key_for_region(struct run *run)
{
    return chance(run, 10) ? NO_KEY : pick_key(run);
}

static struct pkeyguard_key *real_key(const struct run *run, int key)
{
    return key == NO_KEY ? NULL : run->model.keys[key].real;
}

static void do_create_region(void *argument)
{
    struct call *call = argument;

    call->result =
        pkeyguard_region_create(call->key, call->size, call->prot, call->flags, &call->region);
}

static void add_region(struct run *run, int region, int key, const struct call *call)
{
    run->model.regions[region] = (struct model_region){
        .real = call->region,
        .address = pkeyguard_region_unsafe_address(call->region),
        .size = call->size,
        .key = key,
        .prot = call->prot,
        .end_aligned = call->flags == PKEYGUARD_REGION_END_ALIGNED,
        .adopted = call->memory,
    };
}

bool create_region(struct run *run, int thread)
{
    int region = free_region(run), key = pick_key_for_region(run);
    struct call call = {.key = real_key(run, key), .prot = pick_prot(run)};
    unsigned results = SUCCESS;

    if (region == NO_REGION)
        return false;
    call.size = chance(run, 50) ? 8 * (1 + (size_t)pick(run, 1000)) : (size_t)PAGE;
    if (chance(run, 30)) {
        call.flags = PKEYGUARD_REGION_END_ALIGNED;
        results = results_of_opening(run, thread, key);
    }
    history_add("region %d, key %d, prot %d, flags %u", region, key, call.prot, call.flags);
    call_on(run, thread, do_create_region, &call);
    expect(run, call.result, results);
    if (call.result == 0)
        add_region(run, region, key, &call);
    return true;
}

static void do_adopt(void *argument)
{
    struct call *call = argument;

    call->result =
        pkeyguard_region_adopt(call->key, call->memory, call->size, call->prot, 0, &call->region);
}

bool adopt_memory(struct run *run, int thread)
{
    int region = free_region(run), key = pick_key_for_region(run);
    struct call call = {.key = real_key(run, key), .prot = pick_prot(run), .size = PAGE};

    if (region == NO_REGION)
        return false;
    call.memory = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (call.memory == MAP_FAILED)
        abort();
    history_add("region %d, key %d, prot %d", region, key, call.prot);
    call_on(run, thread, do_adopt, &call);
    expect(run, call.result, SUCCESS);
    add_region(run, region, key, &call);
    return true;
}

static void do_destroy_region(void *argument)
{
    struct call *call = argument;

    call->result = pkeyguard_region_destroy(call->region);
}

/* Memory that was adopted is as it was before. */
static void end_region(struct model_region *region)
{
    if (region->adopted != NULL) {
        *(volatile char *)region->adopted = 1;
        munmap(region->adopted, region->size);
    }
    *region = (struct model_region){.real = NULL};
}

/*
 * A step that must not be made while a guard on the region is open, returns a set of results: 0 if
 * the library cannot know of the guard.
 */
static unsigned results_for_unguarded(const struct model *model, int region, unsigned results)
{
    if (!model_region_guarded(model, region, true))
        return results;
    if (model_kind(model, model->regions[region].key) != SOFTWARE ||
        !model_region_guarded(model, region, false))
        return 0;
    return BUSY;
}

bool destroy_region(struct run *run, int thread)
{
    int region = pick_region(run);
    struct model_region *it = &run->model.regions[region];
    struct call call = {.result = 0};
    unsigned results;

    if (region == NO_REGION)
        return false;
    results = results_for_unguarded(&run->model, region, results_of_opening(run, thread, it->key));
    if (results == 0)
        return false;
    call.region = it->real;
    history_add("region %d, key %d", region, it->key);
    call_on(run, thread, do_destroy_region, &call);
    expect(run, call.result, results);
    if (call.result == 0)
        end_region(it);
    return true;
}

static void do_associate(void *argument)
{
    struct call *call = argument;

    call->result = pkeyguard_region_associate(call->region, call->key);
}

bool associate_region(struct run *run, int thread)
{
    int region = pick_region(run), key = pick_key_for_region(run);
    struct model_region *it = &run->model.regions[region];
    struct call call = {.key = real_key(run, key)};
    unsigned results = SUCCESS;

    if (region == NO_REGION)
        return false;
    if (key != it->key)
        results = results_for_unguarded(&run->model, region, SUCCESS);
    if (results == 0)
        return false;
    call.region = it->real;
    history_add("region %d, from key %d to %d", region, it->key, key);
    call_on(run, thread, do_associate, &call);
    expect(run, call.result, results);
    if (call.result == 0)
        it->key = key;
    return true;
}

static void do_protect(void *argument)
{
    struct call *call = argument;

    call->result = pkeyguard_region_protect(call->region, call->prot);
}

bool protect_region(struct run *run, int thread)
{
    int region = pick_region(run);
    struct call call = {.prot = pick_prot(run)};

    if (region == NO_REGION)
        return false;
    call.region = run->model.regions[region].real;
    history_add("region %d, prot %d", region, call.prot);
    call_on(run, thread, do_protect, &call);
    expect(run, call.result, SUCCESS);
    run->model.regions[region].prot = call.prot;
    return true;
}

static void do_check(void *argument)
{
    struct call *call = argument;

    call->result = pkeyguard_region_check(call->region, 0, NULL);
}

/* The library itself finds the region's pages as they should be. */
bool check_region(struct run *run, int thread)
{
    int region = pick_region(run);
    struct call call = {.result = 0};

    if (region == NO_REGION)
        return false;
    call.region = run->model.regions[region].real;
    history_add("region %d", region);
    call_on(run, thread, do_check, &call);
    expect(run, call.result,
           run->model.regions[region].end_aligned
               ? results_of_opening(run, thread, run->model.regions[region].key)
               : SUCCESS);
    return true;
}

struct fork_call {
    struct run *run;
    int thread, status;
};

/* The child has only the thread that forked, which releases its guards. */
static void observe_in_child(const struct fork_call *call)
{
    struct model *model = &call->run->model;
    struct model_thread *thread = &model->threads[call->thread];
    struct observation observation = {.model = model};

    history_add(", in the child");
    model_forked(model, call->thread);
    observe(&observation);
    compare(model, call->thread, &observation);
    for (unsigned i = thread->guard_count; i-- > 0;) {
        if (!model_may_release(model, call->thread, i))
            continue;
        history_add(", release guard %u", i);
        pkeyguard_release(&thread->guards[i].real);
        model_release(model, call->thread, i);
        observe(&observation);
        compare(model, call->thread, &observation);
    }
}

static void do_fork(void *argument)
{
    struct fork_call *call = argument;
    pid_t child = fork();

    if (child < 0)
        abort();
    if (child == 0) {
        observe_in_child(call);
        _exit(0);
    }
    while (waitpid(child, &call->status, 0) != child)
        ;
}

bool fork_child(struct run *run, int thread)
{
    struct fork_call call = {.run = run, .thread = thread};

    call_on(run, thread, do_fork, &call);
    if (call.status != 0)
        history_differ("the child ended with wait status %#x", (unsigned)call.status);
    return true;
}

static void do_create_thread(void *argument)
{
    start_worker(argument);
}

/* Not while a gate will need pkeys, which the new thread may keep until it registers. */
bool create_thread(struct run *run, int thread)
{
    if (gate_holds_virtual_keys(run))
        return false;
    for (int t = 1; t < THREADS; t++) {
        if (run->model.threads[t].lives)
            continue;
        history_add("thread %d", t);
        call_on(run, thread, do_create_thread, &run->workers[t]);
        model_thread_created(&run->model, thread, t);
        return true;
    }
    return false;
}

/* Returns when the kernel has as many threads as the model. */
static void wait_for_end(const struct model *model)
{
    enum { ENTRIES_BESIDE = 2 };
    unsigned threads = ENTRIES_BESIDE;
    struct stat stat_of_tasks;

    for (int t = 0; t < THREADS; t++)
        threads += model->threads[t].lives;
    do {
        if (stat("/proc/self/task", &stat_of_tasks) != 0)
            abort();
    } while (stat_of_tasks.st_nlink != threads);
}

static bool holds_software_guards(const struct model *model, const struct model_thread *thread)
{
    for (unsigned i = 0; i < thread->guard_count; i++) {
        if (!thread->guards[i].changes_nothing &&
            !model_is_pku(model_kind(model, thread->guards[i].key)))
            return true;
    }
    return false;
}

/* Guards on software keys would stay open for good; the others end with the thread. */
bool end_thread(struct run *run, int thread)
{
    struct model_thread *it = &run->model.threads[thread];

    if (thread == 0)
        return false;
    for (unsigned i = 0; i < it->frame_count; i++) {
        if (it->frames[i].is_gate)
            return false;
    }
    if (holds_software_guards(&run->model, it) ||
        holds_software_guards(&run->model, &run->model.threads[PARKED + thread]))
        return false;
    end_worker(&run->workers[thread]);
    model_thread_ended(&run->model, thread);
    wait_for_end(&run->model);
    return true;
}
