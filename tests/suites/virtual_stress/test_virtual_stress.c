/* SPDX-License-Identifier: MIT */
/*
 * Virtual keys under load: more threads than CPUs and more keys than pkeys, and threads that are
 * created inside scopes whose keys then lose their pkeys. At no time may a thread reach a region
 * that it has no scope on. With many keys nearly every scope takes a pkey from another key. With
 * few keys most scopes find their key bound, and begin and end while other threads look for a pkey.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

enum { KEYS = 100, THREADS = 8, PROBES = 3, CREATIONS = 30 };

/*
 * scopes: how many each thread opens. least, most: how many percent of them take a pkey from
 * another key.
 */
static const struct load {
    int keys, scopes;
    unsigned least, most;
} loads[] = {{KEYS, 200, 50, 100}, {20, 500, 2, 50}};
static struct load load;

/* A region's content: each thread writes a pattern of its own. */
struct shared {
    struct {
        uint64_t stamp, inverse, key, thread;
    } of[THREADS];
};

static struct pkeyguard_key *keys[KEYS];
static struct pkeyguard_region *regions[KEYS];
static atomic_ulong scopes, nested_guards, brief_scopes, bindings, refused, probes, created;
static atomic_int running;

static __thread sigjmp_buf *volatile after_fault;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)info, (void)context;
    if (after_fault == NULL) {
        static const char lost[] = "an access inside a scope faulted\n";

        (void)!write(STDERR_FILENO, lost, sizeof(lost) - 1);
        abort();
    }
    (void)signal;
    siglongjmp(*after_fault, 1);
}

static bool reaches(int i)
{
    sigjmp_buf here;
    volatile uint32_t pkru;
    volatile bool reached = false;

    /* Under mprotect another thread's scope opens the region for this one, too. */
    if (test_enforcement() != PKEYGUARD_PKU)
        return false;
    pkru = pkeyguard_pkru_read();
    probes++;
    if (sigsetjmp(here, 1) == 0) {
        after_fault = &here;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        (void)*(volatile char *)address_of(regions[i]);
        reached = true;
    } else {
        pkeyguard_pkru_write(pkru);
    }
    after_fault = NULL;
    return reached;
}

static void abort_with(const char *what, int i)
{
    fprintf(stderr, "%s: key %d\n", what, i);
    abort();
}

/* Here it is normal that a thread has not registered yet, or that every pkey is pinned. */
static bool open_key(int i, enum pkeyguard_rights rights, struct pkeyguard_guard *guard)
{
    bool was_bound = pkeyguard_key_number(keys[i]) > 0;
    int error = pkeyguard_acquire(regions[i], rights, guard);

    if (error != 0) {
        refused++;
        if (error != -EAGAIN && error != -EBUSY)
            abort_with(pkeyguard_strerror(error), i);
        sched_yield();
        return false;
    }
    scopes++;
    if (!was_bound)
        bindings++;
    return true;
}

/*
 * Acquires one or two guards inside another one of this key. The outer guard may be released first.
 */
static void nest_guards(int i, int me, struct pkeyguard_guard *outer, unsigned *seed)
{
    const struct shared *shared = (const void *)address_of(regions[i]);
    struct pkeyguard_guard inner, narrow;
    bool narrows = rand_r(seed) % 2;

    if (pkeyguard_acquire(regions[i], rand_r(seed) % 2 ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY,
                          &inner) != 0)
        abort_with("a second guard", i);
    nested_guards++;
    if (narrows && pkeyguard_restrict(regions[i], PKEYGUARD_READ_ONLY, &narrow) != 0)
        abort_with("a restrict guard", i);
    if (rand_r(seed) % 4 == 0)
        sched_yield();
    if (shared->of[me].inverse != ~shared->of[me].stamp && shared->of[me].stamp != 0)
        abort_with("another's pattern", i);
    if (narrows) {
        pkeyguard_release(&narrow);
    } else if (rand_r(seed) % 4 == 0) {
        pkeyguard_release(outer);
        if (reaches(i))
            abort_with("reached after the guard that opened it", i);
    }
    pkeyguard_release(&inner);
}

/*
 * Opens a brief scope on each bound key: some of them are open just when another thread evicts the
 * key.
 */
static void open_every_bound_key_briefly(void)
{
    for (int i = 0; i < load.keys; i++) {
        struct pkeyguard_guard guard;

        if (pkeyguard_key_number(keys[i]) < 0 ||
            pkeyguard_acquire(regions[i], PKEYGUARD_READ_ONLY, &guard) != 0)
            continue;
        pkeyguard_release(&guard);
        brief_scopes++;
        if (test_enforcement() == PKEYGUARD_PKU &&
            pkeyguard_key_rights(keys[i]) != PKEYGUARD_NO_ACCESS)
            abort_with("open after a brief scope", i);
    }
}

static void *use_keys(void *argument)
{
    int me = (int)(intptr_t)argument;
    unsigned seed = (unsigned)me + 1;
    uint64_t last[KEYS] = {0};

    if (pkeyguard_thread_register() != 0)
        abort_with("registering", me);
    for (int n = 1; n <= load.scopes;) {
        int i = rand_r(&seed) % load.keys;
        struct shared *shared = (void *)address_of(regions[i]);
        struct pkeyguard_guard guard;

        if (rand_r(&seed) % 2 == 0) {
            if (!open_key(i, PKEYGUARD_READ_WRITE, &guard))
                continue;
            if (shared->of[me].stamp != last[i] ||
                (last[i] != 0 &&
                 (shared->of[me].inverse != ~last[i] || shared->of[me].key != (uint64_t)i ||
                  shared->of[me].thread != (uint64_t)me)))
                abort_with("another's pattern", i);
            last[i] = (uint64_t)n;
            shared->of[me].stamp = last[i];
            if (rand_r(&seed) % 8 == 0)
                sched_yield();
            shared->of[me].inverse = ~last[i];
            shared->of[me].key = (uint64_t)i;
            shared->of[me].thread = (uint64_t)me;
        } else {
            if (!open_key(i, PKEYGUARD_READ_ONLY, &guard))
                continue;
            if (rand_r(&seed) % 8 == 0)
                sched_yield();
            if (shared->of[me].stamp != last[i])
                abort_with("another's pattern", i);
        }
        for (int probe = 0; probe < PROBES; probe++) {
            int other = rand_r(&seed) % load.keys;

            if (other != i && reaches(other))
                abort_with("reached from another key's scope", other);
        }
        if (rand_r(&seed) % 2)
            nest_guards(i, me, &guard, &seed);
        pkeyguard_release(&guard);
        if (reaches(i))
            abort_with("reached after the scope", i);
        open_every_bound_key_briefly();
        n++;
    }
    running--;
    return NULL;
}

/*
 * Runs in a thread that was created inside a scope on this key. It may reach that key until it
 * registers, and no key after that.
 */
static void *run_created_thread(void *argument)
{
    int inherited = (int)(intptr_t)argument;
    unsigned seed = (unsigned)inherited + 1000;
    struct pkeyguard_guard guard;

    for (int n = 0; n < 40; n++) {
        int i = rand_r(&seed) % load.keys;

        if (i != inherited && reaches(i))
            abort_with("reached by a new thread", i);
        if (n % 8 == 0)
            sched_yield();
    }
    if (rand_r(&seed) % 2) {
        if (pkeyguard_thread_register() != 0)
            abort_with("registering", inherited);
    } else {
        while (!open_key(rand_r(&seed) % load.keys, PKEYGUARD_READ_ONLY, &guard))
            ;
        pkeyguard_release(&guard);
    }
    for (int n = 0; n < 40; n++) {
        if (reaches(n % 2 ? inherited : rand_r(&seed) % load.keys))
            abort_with("reached after registering", inherited);
        if (n % 8 == 0)
            sched_yield();
    }
    return NULL;
}

static void *create_threads(void *argument)
{
    unsigned seed = 77;

    (void)argument;
    if (pkeyguard_thread_register() != 0)
        abort_with("registering", -1);
    while (running > 0 || created < CREATIONS) {
        int i = rand_r(&seed) % load.keys;
        struct pkeyguard_guard guard;
        pthread_t child;

        if (!open_key(i, PKEYGUARD_READ_WRITE, &guard))
            continue;
        if (pthread_create(&child, NULL, run_created_thread, (void *)(intptr_t)i) != 0)
            abort_with("creating a thread", i);
        created++;
        pkeyguard_release(&guard);
        /* Other threads evict the key meanwhile, as soon as the library lets them. */
        if (rand_r(&seed) % 2 && pthread_join(child, NULL) == 0)
            continue;
        pthread_detach(child);
        for (int n = 0; n < 50 && running > 0; n++)
            sched_yield();
    }
    return NULL;
}

START_TEST(thread_reaches_only_what_it_has_opened)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    pthread_t threads[THREADS], parent;

    load = loads[_i];
    scopes = nested_guards = brief_scopes = bindings = refused = probes = created = 0;
    for (int i = 0; i < load.keys; i++) {
        keys[i] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
        regions[i] = new_region(keys[i]);
    }
    sigaction(SIGSEGV, &action, NULL);
    running = THREADS;
    ck_assert_int_eq(pthread_create(&parent, NULL, create_threads, NULL), 0);
    for (int t = 0; t < THREADS; t++)
        ck_assert_int_eq(pthread_create(&threads[t], NULL, use_keys, (void *)(intptr_t)t), 0);
    for (int t = 0; t < THREADS; t++)
        ck_assert_int_eq(pthread_join(threads[t], NULL), 0);
    ck_assert_int_eq(pthread_join(parent, NULL), 0);
    printf("%d threads, %d keys: %lu scopes, %lu of them took a pkey from another key; "
           "%lu with guards inside, %lu brief ones; %lu times refused; "
           "%lu threads created inside a scope; %lu accesses that had to fault\n",
           THREADS, load.keys, scopes, bindings, nested_guards, brief_scopes, refused, created,
           probes);
    ck_assert_uint_ge(scopes, (unsigned long)(THREADS * load.scopes));
    if (test_enforcement() == PKEYGUARD_PKU) {
        ck_assert_uint_ge(bindings, scopes * load.least / 100);
        ck_assert_uint_le(bindings, scopes * load.most / 100);
    }
    ck_assert_uint_ge(created, CREATIONS);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtual_stress");
    TCase *tests = add_case(suite, "virtual_stress", NULL, NULL);

    tcase_add_loop_test(tests, thread_reaches_only_what_it_has_opened, 0,
                        sizeof(loads) / sizeof(*loads));
    return run_suite(suite);
}
