/* SPDX-License-Identifier: MIT */
/* pkru_frame.h - the interrupted thread's PKRU, where a signal frame holds it */
#ifndef PKRU_FRAME_H
#define PKRU_FRAME_H

#include <stdbool.h>
#include <stdint.h>

/*
 * @ucontext: a signal handler's third argument
 *
 * False where the frame holds no PKRU: it was in its initial state, or the CPU has none.
 * Async-signal-safe.
 */
bool pkru_in_frame(const void *ucontext, uint32_t *ret_pkru);

#endif
