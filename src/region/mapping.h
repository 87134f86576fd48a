/* SPDX-License-Identifier: MIT */
/*
 * mapping.h - the address space of a region that the library maps itself
 *
 *     guard page | pages ............................................ | guard page
 *     guard page | pages ... | inaccessible page | annex ............ | guard page
 *
 * With guard pages inside the mapping (MADV_GUARD_INSTALL) a region is one mapping instead of
 * three. The kernel might merge two such regions that are adjacent, and then split and merge them
 * at each change of page rights. An unmapped page between them prevents that.
 *
 * The pages of a region of 2 MiB or more start at a multiple of 2 MiB. With an annex they do so
 * only with PKEYGUARD_REGION_HUGE_PAGES. A region fills its pages from the first byte on; an
 * END_ALIGNED one fills them up to the last byte, and has slack before its start (slack.h).
 */
#ifndef MAPPING_H
#define MAPPING_H

#include "region/region_record.h"

/*
 * Maps the region as the flags ask, without page rights. On error nothing stays mapped. -EINVAL:
 * size is 0, or too large to round up; -ENOMEM; -ENOTSUP: the kernel has no secret memory, or no
 * huge pages.
 */
int mapping_create(struct pkeyguard_region *region, size_t size, size_t annex_size, unsigned flags);

/* Seals the mapping (mseal(2)). On -ENOMEM and -ENOTSUP nothing has changed. */
int mapping_seal(const struct pkeyguard_region *region);

/*
 * Unmaps the memory. Adopted memory instead gets back the page rights it had before. Does nothing
 * if a fork child did not get the memory. -ENOMEM, -EACCES: nothing has changed. -ESTALE: done, but
 * the owner had unmapped part of the adopted memory.
 */
int mapping_give_up(struct pkeyguard_region *region) NEEDS_LIBRARY_LOCK;

/* The first byte, including the guard pages. */
static inline char *mapping_start(const struct pkeyguard_region *region)
{
    return region->pages.address - region->guard_size;
}

static inline size_t mapping_length(const struct pkeyguard_region *region)
{
    return region->pages.length + 2 * region->guard_size;
}

#endif
