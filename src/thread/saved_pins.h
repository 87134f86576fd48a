/* SPDX-License-Identifier: MIT */
/*
 * saved_pins.h - saves and restores a thread's virtual keys across longjmp and coroutine switches
 *
 * A thread has open what it pins, so rights and pins are saved and restored together.
 */
#ifndef SAVED_PINS_H
#define SAVED_PINS_H

#include <stdbool.h>

#include <pkeyguard/thread.h>

#include "pkru/bits.h"

/* Saves which virtual keys the thread pins, how often, and its rights on them. */
void saved_pins_save(struct pkeyguard_thread_rights *ret_rights);

/*
 * Drops the pins taken since the save, and closes each pkey that is not pinned any more. Pins
 * dropped since are not taken again: their guards are gone. In a signal handler it changes rights
 * alone: what the interrupted code has open stays pinned.
 */
void saved_pins_restore(const struct pkeyguard_thread_rights *rights);

/*
 * Takes the saved pins, all or none, but for keys that were destroyed since. Returns 0, or -errno
 * as virtual_pool_pin_serial().
 */
int saved_pins_take(const struct pkeyguard_thread_rights *rights);

/*
 * The PKRU bits of the saved keys that exist, at the pkeys that they have now: in *ret_mask all of
 * them, and returned those that the saved rights deny.
 */
pkru_bits saved_pins_deny(const struct pkeyguard_thread_rights *rights, pkru_bits *ret_mask);

/*
 * Takes those saved pins that the thread does not have any more. It waits for pkeys as a scope
 * does, and aborts if there is none to be had. True if there were such pins.
 */
bool saved_pins_retake(const struct pkeyguard_thread_rights *rights);

/* Undoes saved_pins_take(). */
void saved_pins_drop(const struct pkeyguard_thread_rights *rights);

/*
 * Closes every virtual key and idle pkey, drops the pins, and registers the thread if it is not
 * registered, for which it takes the lock. In a signal handler it only closes the keys.
 */
void saved_pins_reset(void);

#endif
