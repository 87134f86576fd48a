/* SPDX-License-Identifier: MIT */
/* content.h - the library itself reaches a region's memory: to fill it, and to wipe it */
#ifndef CONTENT_H
#define CONTENT_H

#include "region/region_record.h"

/*
 * Makes the content writable, for this thread at least, whatever the page rights were: they are
 * PROT_READ and PROT_WRITE then. On failure they are as before. content_close() leaves them so; if
 * it fails the content is open still. Both take the lock.
 */
int content_open(struct pkeyguard_region *region, struct pkru_change *ret_change);
int content_close(struct pkeyguard_region *region, const struct pkru_change *change);

/* Has all of the memory that SECRET and LOCKED promise, before anybody uses it. -ENOMEM, -EPERM. */
int content_populate(const struct pkeyguard_region *region);

/* Overwrites what may hold content. */
void content_wipe(const struct pkeyguard_region *region);

/* The same of a sealed region, as far as its page rights let anybody write. */
void content_wipe_sealed(struct pkeyguard_region *region);

/* The start of the pages that only the library knows of, behind an inaccessible one. */
void *region_annex(const struct pkeyguard_region *region);

/*
 * From now on this many bytes from the start of each part, the region's and its annex, may hold
 * content. With PKEYGUARD_REGION_LOCKED they are locked in memory, for which the key must be open:
 * -ENOMEM or -EPERM, and nothing has changed.
 */
int region_use(struct pkeyguard_region *region, size_t used, size_t annex_used);

#endif
