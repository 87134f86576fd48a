/* SPDX-License-Identifier: MIT */
/*
 * virtual_wait.h - waits until a guard on a virtual key can be acquired
 *
 * Without a deadline a thread waits only while it pins nothing, and never in a signal handler. So
 * waiting threads never wait for one another.
 */
#ifndef VIRTUAL_WAIT_H
#define VIRTUAL_WAIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "key/key.h"

/*
 * Waits after virtual_pool_pin() returned -EBUSY or -EAGAIN. True: try again. False: waiting does
 * not help, or the thread has waited a second.
 */
bool virtual_wait_for(int error);

/* The deadline that means: no limit, but wait only where the first paragraph allows it. */
#define VIRTUAL_WAIT_WHERE_SAFE UINT64_MAX

/*
 * Waits a little after virtual_pool_pin() returned -EBUSY or -EAGAIN, even if the thread pins
 * pkeys: if threads wait for one another, the deadline (in os_milliseconds()) ends that. True: try
 * again. False: *error is final; at the deadline it becomes -ETIMEDOUT.
 */
bool virtual_wait_until(int *error, uint64_t deadline);

/* Returns a thread that is not registered; 0: there is none; -1: /proc does not tell. */
pid_t virtual_wait_unregistered_thread(void);

/* The guards that one call acquires. Keys do not know regions, so the caller finds a region's. */
struct pkeyguard_region;
struct wanted_guards {
    size_t count;
    struct pkeyguard_region *const *regions;
    const enum pkeyguard_rights *rights;
    struct pkeyguard_key *(*key_of)(const struct pkeyguard_region *region);
};

/*
 * Binds and pins the virtual keys that these guards open, all or none, until virtual_drop_all().
 * Waits until the deadline as virtual_wait_until() does, or with VIRTUAL_WAIT_WHERE_SAFE until a
 * pkey is unpinned. Returns 0; -EDEADLK; -ETIMEDOUT; else as virtual_pool_register_thread(false)
 * and virtual_pool_pin().
 */
int virtual_hold_all(const struct wanted_guards *wanted, uint64_t deadline);
void virtual_drop_all(const struct wanted_guards *wanted);

#endif
