/* SPDX-License-Identifier: MIT */
/*
 * pkey_allocator.h - where pkeys come from and go to
 *
 * Dedicated keys and the pool of virtual keys both ask here. A pkey that the kernel has never given
 * to this process comes first, an idle one after that, and only when no other thread can have it
 * open: the process has one thread, or every thread was seen to have closed it. Such a pkey is
 * never given back to the kernel, which would hand the same number to the next caller.
 */
#ifndef PKEY_ALLOCATOR_H
#define PKEY_ALLOCATOR_H

#include "base/lock.h"
#include "pkru/bits.h"

/* The -errno that rules PKU out before the kernel is asked for a pkey, or 0. Needs no lock. */
int pkeys_ruled_out(void);

/*
 * A pkey for a dedicated key, which has the calling thread's rights still to be set. Not in signal
 * handlers. Returns 1 to 15; -ENOTSUP: no PKU here; -ENOSPC: no pkey left, or only idle ones that
 * some thread may have open.
 */
int pkey_take(enum pkeyguard_rights default_rights) NEEDS_LIBRARY_LOCK;

/* Its key is destroyed: the pkey is closed in the calling thread, and idle. */
void pkey_retire(int pkey) NEEDS_LIBRARY_LOCK;

/*
 * A pkey for the pool, closed in the calling thread. The kernel's last one stays with the kernel:
 * it takes that for an execute-only mapping, and makes such a mapping readable when there is none.
 * Returns 1 to 15; -ENOSPC; another -errno where the kernel has no pkeys.
 */
int pkey_take_for_pool(void) NEEDS_LIBRARY_LOCK;

/* The number of idle pkeys that pkey_take() could hand out now. */
unsigned pkeys_reusable(void) NEEDS_LIBRARY_LOCK;

#endif
