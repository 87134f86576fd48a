/* SPDX-License-Identifier: MIT */
/*
 * revocation.h - changes rights in all threads of the process, by a signal
 *
 * It works only if the program has chosen a signal for it (signal_round.h). The caller is not in a
 * signal handler.
 */
#ifndef REVOCATION_H
#define REVOCATION_H

#include "base/lock.h"
#include "pkru/bits.h"

/*
 * Closes these pkeys in every thread. Sets AD alone, as the kernel does in existing threads for a
 * new pkey. The caller makes sure that no thread opens one of the pkeys meanwhile. Returns 0, or
 * -EAGAIN if a thread did not answer and may still have them open.
 */
int revoke_everywhere(pkru_bits bits) NEEDS_LIBRARY_LOCK;

/*
 * Changes the bits of a dedicated pkey in every other thread: sets those in deny, clears the
 * others. All threads stop before the first one goes on with the new rights. Returns 0, or -EAGAIN
 * with nothing changed.
 */
int set_rights_everywhere(int pkey, pkru_bits deny) NEEDS_LIBRARY_LOCK;

#endif
