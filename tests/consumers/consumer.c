/* SPDX-License-Identifier: MIT */
/* A user's program in C. */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <pkeyguard.h>

int main(void)
{
    struct pkeyguard_region *region;
    struct pkeyguard_key *key;
    int seen = 0;

    if (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key) != 0 ||
        pkeyguard_region_create(key, sizeof(int), PROT_READ | PROT_WRITE, 0, &region) != 0)
        return 1;
    pkeyguard_scoped_write (int, number, region) {
        *number = 123;
    }
    pkeyguard_scoped_read (int, number, region) {
        seen = *number;
    }
    printf("C, libpkeyguard %s: %d\n", pkeyguard_version(), seen);
    return seen == 123 && pkeyguard_region_destroy(region) == 0 && pkeyguard_key_destroy(key) == 0
               ? 0
               : 1;
}
