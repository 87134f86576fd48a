/* SPDX-License-Identifier: MIT */
/*
 * revocation.h - closes pkeys in every thread of the process, by a signal
 *
 * It works only where the program has chosen a signal for it.
 */
#ifndef REVOCATION_H
#define REVOCATION_H

#include <stdbool.h>

#include "base/lock.h"
#include "pkru/bits.h"

/* True if a program can handle this signal and nothing else depends on it. Needs no lock. */
bool revocation_may_use(int signal);

/* Chooses the signal. -EBUSY: it has a handler or is ignored, or another one was chosen before. */
int revocation_use(int signal) NEEDS_LIBRARY_LOCK;

/* True if a signal was chosen and the program has not taken it back. */
bool revocation_allowed(void) NEEDS_LIBRARY_LOCK;

/*
 * Closes these pkeys, given by their bits in PKRU, in every thread: AD alone, as the kernel gives a
 * new pkey to threads that are there already. The caller is not in a signal handler. No thread may
 * be able to open one of the pkeys unless it has it open already. Returns 0; -EAGAIN: some thread
 * may have them open still.
 */
int revoke_everywhere(pkru_bits bits) NEEDS_LIBRARY_LOCK;

/* In a fork child, which no signal has stopped. */
void revocation_forget_round(void) NEEDS_LIBRARY_LOCK;

#endif
