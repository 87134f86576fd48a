/* SPDX-License-Identifier: MIT */
/*
 * revocation.h - changes rights in every thread of the process at once, by a signal
 *
 * It works only if the program has chosen a signal for it (signal_round.h). The caller is not in a
 * signal handler.
 */
#ifndef REVOCATION_H
#define REVOCATION_H

#include "base/lock.h"
#include "pkru/bits.h"

/*
 * Closes these pkeys, given by their bits in PKRU, in every thread: AD alone, as the kernel gives a
 * new pkey to threads that are there already. No thread may be able to open one of the pkeys unless
 * it has it open already. Returns 0; -EAGAIN: some thread may have them open still.
 */
int revoke_everywhere(pkru_bits bits) NEEDS_LIBRARY_LOCK;

/*
 * In every other thread: of these bits those in deny are set, the others cleared. At once: all
 * threads are stopped before the first one goes on with the new rights. Returns 0; -EAGAIN: nothing
 * has changed.
 */
int set_rights_everywhere(pkru_bits mask, pkru_bits deny) NEEDS_LIBRARY_LOCK;

#endif
