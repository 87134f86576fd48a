/* SPDX-License-Identifier: MIT */
/*
 * virtual_pool.h - many virtual keys share a pool of pkeys
 *
 * A virtual key either is bound to a pkey of the pool, which its pages have, or its pages are
 * PROT_NONE. A guard opens the pkey that the key is bound to, and pins it (pin.h). virtual_pool.c
 * has the protocol and its proof.
 */
#ifndef VIRTUAL_POOL_H
#define VIRTUAL_POOL_H

#include "key/key.h"
#include "key/pin.h"

/*
 * Registers the calling thread. The first call also prepares the pool. With `outside_handlers` the
 * caller promises that it is not in a signal handler. Without it, the thread's stack must show that
 * no return from a handler opens a pkey. Returns 0; -ENOTSUP: the machine has no pkeys; -ENOSYS:
 * the kernel has no membarrier(2); -ENOMEM; -EAGAIN: the stack does not show it.
 */
int virtual_pool_register_thread(bool outside_handlers) NEEDS_LIBRARY_LOCK;

/* Adds a new key and gives it its serial. Fails as virtual_pool_register_thread(true). */
int virtual_pool_add_key(struct pkeyguard_key *key) NEEDS_LIBRARY_LOCK;

/*
 * Pins the key for the calling thread, which is registered. Binds the key first if needed. Returns
 * 0; -EBUSY: every pkey of the pool is pinned; -EAGAIN: an unregistered thread may have one open;
 * -ENOSPC: the pool is empty and cannot grow; -ENOMEM, -EACCES: the kernel refuses to change pages.
 */
int virtual_pool_pin(struct pkeyguard_key *key) NEEDS_LIBRARY_LOCK;

/* Ends a key that has no pages. -EBUSY: a thread pins it. */
int virtual_pool_remove_key(struct pkeyguard_key *key) NEEDS_LIBRARY_LOCK;

/*
 * Makes those pkeys idle that no virtual key needs. Returns true if there was one. A dedicated key
 * asks for this when no other pkey is left.
 */
bool virtual_pool_shrink(void) NEEDS_LIBRARY_LOCK;

/*
 * True if: this thread pins the whole pool; this thread pins no pkey of it; every pkey of it is
 * pinned.
 */
bool virtual_pool_all_pinned_here(void) NEEDS_LIBRARY_LOCK;
bool virtual_pool_none_pinned_here(void) NEEDS_LIBRARY_LOCK;
bool virtual_pool_all_pinned(void) NEEDS_LIBRARY_LOCK;

/* True if the process ever made a virtual key. Needs no lock. */
bool virtual_pool_in_use(void);

/*
 * A suspended coroutine stores its pins as serials of keys, because a key may be destroyed before
 * the coroutine is resumed. virtual_pool_pkey() returns the pkey of a serial, or 0.
 * virtual_pool_serial() returns the serial of a pkey. The answers stay true for pkeys that the
 * calling thread pins. They need no lock.
 */
int virtual_pool_pkey(uint64_t serial);
uint64_t virtual_pool_serial(int pkey);

/*
 * Pins the key with this serial, so many times. Returns 0; -ENOENT: the key was destroyed; else as
 * virtual_pool_register_thread(false) and virtual_pool_pin(). If the key is not bound it takes the
 * lock: -EDEADLK.
 */
int virtual_pool_pin_serial(uint64_t serial, uint32_t times);

/* Runs in a fork child, which is not registered for membarrier(2) yet. Another thread of the parent
 * may have been changing the pool. */
void virtual_pool_forget_parent(void) NEEDS_LIBRARY_LOCK;

#endif
