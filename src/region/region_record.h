/* SPDX-License-Identifier: MIT */
/*
 * region_record.h - what the library knows of a region, behind its frozen head
 *
 * Records are found by address (registry.h). A record belongs to one key: the caller's, or the
 * private one inside it.
 */
#ifndef REGION_RECORD_H
#define REGION_RECORD_H

#include <stddef.h>

#include <pkeyguard/region.h>

#include "base/registry.h"
#include "key/key.h"

enum { REGION_NAME_SIZE = 64 };

/*
 * `pages` says what its members need. The rest is set when the region is made, and changes after
 * that only where the caller rules out every other use: associate, name, destroy.
 */
struct pkeyguard_region {
    struct pkeyguard_region_head head;
    struct pages pages;
    size_t guard_size;       /* bytes reserved on each side */
    size_t annex;            /* the offset of the annex, past an inaccessible page; 0: none */
    size_t used, annex_used; /* of each part, from its start: what may hold content */
    unsigned flags;
    bool sealed;
    bool adopted;                     /* the memory stays its owner's */
    int prot_before;                  /* its page rights when it was adopted */
    struct pkeyguard_key private_key; /* in use while head.key points to it */
    char name[REGION_NAME_SIZE];      /* empty: none */
};
_Static_assert(sizeof(struct pkeyguard_region_head) == 3 * sizeof(void *) &&
                   offsetof(struct pkeyguard_region, head) == 0,
               "frozen for the ABI");

/*
 * Every region of this process, by the addresses of its pages and guard pages. It changes under the
 * library's lock; fault.h's functions search it without.
 */
extern struct registry region_registry;

/*
 * The region joins a key, NULL for its private one, and leaves the key that it had, if any. On
 * failure nothing has changed.
 */
int region_join(struct pkeyguard_region *region, struct pkeyguard_key *key) NEEDS_LIBRARY_LOCK;

/* From now on the region is found by its addresses. It has its memory and its key. */
void region_publish(struct pkeyguard_region *region) NEEDS_LIBRARY_LOCK;

/* Ends a region whose memory is unmapped, or its owner's again: it leaves its key. */
void region_end_record(struct pkeyguard_region *region) NEEDS_LIBRARY_LOCK;

/* -EBUSY: a software guard on the region alone is open. Takes the lock. */
int region_check_unused(const struct pkeyguard_region *region);

/* -EINVAL: not page rights; -ENOTSUP: page rights that no region of this key can have. */
int region_check_prot(int prot, const struct pkeyguard_key *key);

/* In a fork child: a region that fork did not copy is found by no address any more. */
void region_forget_unmapped(void) NEEDS_LIBRARY_LOCK;

#endif
