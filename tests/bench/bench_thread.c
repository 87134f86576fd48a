/* SPDX-License-Identifier: MIT */
/* Saving and changing a thread's rights on every key. */
#include "bench.h"

#include <stdlib.h>
#include <sys/mman.h>

#include <pkeyguard.h>

static struct pkeyguard_key *key;
static struct pkeyguard_region *region;
static struct pkeyguard_thread_rights saved, opened;

static void nothing(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        __asm__ volatile("" : : : "memory");
}

static void save(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        pkeyguard_thread_save(&saved);
}

static void restore(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        pkeyguard_thread_restore(&saved);
}

/* As after a longjmp out of a scope: the guard is not released. */
static void acquire_and_restore(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct pkeyguard_guard guard;

        if (pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard) != 0)
            abort();
        pkeyguard_thread_restore(&saved);
    }
}

static void reset(unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        pkeyguard_thread_reset();
}

static void acquire_and_reset(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct pkeyguard_guard guard;

        if (pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard) != 0)
            abort();
        pkeyguard_thread_reset();
    }
}

/* Between a coroutine with the region open and one with it closed. */
static void switch_there_and_back(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (pkeyguard_thread_switch(&saved, &opened) != 0 ||
            pkeyguard_thread_switch(&opened, &saved) != 0)
            abort();
    }
}

static void set_up(void)
{
    bench_require(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE, &key) == 0,
                  "pkeyguard_key_create");
    bench_require(pkeyguard_region_create(key, 1, PROT_READ | PROT_WRITE, 0, &region) == 0,
                  "pkeyguard_region_create");
    pkeyguard_thread_save(&saved);
    pkeyguard_scoped_write (char, byte, region)
        pkeyguard_thread_save(&opened);
}

static void tear_down(void)
{
    bench_require(pkeyguard_region_destroy(region) == 0, "pkeyguard_region_destroy");
    bench_require(pkeyguard_key_destroy(key) == 0, "pkeyguard_key_destroy");
}

static const struct bench_row rows[] = {
    {"save", save, .writes = 0},
    {"restore, with nothing to change", restore, .writes = 0},
    {"acquire and restore", acquire_and_restore, .writes = 2},
    {"reset, with nothing to change", reset, .writes = 0},
    {"acquire and reset", acquire_and_reset, .writes = 2},
    {"switch there and back", switch_there_and_back, .writes = 2},
    {0},
};

const struct bench_group bench_groups[] = {
    {.name = "a thread's rights, one key",
     .unit = INSTRUCTIONS,
     .set_up = set_up,
     .tear_down = tear_down,
     .baseline = nothing,
     .rows = rows},
    {0},
};
