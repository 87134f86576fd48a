/* SPDX-License-Identifier: MIT */
#include "one_region.h"

struct pkeyguard_key *key;
struct pkeyguard_region *region;
char *address;

void set_up(void)
{
    key = new_key(PKEYGUARD_NO_ACCESS, 0);
    region = new_region(key);
    address = address_of(region);
}

void tear_down(void)
{
    destroy(region, key);
}
