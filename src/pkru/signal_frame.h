/* SPDX-License-Identifier: MIT */
/*
 * signal_frame.h - reads and changes the registers that a signal frame saves
 *
 * `ucontext` is the third argument of a signal handler. Every function is async-signal-safe.
 */
#ifndef SIGNAL_FRAME_H
#define SIGNAL_FRAME_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Gets the interrupted code's PKRU. Returns false if the frame has none: PKRU was 0, its initial
 * state, or the CPU has no PKRU.
 */
bool pkru_in_frame(const void *ucontext, uint32_t *ret_pkru);

/*
 * Sets the PKRU with which the interrupted code continues. Returns false, with nothing changed, if
 * the frame has none. On a CPU with PKRU the code then continues with 0, which opens every pkey.
 */
bool pkru_set_in_frame(void *ucontext, uint32_t pkru);

/*
 * Returns the interrupted code's stack pointer, or NULL if the library cannot read frames of this
 * CPU.
 */
const void *stack_in_frame(const void *ucontext);

/* Returns the address of the instruction that the signal interrupted; NULL as above. */
void *code_in_frame(const void *ucontext);

/*
 * True if the interrupted code may be between RDPKRU and WRPKRU, about to write a value that it
 * read before the signal. The answer is right for code in which WRPKRU follows RDPKRU without a
 * branch and within 64 bytes: the guards' blocks in pkru.h, and pkey_set(3).
 */
bool pkru_write_pending(const void *ucontext);

/*
 * Gets the page right that a faulting access needed: PROT_READ, PROT_WRITE or PROT_EXEC. Returns
 * false if the frame does not say.
 */
bool access_in_frame(const void *ucontext, int *ret_prot);

/*
 * Tests the PKRU of each signal frame between two addresses of a stack, and below them where a
 * frame's handler interrupted code that has its stack pointer there. These are the frames of
 * handlers that run, and the remains of frames of handlers that have returned. Returns true if all
 * pass. Returns false if the memory cannot be read, or may be more than this stack. @argument: the
 * second argument of the test.
 */
bool pkru_test_frames(const void *low, const void *high, bool (*test)(uint32_t pkru, uint32_t),
                      uint32_t argument);

#endif
