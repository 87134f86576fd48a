/* SPDX-License-Identifier: MIT */
/*
 * calls.c - makes calls in an order that a random number chooses, and compares the library with a
 * model of what each thread may read and write
 *
 *     calls SEED STEPS [RUNS]     RUNS runs of STEPS steps, with SEED, SEED + 1, ...
 *     calls --minutes MINUTES     runs with random seeds
 *
 * Each run is a process. A step is one call in one of a few threads; one step is made at a time, so
 * the seed determines the run. After each step every thread finds out what it may access. The first
 * difference ends the run: seed, step, the last steps and the difference are printed, and the exit
 * status is 1.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "history.h"
#include "observe.h"
#include "run.h"

enum { STEPS_BY_HAND = 2000, OBJECTS_AT_FIRST = 40 };

static const struct kind_of_step {
    const char *name;
    step *make;
    unsigned weight;
} kinds[] = {
    {"acquire a region", acquire_region, 40},
    {"acquire a key", acquire_key, 16},
    {"restrict", restrict_region, 12},
    {"acquire several", acquire_several, 6},
    {"release", release_guard, 70},
    {"set rights", change_rights, 4},
    {"set rights everywhere", change_rights_everywhere, 2},
    {"save", save_rights, 2},
    {"restore", restore_rights, 3},
    {"forget a save", forget_saved_rights, 1},
    {"switch coroutines", switch_coroutine, 4},
    {"enter a gate", enter_gate, 3},
    {"leave a gate", leave_gate, 6},
    {"reset", reset_thread, 2},
    {"register", register_thread, 2},
    {"try a call", try_call, 4},
    {"handle a signal", handle_signal, 4},
    {"create a key", create_key, 4},
    {"destroy a key", destroy_key, 3},
    {"create a region", create_region, 5},
    {"destroy a region", destroy_region, 4},
    {"associate", associate_region, 4},
    {"protect", protect_region, 4},
    {"adopt", adopt_memory, 1},
    {"check", check_region, 1},
    {"fork", fork_child, 1},
    {"create a thread", create_thread, 2},
    {"end a thread", end_thread, 1},
};

static const struct kind_of_step *pick_kind(struct run *run)
{
    enum { KINDS = sizeof(kinds) / sizeof(*kinds) };
    unsigned all = 0, left;

    for (int i = 0; i < KINDS; i++)
        all += kinds[i].weight;
    left = pick(run, all);
    for (int i = 0;; i++) {
        if (left < kinds[i].weight)
            return &kinds[i];
        left -= kinds[i].weight;
    }
}

static void compare_all(struct run *run)
{
    struct observation observation = {.model = &run->model};

    for (int t = 0; t < THREADS; t++) {
        if (!run->model.threads[t].lives)
            continue;
        call_on(run, t, observe, &observation);
        run->accesses += compare(&run->model, t, &observation);
    }
}

/* Returns false if the step is not possible now. */
static bool make_step(struct run *run, step *make, const char *name)
{
    int thread = pick_thread(run);

    history_step("thread %d: %s: ", thread, name);
    if (!make(run, thread))
        return false;
    note_pkeys(run);
    compare_all(run);
    return true;
}

static bool has_pku(void)
{
    struct pkeyguard_platform platform;

    if (pkeyguard_platform_probe(&platform) != 0)
        abort();
    return platform.enforcement == PKEYGUARD_PKU;
}

/* Takes some pkeys from the library, so that virtual keys have to share few. */
static void take_pkeys(struct run *run)
{
    enum { AT_MOST = 9 };

    for (unsigned n = pick(run, AT_MOST + 1); n > 0; n--) {
        long pkey = syscall(SYS_pkey_alloc, 0, PKEY_DISABLE_ACCESS);

        if (pkey > 0)
            run->seen |= 1u << pkey;
    }
}

/* PKEYGUARD_TEST_EXPECT in the environment is the enforcement that a run must have. */
static bool has_expected_enforcement(bool pku)
{
    const char *expected = getenv("PKEYGUARD_TEST_EXPECT");

    return expected == NULL || strcmp(expected, pku ? "pku" : "mprotect") == 0;
}

/* Every second run lets the library use a signal. */
static void begin(struct run *run, unsigned long seed)
{
    history_begin(seed);
    run->random = (seed + 1) * 0x9e3779b97f4a7c15u;
    run->model.pku = has_pku();
    if (!has_expected_enforcement(run->model.pku))
        history_differ("the enforcement is not the expected one");
    run->model.threads[0].lives = true;
    take_pkeys(run);
    run->signal = seed % 2 != 0;
    if (run->signal && pkeyguard_thread_use_signal(SIGURG) != 0)
        abort();
    if (pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_RECOVER) != 0)
        abort();
}

static void make_run(unsigned long seed, unsigned long steps)
{
    static struct run run;

    begin(&run, seed);
    for (unsigned long i = 0; i < OBJECTS_AT_FIRST; i++) {
        history_next_step();
        (void)make_step(&run, i % 2 == 0 ? create_key : create_region, "at first, create");
    }
    for (unsigned long i = 0; i < steps; i++) {
        const struct kind_of_step *kind;

        history_next_step();
        do
            kind = pick_kind(&run);
        while (!make_step(&run, kind->make, kind->name));
    }
    printf("seed %lu: %lu steps, %lu accesses compared, %lu guards, %lu times refused, "
           "%lu pkeys taken from another key\n",
           seed, steps, run.accesses, run.guards, run.refused, run.taken);
}

/* In a process of its own. */
static void run_seed(unsigned long seed, unsigned long steps)
{
    int status;
    pid_t child = fork();

    if (child < 0)
        abort();
    if (child == 0) {
        make_run(seed, steps);
        fflush(stdout);
        _exit(0);
    }
    if (waitpid(child, &status, 0) != child || status != 0) {
        printf("seed %lu: the run ended with wait status %#x\n", seed, (unsigned)status);
        exit(1);
    }
}

static void run_for(unsigned long minutes)
{
    time_t end = time(NULL) + (time_t)minutes * 60;
    unsigned long seed = (unsigned long)time(NULL) * 1000003, runs = 0;

    for (; time(NULL) < end; runs++)
        run_seed(seed + runs, STEPS_BY_HAND);
    printf("%lu minutes: %lu steps without a difference\n", minutes, runs * STEPS_BY_HAND);
}

int main(int count, char **words)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count == 3 && strcmp(words[1], "--minutes") == 0) {
        run_for(strtoul(words[2], NULL, 10));
    } else if (count == 3 || count == 4) {
        unsigned long seed = strtoul(words[1], NULL, 10);
        unsigned long runs = count == 4 ? strtoul(words[3], NULL, 10) : 1;

        for (unsigned long i = 0; i < runs; i++)
            run_seed(seed + i, strtoul(words[2], NULL, 10));
    } else {
        fprintf(stderr, "usage: calls SEED STEPS [RUNS] | --minutes MINUTES\n");
        return 2;
    }
    return 0;
}
