/* SPDX-License-Identifier: MIT */
/* one_region.h - a test fixture: one closed region of one page, with a key of its own */
#ifndef ONE_REGION_H
#define ONE_REGION_H

#include "support.h"

extern struct pkeyguard_key *key;
extern struct pkeyguard_region *region;
extern char *address; /* the region's */

void set_up(void);
void tear_down(void);

#endif
