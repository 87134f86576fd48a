/* SPDX-License-Identifier: MIT */
/* Compiled with -D LEAF(name)=COMPILER_name. */
#include "leaves.h"

int LEAF(write)(struct pkeyguard_region *region, struct pkeyguard_key *key)
{
    int value = 0;

    (void)key;
    pkeyguard_scoped_write (int, number, region) {
        *number = 1;
        value = *number;
    }
    return value;
}

int LEAF(read)(struct pkeyguard_region *region, struct pkeyguard_key *key)
{
    int value = 0;

    (void)key;
    pkeyguard_scoped_read (int, number, region) {
        value = *number;
    }
    return value;
}

int LEAF(write_at)(struct pkeyguard_region *region, struct pkeyguard_key *key)
{
    int value = 0;

    (void)key;
    pkeyguard_scoped_write_at (int, number, region, leaf_number) {
        *number = 1;
        value = *number;
    }
    return value;
}

int LEAF(auto_write)(struct pkeyguard_region *region, struct pkeyguard_key *key)
{
    pkeyguard_auto_write(int, number, region);

    (void)key;
    *number = 1;
    return *number;
}

int LEAF(key_write)(struct pkeyguard_region *region, struct pkeyguard_key *key)
{
    int value = 0;

    (void)region;
    pkeyguard_scoped_key_write (guard, key) {
        *leaf_number = 1;
        value = *leaf_number;
    }
    return value;
}

int LEAF(restricted_read)(struct pkeyguard_region *region, struct pkeyguard_key *key)
{
    int value = 0;

    (void)key;
    pkeyguard_scoped_restrict (guard, region, PKEYGUARD_READ_ONLY) {
        value = *leaf_number;
    }
    return value;
}

int LEAF(by_hand)(struct pkeyguard_region *region, struct pkeyguard_key *key)
{
    unsigned bits = leaf_pkey_bits;
    int value;

    (void)region, (void)key;
    __asm__ volatile("rdpkru\n\tandl %0, %%eax\n\twrpkru"
                     :
                     : "r"(~bits), "c"(0)
                     : "eax", "edx", "cc", "memory");
    *leaf_number = 1;
    value = *leaf_number;
    __asm__ volatile("rdpkru\n\torl %0, %%eax\n\twrpkru"
                     :
                     : "r"(bits), "c"(0)
                     : "eax", "edx", "cc", "memory");
    return value;
}
