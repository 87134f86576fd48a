/* SPDX-License-Identifier: MIT */
/* region_private.h - a region as guards see it, behind its frozen head */
#ifndef REGION_PRIVATE_H
#define REGION_PRIVATE_H

#include <stddef.h>

#include <pkeyguard/region.h>

#include "enforcement.h"
#include "registry.h"

enum { REGION_NAME_SIZE = 64 };

struct pkeyguard_region {
    struct pkeyguard_region_head head;
    struct pages pages;
    size_t guard_size; /* bytes reserved on each side */
    bool sealed;
    bool adopted;    /* the memory is somebody else's, and stays it */
    int prot_before; /* its page rights when it was adopted */
    struct list of_process;
    struct pkeyguard_key private_key; /* in use while head.key points to it */
    char name[REGION_NAME_SIZE];      /* empty: none */
};
_Static_assert(sizeof(struct pkeyguard_region_head) == 3 * sizeof(void *) &&
                   offsetof(struct pkeyguard_region, head) == 0,
               "frozen for the ABI");

/* Every region, by the addresses of its pages and guard pages. */
extern struct registry region_registry;

#endif
