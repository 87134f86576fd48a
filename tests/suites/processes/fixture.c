/* SPDX-License-Identifier: MIT */
/* Helpers for the files of this suite. */
#include <sched.h>
#include <stdatomic.h>

#include "test_processes.h"

struct pkeyguard_key *keys[KEYS];
struct pkeyguard_region *regions[KEYS];
struct worker other;

void make_keys(unsigned flags)
{
    for (int i = 0; i < KEYS; i++) {
        keys[i] = new_key(PKEYGUARD_NO_ACCESS, flags);
        regions[i] = new_region(keys[i]);
    }
}

void set_up_other(void)
{
    start_worker(&other);
}

void tear_down_other(void)
{
    end_worker(&other);
}

int open_every_key(int except)
{
    for (int i = 0; i < KEYS; i++) {
        struct pkeyguard_guard guard;
        int error;

        if (i == except)
            continue;
        error = pkeyguard_acquire(regions[i], PKEYGUARD_READ_WRITE, &guard);
        if (error != 0)
            return error;
        pkeyguard_release(&guard);
    }
    return 0;
}

bool reads(const struct pkeyguard_region *region)
{
    return !try_access(READ_BYTE, address_of(region)).happened;
}

bool writes(const struct pkeyguard_region *region)
{
    return !try_access(WRITE_BYTE, address_of(region)).happened;
}

static atomic_int stops; /* 1: the other thread has stopped; 2: it may go on */

void stop_here(void *address, unsigned long length)
{
    (void)address, (void)length;
    stops = 1;
    while (stops == 1)
        sched_yield();
}

void run_other_until_stop(void (*work)(void *argument), void *argument)
{
    stops = 0;
    begin_on(&other, work, argument);
    while (stops != 1)
        sched_yield();
}

void finish_other(void)
{
    stops = 2;
    wait_for(&other);
}
