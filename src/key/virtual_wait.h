/* SPDX-License-Identifier: MIT */
/*
 * virtual_wait.h - waits until a guard on a virtual key can be had
 *
 * A thread waits only while it pins nothing, so that waiting threads never wait for one another,
 * and never in a signal handler.
 */
#ifndef VIRTUAL_WAIT_H
#define VIRTUAL_WAIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "key/key.h"

/*
 * Waits for what -EBUSY or -EAGAIN from virtual_pool_pin() reports. True: another try may succeed.
 * False: waiting does not help, or a second was not enough.
 */
bool virtual_wait_for(int error);

/* No limit of time, but only where waiting is safe: see above. */
#define VIRTUAL_WAIT_WHERE_SAFE UINT64_MAX

/*
 * Waits a little for what -EBUSY or -EAGAIN from virtual_pool_pin() reports: also where threads
 * could wait for each other, because the deadline, in os_milliseconds(), ends that. True: try
 * again. False: *error is another one, or, at the deadline, becomes -ETIMEDOUT.
 */
bool virtual_wait_until(int *error, uint64_t deadline);

/* A thread that is not registered; 0: there is none; -1: it cannot be known. */
pid_t virtual_wait_unregistered_thread(void);

/* Regions are above keys: the caller says how to find a region's key. */
struct pkeyguard_region;
typedef struct pkeyguard_key *region_key(const struct pkeyguard_region *region);

/*
 * Binds the virtual keys of these regions and pins them until virtual_drop_all(); regions of other
 * keys are left alone. All or none. It waits until the deadline, as virtual_wait_until(), or with
 * VIRTUAL_WAIT_WHERE_SAFE until a pkey is unpinned. Returns 0; -EDEADLK; -ETIMEDOUT; else as
 * virtual_pool_register_thread(false) and virtual_pool_pin().
 */
int virtual_hold_all(size_t count, struct pkeyguard_region *const regions[], region_key *key_of,
                     uint64_t deadline);
void virtual_drop_all(size_t count, struct pkeyguard_region *const regions[], region_key *key_of);

#endif
