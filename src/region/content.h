/* SPDX-License-Identifier: MIT */
/* content.h - the library itself reaches a region's memory: to fill it, and to wipe it */
#ifndef CONTENT_H
#define CONTENT_H

#include "region/region_record.h"

/*
 * Has all of the memory that SECRET and LOCKED promise, and copies content there, if it is not
 * NULL. The page rights are PROT_READ and PROT_WRITE afterwards. On failure there is no content,
 * and *ret_still_open says whether the region could not be closed. Takes the lock.
 */
int content_fill(struct pkeyguard_region *region, const void *content, bool *ret_still_open);

/*
 * Overwrites what may hold content: not adopted memory, nor memory that this fork child does not
 * have, nor memory that was never open for writing. The page rights are PROT_READ and PROT_WRITE
 * afterwards, but a sealed region keeps its own, and its content if they do not let anybody write.
 * Fails as struct enforcement's apply and enter: nothing has changed. *ret_still_open as above.
 * Takes the lock.
 */
int content_wipe(struct pkeyguard_region *region, bool *ret_still_open);

/* The start of the annex: pages that only the library knows of, behind an inaccessible one. */
void *region_annex(const struct pkeyguard_region *region);

/*
 * From now on this many bytes from the start of each part, the region's and its annex, may hold
 * content. With PKEYGUARD_REGION_LOCKED they are locked in memory, for which the key must be open:
 * -ENOMEM or -EPERM, and nothing has changed.
 */
int region_use(struct pkeyguard_region *region, size_t used, size_t annex_used);

#endif
