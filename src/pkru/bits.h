/* SPDX-License-Identifier: MIT */
/*
 * bits.h - how PKRU encodes rights; the one place in the library that knows it
 *
 *     bit   31  30       3   2   1   0
 *         +----+----+-+----+----+----+----+
 *         | WD | AD |..| WD | AD | WD | AD |      AD: access-disable
 *         +----+----+-+----+----+----+----+      WD: write-disable
 *         pkey 15        pkey 1    pkey 0        Intel SDM vol. 3, "Protection Keys"
 *
 * AD denies everything; WD denies writing; no bit allows both. The kernel starts signal handlers,
 * and threads that are older than a pkey, with AD alone. This library closes a pkey by both bits.
 */
#ifndef BITS_H
#define BITS_H

#include <stdbool.h>
#include <stdint.h>

#include <pkeyguard/key.h>
#include <pkeyguard/pkru.h>

enum { PKEYS = 16 };

/* False if this CPU has no pkeys, so that every page has pkey 0. */
bool pages_can_carry_pkeys(void);

typedef uint32_t pkru_bits;   /* bits of PKRU, in their positions */
typedef uint32_t pkey_bitset; /* bit k stands for pkey k */

#define PKEY_AD(pkey)   (1u << (2 * (pkey)))
#define PKEY_WD(pkey)   (2u << (2 * (pkey)))
#define PKEY_BITS(pkey) (PKEY_AD(pkey) | PKEY_WD(pkey))
#define EVERY_AD        0x55555555u

/*
 * The deny bits of one pkey, shifted to the position of pkey 0. A guard stores these if its pkey
 * may change meanwhile.
 */
enum { RELATIVE_AD = 1, RELATIVE_WD = 2, RELATIVE_BITS = 3 };

static inline pkru_bits pkru_to_relative(int pkey, pkru_bits pkru)
{
    return pkru >> (2 * pkey) & RELATIVE_BITS;
}

static inline pkru_bits pkru_from_relative(int pkey, pkru_bits relative)
{
    return relative << (2 * pkey);
}

/* Returns the lowest pkey that has a bit set here. */
static inline int pkru_first_pkey(pkru_bits bits)
{
    return __builtin_ctz(bits) / 2;
}

/* Returns the AD bit of each pkey that has a bit set here. */
static inline pkru_bits pkru_ad_of_each(pkru_bits bits)
{
    return (bits | bits >> 1) & EVERY_AD;
}

/* Iterates over the pkeys that have bits set; pkru_first_pkey(left) is the current one. */
#define for_each_pkey_left(left, bits) \
    for (pkru_bits left = pkru_ad_of_each(bits); left != 0; left &= left - 1)

/* Returns both deny bits of each pkey of the set. */
static inline pkru_bits pkru_of_set(pkey_bitset set)
{
    pkru_bits bits = set;

    bits = (bits | bits << 8) & 0x00ff00ff;
    bits = (bits | bits << 4) & 0x0f0f0f0f;
    bits = (bits | bits << 2) & 0x33333333;
    bits = (bits | bits << 1) & 0x55555555;
    return bits * 3;
}

/* Returns the deny bits for these rights. */
static inline pkru_bits pkru_deny(int pkey, enum pkeyguard_rights rights)
{
    switch (rights) {
    case PKEYGUARD_READ_WRITE:
        return 0;
    case PKEYGUARD_READ_ONLY:
        return PKEY_WD(pkey);
    default:
        /* Both bits, so that a read guard only has to clear AD. */
        return PKEY_BITS(pkey);
    }
}

/* Returns the rights that these deny bits leave. */
static inline enum pkeyguard_rights pkru_rights(int pkey, pkru_bits pkru)
{
    if (pkru & PKEY_AD(pkey))
        return PKEYGUARD_NO_ACCESS;
    return pkru & PKEY_WD(pkey) ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE;
}

/*
 * Returns the deny bits of a pkey after a guard has widened it to at least these rights, READ_ONLY
 * or READ_WRITE. @denied: the bits now; @ad: the pkey's AD bit.
 */
static inline pkru_bits pkru_widened(pkru_bits denied, pkru_bits ad, enum pkeyguard_rights rights)
{
    if (rights == PKEYGUARD_READ_WRITE)
        return 0;
    /* A read guard gives only reading, even if AD alone was set. */
    return denied & ad ? 2 * ad : denied;
}

/*
 * Returns twice the number of the pkey that has these bits, in one instruction. Pins (pin.h) find
 * their counter with it. For UNBOUND it returns 0, because UNBOUND is pkey 0's AD bit.
 */
static inline uint64_t pkru_twice_first_pkey(pkru_bits bits)
{
    return pkeyguard_lowest_bit(bits);
}

#endif
