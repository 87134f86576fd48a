/* SPDX-License-Identifier: MIT */
/*
 * multiplexer.h - many virtual keys share a pool of pkeys
 *
 * A virtual key is bound to a pkey of the pool or to none; its pages carry that pkey, or they are
 * PROT_NONE. A guard pins the binding. multiplexer.c has the protocol, and why it holds.
 */
#ifndef MULTIPLEXER_H
#define MULTIPLEXER_H

#include "enforcement.h"
#include "threads.h"

/*
 * Registers the calling thread, and readies the pool if this is the first. `outside_handlers`: the
 * caller promises it, else it must be seen. 0; -ENOTSUP: no pkeys here; -ENOSYS: no membarrier(2);
 * -ENOMEM; -EAGAIN: it cannot be seen. Needs the lock.
 */
int multiplexer_register(bool outside_handlers);

/*
 * Pins the key for the calling thread, which must be registered; binds it first if it is not.
 * -EBUSY: every pkey of the pool is pinned; -EAGAIN: a thread that is not registered may have one
 * open; -ENOSPC: the pool is empty and stays so; -ENOMEM, -EACCES: the kernel refuses to change the
 * pages. Needs the lock.
 */
int multiplexer_pin(struct pkeyguard_key *key);
void multiplexer_unpin(struct pkeyguard_key *key);

/* Lets go of a key that has no pages. -EBUSY: a thread pins it. Needs the lock. */
int multiplexer_forget(struct pkeyguard_key *key);

/* Whether no other thread's pin keeps a pkey from this one; whether somebody's pin keeps each. */
bool multiplexer_pins_everything(void);
bool multiplexer_all_pinned(void);

/*
 * How to wait for a pin to be dropped: ask for it, look again whether that is still needed, wait.
 * A thread may wait that pins nothing itself, so that waiting threads never wait for one another,
 * and is not in a signal handler. The first two need the lock, the last must not have it.
 */
bool multiplexer_may_wait(void);
unsigned multiplexer_ask(void);
void multiplexer_wait(unsigned asked);

/* A pin was dropped that somebody waits for. Needs no lock. */
void multiplexer_wake(struct thread_record *own);

/*
 * Closes every virtual key in the calling thread, drops its pins, and registers it if it is not. In
 * a signal handler it only closes: what the interrupted code has open is pinned still. Takes the
 * lock to register.
 */
void multiplexer_reset(void);

/* As threads_marked_outside_handlers(), of the pool. */
bool multiplexer_marked_outside_handlers(void);

#endif
