/* SPDX-License-Identifier: MIT */
/*
 * slack.h - the bytes between the first page's start and the start of an END_ALIGNED region
 *
 * Other regions have none there. The bytes carry a pattern, and a byte that differs from it shows
 * that somebody has written before the region's start.
 */
#ifndef SLACK_H
#define SLACK_H

#include "region/region_record.h"

/* In bytes. */
static inline size_t slack_size(const struct pkeyguard_region *region)
{
    return (size_t)(region->head.address - region->pages.address);
}

/* Writes the pattern. The pages are open for writing. */
void slack_fill(const struct pkeyguard_region *region);

/* Returns the first byte that differs from the pattern, or NULL. The pages are open for reading. */
char *slack_damage(const struct pkeyguard_region *region);

/* The same, but aborts if there is one. */
void slack_require_intact(const struct pkeyguard_region *region);

#endif
