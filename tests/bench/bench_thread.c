/* SPDX-License-Identifier: MIT */
/* Saving, restoring, resetting and switching a thread's rights. */
#include "bench.h"

#include <stdlib.h>
#include <sys/mman.h>

#include <pkeyguard.h>

static struct pkeyguard_key *key, *other_key;
static struct pkeyguard_region *region, *other;
static struct pkeyguard_thread_rights saved, opened;

static void do_nothing(unsigned count)
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

/* Never releases the guard, like a longjmp out of a scope. */
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

/* Switches to a coroutine that has the region open, and back to one that has it closed. */
static void switch_there_and_back(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (pkeyguard_thread_switch(&saved, &opened) != 0 ||
            pkeyguard_thread_switch(&opened, &saved) != 0)
            abort();
    }
}

static void create(unsigned flags, struct pkeyguard_key **ret_key,
                   struct pkeyguard_region **ret_region)
{
    bench_require(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, flags, ret_key) == 0,
                  "pkeyguard_key_create");
    bench_require(pkeyguard_region_create(*ret_key, 1, PROT_READ | PROT_WRITE, 0, ret_region) == 0,
                  "pkeyguard_region_create");
}

static void destroy(struct pkeyguard_key *to_destroy, struct pkeyguard_region *of_key)
{
    bench_require(pkeyguard_region_destroy(of_key) == 0, "pkeyguard_region_destroy");
    bench_require(pkeyguard_key_destroy(to_destroy) == 0, "pkeyguard_key_destroy");
}

/* Two keys: `saved` gets rights with both closed, `opened` with the key of region open. */
static void set_up_with(unsigned flags)
{
    create(flags, &key, &region);
    create(flags, &other_key, &other);
    pkeyguard_scoped_write (char, byte, other)
        *byte = 1;
    pkeyguard_thread_save(&saved);
    pkeyguard_scoped_write (char, byte, region)
        pkeyguard_thread_save(&opened);
}

static void set_up(void)
{
    set_up_with(PKEYGUARD_KEY_HARDWARE);
}

static void set_up_virtual(void)
{
    set_up_with(PKEYGUARD_KEY_VIRTUAL);
}

static void tear_down(void)
{
    destroy(key, region);
    destroy(other_key, other);
}

static const struct bench_row rows[] = {
    {"save", save, .writes = 0},
    {"restore that changes nothing", restore, .writes = 0},
    {"acquire and restore", acquire_and_restore, .writes = 2},
    {"reset that changes nothing", reset, .writes = 0},
    {"acquire and reset", acquire_and_reset, .writes = 2},
    {"switch there and back", switch_there_and_back, .writes = 2},
    {0},
};

const struct bench_group bench_groups[] = {
    {.name = "rights of a thread, two dedicated keys",
     .unit = INSTRUCTIONS,
     .set_up = set_up,
     .tear_down = tear_down,
     .baseline = do_nothing,
     .rows = rows},
    {.name = "rights of a thread, two virtual keys",
     .unit = INSTRUCTIONS,
     .set_up = set_up_virtual,
     .tear_down = tear_down,
     .baseline = do_nothing,
     .rows = rows},
    {0},
};
