/* SPDX-License-Identifier: MIT */
/*
 * signal_frame.h - reads and changes what a signal frame holds of the interrupted code
 *
 * `ucontext` is a signal handler's third argument. Every function is async-signal-safe.
 */
#ifndef SIGNAL_FRAME_H
#define SIGNAL_FRAME_H

#include <stdbool.h>
#include <stdint.h>

/* Gets the interrupted code's PKRU. False: the frame has none, because PKRU was in its initial
 * state, 0, or because the CPU has none. */
bool pkru_in_frame(const void *ucontext, uint32_t *ret_pkru);

/*
 * Sets the PKRU that the interrupted code continues with. False: the frame has none, and nothing
 * changed. If the CPU has PKRU the code then continues with 0: every pkey is open.
 */
bool pkru_set_in_frame(void *ucontext, uint32_t pkru);

/* The interrupted code's stack pointer; NULL: frames of this CPU are not read. */
const void *stack_in_frame(const void *ucontext);

/*
 * True if the interrupted code may be between RDPKRU and WRPKRU: it may then write a value that it
 * read before the signal. Right for code in which the one follows the other without a branch, at
 * most 64 bytes later: the guards' blocks in pkru.h, and pkey_set(3).
 */
bool pkru_write_pending(const void *ucontext);

/* The page right that the access needed, for SIGSEGV: PROT_READ, PROT_WRITE or PROT_EXEC. False:
 * the frame does not tell. */
bool access_in_frame(const void *ucontext, int *ret_prot);

/*
 * Tests the PKRU of each signal frame between two addresses of a stack: the frames of handlers that
 * run, and what handlers that have returned left behind. True if all pass. False also if some of
 * the memory cannot be read. @argument is the test's second argument.
 */
bool pkru_test_frames(const void *low, const void *high, bool (*test)(uint32_t pkru, uint32_t),
                      uint32_t argument);

#endif
