/* SPDX-License-Identifier: MIT */
/*
 * saved_pins.h - saves and restores a thread's virtual keys across longjmp and coroutine switches
 *
 * Rights on a virtual key depend on a pin, so rights and pins are saved and restored together.
 */
#ifndef SAVED_PINS_H
#define SAVED_PINS_H

#include <stdbool.h>

#include <pkeyguard/thread.h>

#include "pkru/bits.h"

/* Saves which virtual keys the thread pins, how many times, and its rights on them. */
void saved_pins_save(struct pkeyguard_thread_rights *ret_rights);

/*
 * Drops the pins taken since the save, and closes each pkey that the thread no longer pins. Does
 * not renew pins that were dropped since, because their guards were released. In a signal handler
 * it changes only rights, because the interrupted code still needs its pins.
 */
void saved_pins_restore(const struct pkeyguard_thread_rights *rights);

/*
 * Takes all of the saved pins or none; skips keys that were destroyed since. Returns 0, or -errno
 * as virtual_pool_pin_serial().
 */
int saved_pins_take(const struct pkeyguard_thread_rights *rights);

/*
 * Returns the PKRU bits that the saved rights deny, at the pkeys that the saved keys have now.
 * *ret_mask gets all bits of these pkeys. Skips keys that were destroyed since.
 */
pkru_bits saved_pins_deny(const struct pkeyguard_thread_rights *rights, pkru_bits *ret_mask);

/*
 * Takes the saved pins that the thread no longer has. Waits for pkeys as a scope does, and aborts
 * if it cannot get one. Returns true if there were such pins.
 */
bool saved_pins_retake(const struct pkeyguard_thread_rights *rights);

/* Undoes saved_pins_take(). */
void saved_pins_drop(const struct pkeyguard_thread_rights *rights);

/*
 * Closes every virtual key and every idle pkey, and drops the pins. If the thread is not registered
 * it takes the lock and registers it. In a signal handler it only closes the keys.
 */
void saved_pins_reset(void);

#endif
