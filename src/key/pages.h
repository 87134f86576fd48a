/* SPDX-License-Identifier: MIT */
/* pages.h - a region's whole pages, and what the kernel knows of them */
#ifndef PAGES_H
#define PAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "key/guard_counts.h"
#include "base/list.h"

struct pages {
    char *address;
    size_t length;
    size_t margin;      /* bytes on each side that share the mapping: guard pages inside it */
    size_t gap;         /* the offset of a page among them that never gets rights; 0: none */
    bool not_forked;    /* a fork child does not have them */
    unsigned forks;     /* library_forks() of the process that made them */
    atomic_int prot;    /* the page rights the region asks for */
    atomic_int applied; /* the page rights the kernel has; mprotect enforcement lowers them */
    atomic_int pkey;    /* the pkey they carry; 0: none */
    atomic_int allowed; /* everyone's rights while they carry no pkey; else PKRU has them */
    struct guard_counts held;
    struct list of_key;
};

/* The run with its margins: what the kernel is told of. */
static inline char *pages_start(const struct pages *pages)
{
    return pages->address - pages->margin;
}

static inline size_t pages_span(const struct pages *pages)
{
    return pages->length + 2 * pages->margin;
}

/* Whether this process is a fork child that does not have them: nothing may touch that address. */
bool pages_absent(const struct pages *pages);

/*
 * Sets page rights and pkey in one step; where the pages are absent, only notes them. Returns
 * -ENOMEM or -EACCES with both as they were; aborts if the kernel, having changed some of the
 * pages, will not change them back.
 */
int pages_protect(struct pages *pages, int prot, int pkey);

/*
 * The same with no way back, for a pkey that every thread has closed. On failure some of the pages
 * may have changed: pages->pkey stays or becomes the pkey, never 0.
 */
int pages_tag(struct pages *pages, int pkey);
int pages_close(struct pages *pages);

#endif
