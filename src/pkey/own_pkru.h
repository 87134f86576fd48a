/* SPDX-License-Identifier: MIT */
/*
 * own_pkru.h - changes of the calling thread's PKRU outside the inline guards
 *
 * A thread that closes pkeys in other threads by a signal (revocation.c) must know that none of
 * them is about to write a PKRU value that it has read before. For the inline guards, the
 * instructions around the interrupted one show it. The library's C code counts its changes here.
 */
#ifndef OWN_PKRU_H
#define OWN_PKRU_H

#include <stdbool.h>

#include "base/fence.h"
#include "pkru/bits.h"

/* Written only by its own thread. Also read by signal handlers of that thread. */
struct own_pkru {
    uint32_t changes_begun; /* nesting depth; 0: the thread is not in the middle of a change */
    pkru_bits chosen;       /* the bits that this thread ever set or cleared with these functions */

    /*
     * The PKRU that the changes here would have left if no signal handler had run. A handler starts
     * with the kernel's initial rights, and a thread that is cancelled in one keeps them. For the
     * checks of PKEYGUARD_DEBUG.
     */
    pkru_bits expected;
};

extern __thread struct own_pkru own_pkru
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/*
 * Begins a piece of code that reads rights and then changes them. Until the end no other thread
 * closes idle pkeys in this one. Calls nest.
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

/* Clears and sets these bits in the current PKRU. Async-signal-safe. */
void own_pkru_change(pkru_bits clear, pkru_bits set);

/*
 * Sets the bits in the mask, of pkeys that are not this library's, to what they are in `pkru`: the
 * thread had these rights before, and has not chosen them here. Async-signal-safe.
 */
void own_pkru_give_back(pkru_bits mask, pkru_bits pkru);

/* True if this thread has set or cleared all of these bits, so that it inherited none of them. */
bool own_pkru_chosen(pkru_bits bits);

#endif
