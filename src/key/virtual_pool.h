/* SPDX-License-Identifier: MIT */
/*
 * virtual_pool.h - many virtual keys share a pool of pkeys
 *
 * A virtual key's pages carry a pkey of the pool, or they are PROT_NONE. Guards open the key where
 * it is bound to that pkey, and pin the binding. virtual_pool.c has the protocol, and why it holds.
 */
#ifndef VIRTUAL_POOL_H
#define VIRTUAL_POOL_H

#include "key/enforcement.h"
#include "pkey/thread_records.h"

/*
 * Registers the calling thread, and readies the pool if this is the first. `outside_handlers`: the
 * caller promises it, else it must be seen. 0; -ENOTSUP: no pkeys here; -ENOSYS: no membarrier(2);
 * -ENOMEM; -EAGAIN: it cannot be seen. Needs the lock.
 */
int virtual_pool_register_thread(bool outside_handlers);

/* A new key, with a serial of its own. As virtual_pool_register_thread(true). Needs the lock. */
int virtual_pool_add_key(struct pkeyguard_key *key);

/*
 * Pins the key for the calling thread, which must be registered; binds it first if it is not.
 * -EBUSY: every pkey of the pool is pinned; -EAGAIN: a thread that is not registered may have one
 * open; -ENOSPC: the pool is empty and stays so; -ENOMEM, -EACCES: the kernel refuses to change the
 * pages. Needs the lock.
 */
int virtual_pool_pin(struct pkeyguard_key *key);
void virtual_pool_unpin(struct pkeyguard_key *key);

/* Lets go of a key that has no pages. -EBUSY: a thread pins it. Needs the lock. */
int virtual_pool_remove_key(struct pkeyguard_key *key);

/* Whether no other thread's pin keeps a pkey from this one; whether somebody's pin keeps each. */
bool virtual_pool_all_pinned_here(void);
bool virtual_pool_all_pinned(void);

/*
 * How to wait for a pin to be dropped: ask for it, look again whether that is still needed, wait.
 * A thread may wait that pins nothing itself, so that waiting threads never wait for one another,
 * and is not in a signal handler. The first two need the lock, the last must not have it.
 */
bool virtual_wait_allowed(void);
unsigned virtual_wait_begin(void);
void virtual_wait_sleep(unsigned asked);

/* A pin was dropped that somebody waits for. Needs no lock. */
void virtual_wait_wake(struct thread_record *own);

/* Whether there ever was a virtual key here. */
bool virtual_pool_in_use(void);

/*
 * For who sets pins aside and cannot know whether the keys are there later: the pkey of the key
 * with this serial, 0 if it has none, and the other way round. What the calling thread pins stays.
 */
int virtual_pool_pkey(uint64_t serial);
uint64_t virtual_pool_serial(int pkey);

/*
 * Pins the key of this serial, so many times, for the calling thread. -ENOENT: it was destroyed; as
 * virtual_pool_register_thread() and virtual_pool_pin(). Takes the lock if the key is not bound.
 */
int virtual_pool_pin_serial(uint64_t serial, uint32_t pins);
void virtual_pool_drop_pins(int pkey, uint32_t pins);

#endif
