/* SPDX-License-Identifier: MIT */
/*
 * virtual_pool.h - many virtual keys share a pool of pkeys
 *
 * A virtual key is bound to a pkey of the pool, and its pages have that pkey, or its pages are
 * PROT_NONE. Guards open the key where it is bound, and pin the pkey (pin.h). virtual_pool.c has
 * the protocol, and the argument why it holds.
 */
#ifndef VIRTUAL_POOL_H
#define VIRTUAL_POOL_H

#include "key/key.h"
#include "key/pin.h"

/*
 * Registers the calling thread, and readies the pool if this is the first. `outside_handlers`: the
 * caller promises that it is in no signal handler; else the thread's stack must show that no
 * handler's return opens a pkey. Returns 0; -ENOTSUP: no pkeys here; -ENOSYS: no membarrier(2);
 * -ENOMEM; -EAGAIN: the stack does not show it.
 */
int virtual_pool_register_thread(bool outside_handlers) NEEDS_LIBRARY_LOCK;

/* A new key, with a serial of its own. Fails as virtual_pool_register_thread(true). */
int virtual_pool_add_key(struct pkeyguard_key *key) NEEDS_LIBRARY_LOCK;

/*
 * Pins the key for the calling thread, which must be registered; binds it first if it is not bound.
 * Returns 0; -EBUSY: every pkey of the pool is pinned; -EAGAIN: a thread that is not registered may
 * have one open; -ENOSPC: the pool is empty and stays empty; -ENOMEM, -EACCES: the kernel refuses
 * to change pages.
 */
int virtual_pool_pin(struct pkeyguard_key *key) NEEDS_LIBRARY_LOCK;

/* Ends a key that has no pages. -EBUSY: a thread pins it. */
int virtual_pool_remove_key(struct pkeyguard_key *key) NEEDS_LIBRARY_LOCK;

/*
 * Gives up pkeys that no virtual key needs: they are idle then. True if there was one. A dedicated
 * key asks for them when no other pkey is left.
 */
bool virtual_pool_shrink(void) NEEDS_LIBRARY_LOCK;

/* True if this thread pins the whole pool; if it pins none of it; if each pkey has some pin. */
bool virtual_pool_all_pinned_here(void) NEEDS_LIBRARY_LOCK;
bool virtual_pool_none_pinned_here(void) NEEDS_LIBRARY_LOCK;
bool virtual_pool_all_pinned(void) NEEDS_LIBRARY_LOCK;

/* True if there ever was a virtual key here. Needs no lock. */
bool virtual_pool_in_use(void);

/*
 * A coroutine that is left sets its pins aside by the serials of the keys, which may be gone when
 * it comes back. These find the pkey of a serial, 0 if it has none, and the serial of a pkey. What
 * the calling thread pins does not change meanwhile. Need no lock.
 */
int virtual_pool_pkey(uint64_t serial);
uint64_t virtual_pool_serial(int pkey);

/*
 * Pins the key of this serial, so many times. Returns 0; -ENOENT: the key was destroyed; else as
 * virtual_pool_register_thread(false) and virtual_pool_pin(). Takes the lock if the key is not
 * bound: -EDEADLK.
 */
int virtual_pool_pin_serial(uint64_t serial, uint32_t times);

/* In a fork child, which membarrier(2) does not know yet. */
void virtual_pool_forget_barrier(void) NEEDS_LIBRARY_LOCK;

#endif
