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
 * The members of `pages` state their own rules. The others are set when the region is made. Later
 * they change only in calls during which the caller promises no other use of the region: associate,
 * name, destroy.
 */
struct pkeyguard_region {
    struct pkeyguard_region_head head;
    struct pages pages;
    size_t size;             /* bytes asked for */
    size_t guard_size;       /* bytes of guard pages on each side */
    size_t annex;            /* the offset of the annex, behind an inaccessible page; 0: no annex */
    size_t used, annex_used; /* how many bytes of each part, from its start, may hold content */
    unsigned flags;
    bool sealed;
    bool adopted;                     /* true if the program mapped the memory */
    int prot_before;                  /* the page rights of the memory when it was adopted */
    struct pkeyguard_key private_key; /* used while head.key points to it */
    char name[REGION_NAME_SIZE];      /* empty: none */
};
_Static_assert(sizeof(struct pkeyguard_region_head) ==
                       4 * sizeof(void *) + sizeof(struct pkeyguard_key_head) &&
                   offsetof(struct pkeyguard_region, head) == 0,
               "frozen for the ABI");

/*
 * Every region of this process, by the addresses of its pages and guard pages. It changes under the
 * library's lock; fault.h's functions search it without.
 */
extern struct registry region_registry;

/*
 * Moves the region to a key, or to its private key if the key is NULL. On failure nothing has
 * changed.
 */
int region_join(struct pkeyguard_region *region, struct pkeyguard_key *key) NEEDS_LIBRARY_LOCK;

/* From now on the region is found by its addresses. It has its memory and its key. */
void region_publish(struct pkeyguard_region *region) NEEDS_LIBRARY_LOCK;

/*
 * Removes a region from its key and frees its record. Its memory is unmapped, or belongs to its
 * owner again.
 */
void region_end_record(struct pkeyguard_region *region) NEEDS_LIBRARY_LOCK;

/* Returns 0, or -EBUSY if a software guard on the region alone is open. Takes the lock. */
int region_check_unused(const struct pkeyguard_region *region);

/*
 * True if a guard of the calling thread keeps the region open for writing where there is no PKU, so
 * that a further guard would change nothing. May be false although one does. Takes no lock.
 */
bool region_open_by_own_software_guard(const struct pkeyguard_region *region);
static inline bool region_open_by_own_guard(const struct pkeyguard_region *region)
{
    return region->head.open_size == 0 && region_open_by_own_software_guard(region);
}

/* Returns 0; -EINVAL: not page rights; -ENOTSUP: a region of this key cannot have them. */
int region_check_prot(int prot, const struct pkeyguard_key *key);

/*
 * For pages that may have to get the page rights `needed` again. Returns 0, or -EACCES if they
 * would lose PROT_EXEC for good: the process may not make memory executable, and `prot` lacks that
 * right, or keys of this kind take it while they are closed.
 */
int region_check_code(int needed, int prot, const struct pkeyguard_key *key);

/*
 * Runs in a fork child: finishes or undoes what another thread was changing in a region, and
 * withdraws the regions that fork did not copy.
 */
void region_forget_unmapped(void) NEEDS_LIBRARY_LOCK;

#endif
