/* SPDX-License-Identifier: MIT */
/* one_region.h - a fixture: one region under a key of its own, closed */
#ifndef ONE_REGION_H
#define ONE_REGION_H

#include "support.h"

extern struct pkeyguard_key *key;
extern struct pkeyguard_region *region;
extern char *address; /* the region's */

void set_up(void);
void tear_down(void);

#endif
