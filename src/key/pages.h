/* SPDX-License-Identifier: MIT */
/* pages.h - a region's whole pages, and what the kernel knows of them */
#ifndef PAGES_H
#define PAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "base/lock.h"
#include "key/guard_counts.h"

struct pages {
    /* Set when the region is made. */
    char *address;
    size_t length;
    size_t margin;    /* bytes on each side that share the mapping: guard pages inside it */
    size_t gap;       /* the offset of a page inside that never gets rights; 0: there is none */
    bool not_forked;  /* a fork child does not have them */
    unsigned process; /* process_number() of the one that made them */

    /* Written under the library's lock; fault.h's functions read them without. */
    atomic_int prot;    /* the page rights that the region asks for */
    atomic_int applied; /* the page rights that the kernel has; mprotect enforcement lowers them */
    atomic_int pkey;    /* the pkey that the kernel has for them; 0: none */
    atomic_int allowed; /* every thread's rights while they have no pkey; PKRU says else */

    /* Under the library's lock. */
    bool ever_writable;         /* the kernel let somebody write to them, if the key was open */
    struct guard_counts guards; /* software guards on them alone, not on the whole key */
    struct list of_key;         /* in the list of their key, or by itself */
};

/* The pages with their margins: what the kernel is told of. */
static inline char *pages_start(const struct pages *pages)
{
    return pages->address - pages->margin;
}

static inline size_t pages_span(const struct pages *pages)
{
    return pages->length + 2 * pages->margin;
}

/* True in a fork child that does not have them. Nothing may touch their address there. */
bool pages_absent(const struct pages *pages);

/* Aborts: page rights are neither as they were nor as they should be. */
__attribute__((noreturn, cold)) void pages_abort_unrestored(void);

/*
 * Sets page rights and pkey in one step. Where the pages are absent it only notes them. On failure
 * returns -ENOMEM or -EACCES with both as they were. It aborts if some of the pages are then more
 * open than they were, and the kernel does not change them back.
 */
int pages_protect(struct pages *pages, int prot, int pkey) NEEDS_LIBRARY_LOCK;

/*
 * For a pkey that every thread has closed: pages_tag() gives it to the pages, with the page rights
 * that the region asks for; pages_close() takes it away, with all page rights. On failure some of
 * the pages may have changed, and pages->pkey stays or becomes the pkey, never 0.
 */
int pages_tag(struct pages *pages, int pkey) NEEDS_LIBRARY_LOCK;
int pages_close(struct pages *pages) NEEDS_LIBRARY_LOCK;

/* Page by page: these page rights and no pkey, where there is a mapping. */
void pages_give_back_each(const struct pages *pages, int prot) NEEDS_LIBRARY_LOCK;

#endif
