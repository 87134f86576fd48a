/* SPDX-License-Identifier: MIT */
/*
 * annexed_region.h - regions for heap.c: with an annex, and committed on use
 *
 * The annex is more pages under the same key, of which only the library knows. region_annex() and
 * region_use() are in content.h.
 */
#ifndef ANNEXED_REGION_H
#define ANNEXED_REGION_H

#include "region/content.h"

/* As pkeyguard_region_create(). */
int region_create_with_annex(struct pkeyguard_key *key, size_t size, size_t annex_size,
                             unsigned flags, struct pkeyguard_region **ret_region);

#endif
