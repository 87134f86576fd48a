/* SPDX-License-Identifier: MIT */
/*
 * undo.h - everything that a guard has to undo, in one word: struct pkeyguard_guard's member undo
 *
 *     63..62  deny bits that it set        as relative bits (bits.h)
 *     61..60  deny bits that it cleared
 *         59  acquired with PKEYGUARD_DEBUG
 *     55...4  address of its region, or of its key
 *      3...0  an enum undo_kind
 *
 * Records of keys and regions are aligned to 16 bytes. User addresses have at most 56 bits.
 */
#ifndef UNDO_H
#define UNDO_H

#include <stdbool.h>
#include <stdint.h>

#include <pkeyguard/guard.h>

#include "key/enforcement.h"

/* The kinds of guards that the fast path of virtual keys makes; or a combination of the bits. */
enum undo_kind {
    UNDO_OPENED = 1, /* it opened a virtual key from both deny bits */
    UNDO_PINNED = 2, /* it only pinned the pkey of a virtual key that was open */

    UNDO_OF_KEY = 1,       /* the address is a key's */
    UNDO_RESTRICTS = 2,    /* it narrows */
    UNDO_RIGHTS_SHIFT = 2, /* its rights, which are not 0: two bits */
    UNDO_READS = PKEYGUARD_READ_ONLY << UNDO_RIGHTS_SHIFT,
    UNDO_WRITES = PKEYGUARD_READ_WRITE << UNDO_RIGHTS_SHIFT,
    UNDO_KINDS = 15
};

#define UNDO_CHECKED (UINT64_C(1) << 59)
#define UNDO_ADDRESS ((UINT64_C(1) << 56) - 1 - UNDO_KINDS)
enum { UNDO_CLEARED_SHIFT = 60, UNDO_SET_SHIFT = 62 };

/* What the inline code of restrict scopes makes (guard.h). */
_Static_assert(PKEYGUARD_UNDO_NARROWS == (int)(UNDO_OF_KEY | UNDO_RESTRICTS) &&
                   PKEYGUARD_UNDO_RIGHTS == (int)UNDO_RIGHTS_SHIFT &&
                   PKEYGUARD_UNDO_SET_AD == (uint64_t)RELATIVE_AD << UNDO_SET_SHIFT &&
                   PKEYGUARD_UNDO_SET_WD == (uint64_t)RELATIVE_WD << UNDO_SET_SHIFT,
               "an inline guard is released by the library, too");

static inline enum undo_kind undo_kind(uint64_t undo)
{
    return (enum undo_kind)(undo & UNDO_KINDS);
}

static inline void *undo_address(uint64_t undo)
{
    return (void *)(uintptr_t)(undo & UNDO_ADDRESS);
}

static inline enum pkeyguard_rights undo_rights(uint64_t undo)
{
    return (enum pkeyguard_rights)(undo_kind(undo) >> UNDO_RIGHTS_SHIFT);
}

static inline enum guard_mode undo_mode(uint64_t undo)
{
    return undo & UNDO_RESTRICTS ? GUARD_RESTRICTS : GUARD_WIDENS;
}

static inline struct pkru_change undo_change(uint64_t undo)
{
    return (struct pkru_change){
        .cleared = (unsigned)(undo >> UNDO_CLEARED_SHIFT) & RELATIVE_BITS,
        .set = (unsigned)(undo >> UNDO_SET_SHIFT) & RELATIVE_BITS,
    };
}

/* @address: of the key if is_key is true, else of the region. */
static inline uint64_t undo_make(const void *address, bool is_key, enum pkeyguard_rights rights,
                                 enum guard_mode mode, const struct pkru_change *change)
{
    return (uintptr_t)address | (is_key ? UNDO_OF_KEY : 0) |
           (mode == GUARD_RESTRICTS ? UNDO_RESTRICTS : 0) | (uint64_t)rights << UNDO_RIGHTS_SHIFT |
           (uint64_t)change->cleared << UNDO_CLEARED_SHIFT |
           (uint64_t)change->set << UNDO_SET_SHIFT;
}

#endif
