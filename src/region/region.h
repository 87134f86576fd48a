/* SPDX-License-Identifier: MIT */
/* region.h - a region as guards and heaps see it, behind its frozen head */
#ifndef REGION_H
#define REGION_H

#include <stddef.h>

#include <pkeyguard/region.h>

#include "key/enforcement.h"
#include "base/registry.h"

enum { REGION_NAME_SIZE = 64 };

struct pkeyguard_region {
    struct pkeyguard_region_head head;
    struct pages pages;
    size_t guard_size;       /* bytes reserved on each side */
    size_t annex;            /* the offset of the annex, past an inaccessible page; 0: none */
    size_t used, annex_used; /* of each part, from its start: what may hold content */
    unsigned flags;
    bool sealed;
    bool adopted;                     /* the memory is somebody else's, and stays it */
    int prot_before;                  /* its page rights when it was adopted */
    struct pkeyguard_key private_key; /* in use while head.key points to it */
    char name[REGION_NAME_SIZE];      /* empty: none */
};
_Static_assert(sizeof(struct pkeyguard_region_head) == 3 * sizeof(void *) &&
                   offsetof(struct pkeyguard_region, head) == 0,
               "frozen for the ABI");

/* Every region that this process has, by the addresses of its pages and guard pages. */
extern struct registry region_registry;

/*
 * As pkeyguard_region_create(), with an annex: more pages under the same key, of which only the
 * library knows, behind an inaccessible page. Both parts are committed on use: what is written to
 * must be announced with region_use() first, and only that is wiped in the end.
 */
int region_create_with_annex(struct pkeyguard_key *key, size_t size, size_t annex_size,
                             unsigned flags, struct pkeyguard_region **ret_region);

/* The annex's start. */
void *region_annex(const struct pkeyguard_region *region);

/*
 * From now on so many bytes from each part's start may hold content. With PKEYGUARD_REGION_LOCKED
 * they are locked, for which the key must be open: -ENOMEM or -EPERM, and nothing changed.
 */
int region_use(struct pkeyguard_region *region, size_t used, size_t annex_used);

#endif
