/* SPDX-License-Identifier: MIT */
/*
 * proof.h - what the proofs share
 *
 * A file of this folder includes a source file of the library as it is, and has functions
 * prove_NAME(), each of which says what holds: it returns true for every value of its arguments.
 * prove.py proves that.
 */
#ifndef PROOF_H
#define PROOF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the function is proven for; the rest of it must hold if this does. */
#define ASSUME(condition) \
    do {                  \
        if (!(condition)) \
            return true;  \
    } while (0)

/* Addresses of user memory are below this: 56 bits (Linux with five levels of page tables). */
#define ADDRESS_END (UINT64_C(1) << 56)

/* A solver is faster with this than with the condition that a number is a power of two. */
static inline uintptr_t power_of_two(unsigned log2)
{
    return (uintptr_t)1 << log2 % 64;
}

static inline bool is_aligned(uintptr_t number, uintptr_t power)
{
    return (number & (power - 1)) == 0;
}

#endif
