/* SPDX-License-Identifier: MIT */
/*
 * own_pkru.h - changes of the calling thread's PKRU outside the inline guards
 *
 * A thread that closes pkeys in others by a signal (revocation.c) must know that none of them is
 * about to write a PKRU that it has read before. The inline guards show that by their code; the
 * library's C code says it by a count.
 */
#ifndef OWN_PKRU_H
#define OWN_PKRU_H

#include <stdbool.h>

#include "base/fence.h"
#include "pkru/bits.h"

/* Written by its own thread only; read by its signal handlers. */
struct own_pkru {
    uint32_t changes_begun; /* nested; 0: the thread is not in the middle of a change */
    pkru_bits chosen;       /* the bits that this thread ever set or cleared here */
    pkru_bits narrowed;     /* the bits that it ever set to give up what a key's default allows */
};

extern __thread struct own_pkru own_pkru
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/*
 * Brackets code that finds out about rights and then changes them. Until the end no idle pkey is
 * closed from outside. The brackets nest.
 */
static inline void own_pkru_begin_change(void)
{
    pkeyguard_count_up(&own_pkru.changes_begun);
    compiler_fence();
}

static inline void own_pkru_end_change(void)
{
    compiler_fence();
    pkeyguard_count_down(&own_pkru.changes_begun);
}

/* Clears and sets these bits of PKRU as it is now. Async-signal-safe. */
void own_pkru_change(pkru_bits clear, pkru_bits set);

/* True if this thread set or cleared all of these bits; false if it inherited one. */
bool own_pkru_chosen(pkru_bits bits);

#endif
