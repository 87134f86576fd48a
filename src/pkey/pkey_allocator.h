/* SPDX-License-Identifier: MIT */
/*
 * pkey_allocator.h - gives pkeys to keys and to the pool, and takes them back
 *
 * Dedicated keys and the pool of virtual keys both take pkeys here. A new pkey from the kernel
 * comes first. An idle pkey comes second, and only if no other thread can have it open: the process
 * has one thread, or every thread has closed it. An idle pkey never goes back to the kernel,
 * because the kernel would give the same number to the next caller.
 */
#ifndef PKEY_ALLOCATOR_H
#define PKEY_ALLOCATOR_H

#include "base/lock.h"
#include "pkru/bits.h"

/* Returns 0 if the kernel may have pkeys, else the -errno that rules PKU out. Needs no lock. */
int pkeys_ruled_out(void);

/*
 * Returns a pkey for a dedicated key, 1 to 15. The caller still sets its own rights. Not for signal
 * handlers. -ENOTSUP: no PKU here. -ENOSPC: no pkey is left, or a thread may have the idle ones
 * open.
 */
int pkey_take(enum pkeyguard_rights default_rights) NEEDS_LIBRARY_LOCK;

/* Closes the pkey in the calling thread and makes it idle, because its key is destroyed. */
void pkey_retire(int pkey) NEEDS_LIBRARY_LOCK;

/*
 * Returns a pkey for the pool, 1 to 15, closed in the calling thread. Leaves the kernel its last
 * pkey, which it needs for execute-only mappings: without one it makes such a mapping readable.
 * -ENOSPC, or another -errno if the kernel has no pkeys.
 */
int pkey_take_for_pool(void) NEEDS_LIBRARY_LOCK;

/* Returns how many idle pkeys pkey_take() could give out now. */
unsigned pkeys_reusable(void) NEEDS_LIBRARY_LOCK;

#endif
