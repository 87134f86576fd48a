/* SPDX-License-Identifier: MIT */
/*
 * leaves.h - functions that do nothing but one access inside one scope
 *
 * leaves.c is compiled once with gcc and once with clang, so each function exists twice: its name
 * begins with the compiler's.
 */
#ifndef LEAVES_H
#define LEAVES_H

#include <pkeyguard.h>

/* Calls of(NAME) for each function: int COMPILER_NAME(struct pkeyguard_region *region,
 * struct pkeyguard_key *key). The region has the key and holds at least one int. */
#define LEAVES(of) \
    of(write) of(read) of(write_at) of(auto_write) of(key_write) of(restricted_read) of(by_hand)

#define LEAF_DECLARATIONS(name)                                                 \
    int gcc_##name(struct pkeyguard_region *region, struct pkeyguard_key *key); \
    int clang_##name(struct pkeyguard_region *region, struct pkeyguard_key *key);

LEAVES(LEAF_DECLARATIONS)

/* For by_hand: the access-disable and write-disable bit of the region's pkey, and the region. */
extern unsigned leaf_pkey_bits;
extern int *leaf_number;

#endif
