/* SPDX-License-Identifier: MIT */
/*
 * mapping.h - the address space of a region that the library maps itself
 *
 *     guard page | pages ............................................ | guard page
 *     guard page | pages ... | inaccessible page | annex ............ | guard page
 *
 * With guard pages inside the mapping (MADV_GUARD_INSTALL) a region is one mapping, not three. Two
 * such mappings side by side could become one, which each change of page rights would split and
 * merge again: so a page between them is unmapped.
 */
#ifndef MAPPING_H
#define MAPPING_H

#include "region/region_record.h"

/*
 * Maps the region as flags ask, PROT_NONE; on error nothing stays mapped. -EINVAL: size 0, or too
 * large to be rounded; -ENOMEM; -ENOTSUP: the kernel has no secret memory.
 */
int mapping_create(struct pkeyguard_region *region, size_t size, size_t annex_size, unsigned flags);

/* Seals it (mseal(2)). -ENOMEM, -ENOTSUP: nothing has changed. */
int mapping_seal(const struct pkeyguard_region *region);

/*
 * Gives the memory up: unmaps it; or gives adopted memory back to its owner, as it came; or nothing
 * where a fork child does not have it. -ENOMEM, -EACCES: nothing has changed. -ESTALE: given up,
 * but the owner of adopted memory has unmapped some of it.
 */
int mapping_give_up(struct pkeyguard_region *region) NEEDS_LIBRARY_LOCK;

/* With the guard pages. */
static inline char *mapping_start(const struct pkeyguard_region *region)
{
    return region->pages.address - region->guard_size;
}

static inline size_t mapping_length(const struct pkeyguard_region *region)
{
    return region->pages.length + 2 * region->guard_size;
}

#endif
