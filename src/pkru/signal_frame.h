/* SPDX-License-Identifier: MIT */
/* signal_frame.h - what a signal frame holds: the interrupted thread's PKRU, and what it was doing
 */
#ifndef SIGNAL_FRAME_H
#define SIGNAL_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include <pkeyguard/fault.h>

/*
 * @ucontext: a signal handler's third argument
 *
 * False where the frame holds no PKRU: it was in its initial state, or the CPU has none.
 * Async-signal-safe.
 */
bool pkru_in_frame(const void *ucontext, uint32_t *ret_pkru);

/*
 * The PKRU that the thread goes on with. False, and nothing changed, where pkru_in_frame() is
 * false: then it would go on with 0, everything open. Async-signal-safe.
 */
bool pkru_set_in_frame(void *ucontext, uint32_t pkru);

/* Where the interrupted code's stack ended; NULL where frames do not say. Async-signal-safe. */
const void *stack_in_frame(const void *ucontext);

/*
 * Whether the interrupted code may be between RDPKRU and WRPKRU, about to write a value that it has
 * read before. That is so for code in which the one follows the other in a straight line, not far
 * away: the guards' blocks in pkru.h, and pkey_set(3). Async-signal-safe.
 */
bool pkru_write_pending(const void *ucontext);

/* How memory was accessed, for SIGSEGV. False where frames do not say. Async-signal-safe. */
bool access_in_frame(const void *ucontext, enum pkeyguard_access *ret_access);

/*
 * Whether certainly no signal frame that holds PKRU lies in this memory, part of a stack. False
 * where some of it cannot be read, too.
 */
bool pkru_no_frame_between(const void *low, const void *high);

#endif
