/* SPDX-License-Identifier: MIT */
/*
 * parts.h - opens parts of a closed region of a software key, while the library's lock is held
 *
 * mprotect(2) takes time for each page in use. So a function of the library that needs a few bytes
 * of a large region opens their pages and leaves the others closed. No guard opens or closes the
 * region meanwhile, because that needs the lock.
 */
#ifndef PARTS_H
#define PARTS_H

#include "region/region_record.h"

struct region_parts {
    struct pkeyguard_region *region;
    char *start, *end; /* from the first part's start to the last one's end; NULL: none is open */
};

/*
 * Returns false if the region is not of a software key, is open, or has other page rights than
 * PROT_READ | PROT_WRITE. Else region_parts_end() must follow.
 */
bool region_parts_begin(struct region_parts *parts,
                        struct pkeyguard_region *region) NEEDS_LIBRARY_LOCK;

/* Opens the pages of these bytes. Returns 0, -ENOMEM or -EACCES. */
int region_parts_open(struct region_parts *parts, const void *start,
                      size_t size) NEEDS_LIBRARY_LOCK;
int region_parts_open_annex(struct region_parts *parts) NEEDS_LIBRARY_LOCK;

/* Closes every part. Aborts if the kernel refuses. */
void region_parts_end(struct region_parts *parts) NEEDS_LIBRARY_LOCK;

#endif
