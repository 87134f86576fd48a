/* SPDX-License-Identifier: MIT */
/*
 * annexed_region.h - regions for heap.c: with an annex, and with memory that is committed on use
 *
 * The annex is a second range of pages under the same key. Programs never see it. content.h has
 * region_annex() and region_use().
 */
#ifndef ANNEXED_REGION_H
#define ANNEXED_REGION_H

#include "region/content.h"

/* Like pkeyguard_region_create(), with an annex. */
int region_create_with_annex(struct pkeyguard_key *key, size_t size, size_t annex_size,
                             unsigned flags, struct pkeyguard_region **ret_region);

#endif
