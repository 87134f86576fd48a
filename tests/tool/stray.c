/* SPDX-License-Identifier: MIT */
/* Writes to a region named "vault" with no guard open. Does not use the reporter. */
#include <stdio.h>
#include <sys/mman.h>

#include <pkeyguard.h>

int main(void)
{
    struct pkeyguard_key *key;
    struct pkeyguard_region *region;

    if (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key) != 0 ||
        pkeyguard_region_create(key, 100, PROT_READ | PROT_WRITE, 0, &region) != 0 ||
        pkeyguard_region_name(region, "vault") != 0)
        return 1;
    ((volatile char *)pkeyguard_region_unsafe_address(region))[16] = 1;
    puts("written");
    return 0;
}
