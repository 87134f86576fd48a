/* SPDX-License-Identifier: MIT */
/* pages.h - a region's run of whole pages, and what the kernel knows of it */
#ifndef PAGES_H
#define PAGES_H

#include <stdatomic.h>
#include <stddef.h>

#include "holds.h"
#include "list.h"

struct pages {
    void *address;
    size_t length;
    atomic_int prot; /* the page rights the region asks for */
    int applied;     /* the page rights the kernel has; mprotect enforcement lowers them */
    int pkey;        /* the pkey they carry; 0: none */
    struct holds held;
    struct list of_key;
};

/*
 * Sets page rights and pkey in one step. Returns -ENOMEM or -EACCES with both as they were; aborts
 * if the kernel, having changed some of the pages, will not change them back.
 */
int pages_protect(struct pages *pages, int prot, int pkey);

#endif
