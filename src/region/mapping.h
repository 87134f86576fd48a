/* SPDX-License-Identifier: MIT */
/*
 * mapping.h - the address space of a region that the library maps itself
 *
 * Its pages, its annex behind a page that nobody can reach, and a guard page on each side. With
 * guard pages inside the mapping a region is one mapping, not three; but two of them side by side
 * could become one, which each change of page rights would split and merge again, so a page between
 * them is given back.
 */
#ifndef MAPPING_H
#define MAPPING_H

#include "region/region.h"

/*
 * The flags' wishes are granted, and nobody can reach any of it yet. On failure there is nothing.
 * -EINVAL: a size is none; -ENOMEM; -ENOTSUP: the kernel has no secret memory.
 */
int mapping_create(struct pkeyguard_region *region, size_t size, size_t annex_size, unsigned flags);

/* -ENOMEM: nothing has changed. */
int mapping_unmap(const struct pkeyguard_region *region);

static inline char *mapping_start(const struct pkeyguard_region *region)
{
    return region->pages.address - region->guard_size;
}

static inline size_t mapping_length(const struct pkeyguard_region *region)
{
    return region->pages.length + 2 * region->guard_size;
}

#endif
