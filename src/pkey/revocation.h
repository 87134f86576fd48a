/* SPDX-License-Identifier: MIT */
/*
 * revocation.h - pkeys are closed in every thread of the process, by a signal
 *
 * Only where the program has chosen a signal for it. The functions need the library's lock.
 */
#ifndef REVOCATION_H
#define REVOCATION_H

#include <stdbool.h>
#include <stdint.h>

/* Whether it is one that a program can handle, and that nothing else depends on. Needs no lock. */
bool revocation_may_use(int signal);

/* -EBUSY: the signal has a handler or is ignored, or another one was chosen before. */
int revocation_use(int signal);
bool revocation_allowed(void);

/*
 * Closes these pkeys, given by their bits in PKRU, in every thread, as the kernel gives a new one
 * to threads that are there already: access-disable alone. Nothing but a thread that has one open
 * may be able to open it. The caller is not in a signal handler. 0; -EAGAIN: some thread may have
 * them clear still.
 */
int revoke_everywhere(uint32_t bits);

#endif
