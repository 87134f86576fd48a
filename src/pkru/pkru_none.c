/* SPDX-License-Identifier: MIT */
/* pkru_none.c - for CPUs without PKRU */
#include <pkeyguard/pkru.h>

#include <stddef.h>

#include "pkru/bits.h"
#include "pkru/signal_frame.h"

#ifndef __x86_64__

bool pkeyguard_pkru_supported(void)
{
    return false;
}

/* Some do, with keys that this library does not use: aarch64's POE, ppc64. */
bool pages_can_carry_pkeys(void)
{
    return true;
}

bool pkru_in_frame(const void *ucontext, uint32_t *ret_pkru)
{
    (void)ucontext, (void)ret_pkru;
    return false;
}

bool pkru_set_in_frame(void *ucontext, uint32_t pkru)
{
    (void)ucontext, (void)pkru;
    return false;
}

const void *stack_in_frame(const void *ucontext)
{
    (void)ucontext;
    return NULL;
}

#ifndef __aarch64__
void *code_in_frame(const void *ucontext)
{
    (void)ucontext;
    return NULL;
}
#endif

bool pkru_write_pending(const void *ucontext)
{
    (void)ucontext;
    return true;
}

#ifndef __aarch64__
bool access_in_frame(const void *ucontext, int *ret_prot)
{
    (void)ucontext, (void)ret_prot;
    return false;
}
#endif

bool pkru_test_frames(const void *low, const void *high, bool (*test)(uint32_t pkru, uint32_t),
                      uint32_t argument)
{
    (void)low, (void)high, (void)test, (void)argument;
    return false;
}

#endif
