/* SPDX-License-Identifier: MIT */
/*
 * annexed.h - regions for heap.c, with an annex
 *
 * The annex is more pages under the same key, of which only the library knows, behind an
 * inaccessible page. Both parts are committed on use.
 */
#ifndef ANNEXED_H
#define ANNEXED_H

#include "region/content.h"

/* As pkeyguard_region_create(); region_annex() and region_use() are in content.h. */
int region_create_with_annex(struct pkeyguard_key *key, size_t size, size_t annex_size,
                             unsigned flags, struct pkeyguard_region **ret_region);

#endif
