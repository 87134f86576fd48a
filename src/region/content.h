/* SPDX-License-Identifier: MIT */
/* content.h - fills and wipes a region's memory */
#ifndef CONTENT_H
#define CONTENT_H

#include "region/region_record.h"

/*
 * Gets all the memory that SECRET and LOCKED promise, writes the slack's pattern, and copies
 * `content` to the region unless it is NULL. Sets the page rights to PROT_READ | PROT_WRITE. On
 * failure the region has no content, and *ret_still_open tells if the region could not be closed.
 * Takes the lock.
 */
int content_fill(struct pkeyguard_region *region, const void *content, bool *ret_still_open);

/*
 * Overwrites everything that may hold content. It skips adopted memory, memory that this fork child
 * did not get, and memory that was never open for writing. Sets the page rights to PROT_READ |
 * PROT_WRITE. A sealed region keeps its page rights, and also its content if they do not allow a
 * write. It aborts if the slack is damaged (slack.h). Fails as enter and apply in struct
 * enforcement, with nothing changed. *ret_still_open as above. Takes the lock.
 */
int content_wipe(struct pkeyguard_region *region, bool *ret_still_open);

/* Returns the start of the annex. An inaccessible page separates it from the region's own pages. */
void *region_annex(const struct pkeyguard_region *region);

/*
 * Says how many bytes, from the start of the region and of its annex, may hold content from now on.
 * With PKEYGUARD_REGION_LOCKED it locks them in memory, and the key must be open. -ENOMEM, -EPERM:
 * they cannot be locked, and nothing has changed.
 */
int region_use(struct pkeyguard_region *region, size_t used, size_t annex_used);

#endif
