/* SPDX-License-Identifier: MIT */
/* adopt.h - memory that the library did not map */
#ifndef ADOPT_H
#define ADOPT_H

#include "region/region_record.h"

/* Gives adopted memory back to its owner as it came, and ends the record. Takes the lock. */
int region_give_back(struct pkeyguard_region *region);

#endif
