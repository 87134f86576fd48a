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

typedef uint32_t pkru_bits;   /* bits of PKRU, at their pkeys' places */
typedef uint32_t pkey_bitset; /* bit k stands for pkey k */

#define PKEY_AD(pkey)   (1u << (2 * (pkey)))
#define PKEY_WD(pkey)   (2u << (2 * (pkey)))
#define PKEY_BITS(pkey) (PKEY_AD(pkey) | PKEY_WD(pkey))
#define EVERY_AD        0x55555555u

/* The deny bits of one pkey as if it were pkey 0: for a guard whose pkey may change meanwhile. */
enum { RELATIVE_AD = 1, RELATIVE_WD = 2, RELATIVE_BITS = 3 };

static inline pkru_bits pkru_to_relative(int pkey, pkru_bits pkru)
{
    return pkru >> (2 * pkey) & RELATIVE_BITS;
}

static inline pkru_bits pkru_from_relative(int pkey, pkru_bits relative)
{
    return relative << (2 * pkey);
}

/* The first pkey that has a bit here. */
static inline int pkru_first_pkey(pkru_bits bits)
{
    return __builtin_ctz(bits) / 2;
}

/* Goes through the pkeys that have bits here; pkru_first_pkey(left) is the current one. */
#define for_each_pkey_left(left, bits) \
    for (pkru_bits left = (bits); left != 0; left &= ~PKEY_BITS(pkru_first_pkey(left)))

/* The deny bits of every pkey of a set: each bit becomes two. */
static inline pkru_bits pkru_of_set(pkey_bitset set)
{
    pkru_bits bits = set;

    bits = (bits | bits << 8) & 0x00ff00ff;
    bits = (bits | bits << 4) & 0x0f0f0f0f;
    bits = (bits | bits << 2) & 0x33333333;
    bits = (bits | bits << 1) & 0x55555555;
    return bits * 3;
}

/* The deny bits that stand for rights. */
static inline pkru_bits pkru_deny(int pkey, enum pkeyguard_rights rights)
{
    switch (rights) {
    case PKEYGUARD_READ_WRITE:
        return 0;
    case PKEYGUARD_READ_ONLY:
        return PKEY_WD(pkey);
    default:
        /* Both: a guard that opens for reading finds WD set already. */
        return PKEY_BITS(pkey);
    }
}

/* The rights that deny bits stand for. */
static inline enum pkeyguard_rights pkru_rights(int pkey, pkru_bits pkru)
{
    if (pkru & PKEY_AD(pkey))
        return PKEYGUARD_NO_ACCESS;
    return pkru & PKEY_WD(pkey) ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE;
}

/*
 * The deny bits of a pkey after a guard has widened it to at least these rights, READ_ONLY or
 * READ_WRITE. @denied: what it denies now; @ad: its AD bit.
 */
static inline pkru_bits pkru_widened(pkru_bits denied, pkru_bits ad, enum pkeyguard_rights rights)
{
    if (rights == PKEYGUARD_READ_WRITE)
        return 0;
    /* From AD alone, too, reading is all that a read guard gives. */
    return denied & ad ? 2 * ad : denied;
}

/*
 * A set of bits as pins (pin.h) find the counter of their pkey: twice the pkey's number, in one
 * instruction. The bits of no pkey, UNBOUND, are pkey 0's AD bit, which this library never sets.
 */
static inline uint64_t pkru_twice_first_pkey(pkru_bits bits)
{
    return pkeyguard_lowest_bit(bits);
}

#endif
