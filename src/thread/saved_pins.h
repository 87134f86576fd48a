/* SPDX-License-Identifier: MIT */
/*
 * saved_pins.h - the calling thread's virtual keys when a jump or a switch of coroutines leaves
 * guards
 *
 * A thread has open what it pins, so rights and pins are set aside and taken back together.
 */
#ifndef SAVED_PINS_H
#define SAVED_PINS_H

#include <stdint.h>

#include <pkeyguard/thread.h>

/* Which virtual keys the thread pins, how often, and its rights on them. */
void saved_pins_save(struct pkeyguard_thread_rights *ret_rights);

/*
 * Drops the pins taken since, and closes what is not pinned any more. Pins dropped since are not
 * taken again: their guards are gone. In a signal handler it changes rights alone, for what the
 * interrupted code has open stays pinned.
 */
void saved_pins_restore(const struct pkeyguard_thread_rights *rights);

/*
 * Takes what was set aside, all or nothing, and leaves out the keys that were destroyed since.
 * 0 or -errno as virtual_pool_pin_serial(). saved_pins_deny(): their bits in PKRU, and of those the
 * ones that are set where they are pinned now. saved_pins_drop() undoes it.
 */
int saved_pins_take(const struct pkeyguard_thread_rights *rights);
uint32_t saved_pins_deny(const struct pkeyguard_thread_rights *rights, uint32_t *ret_mask);
void saved_pins_drop(const struct pkeyguard_thread_rights *rights);

/*
 * Closes every virtual key and idle pkey, drops the pins, and registers the thread if it is not. In
 * a signal handler it only closes the keys. Takes the lock to register.
 */
void saved_pins_reset(void);

#endif
