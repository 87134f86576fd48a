/* SPDX-License-Identifier: MIT */
/* pages.h - a region's pages, and what the kernel enforces on them */
#ifndef PAGES_H
#define PAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/list.h"
#include "base/lock.h"
#include "base/process.h"
#include "key/guard_counts.h"

struct pages {
    /* Set when the region is made. */
    char *address;
    size_t length;
    size_t margin; /* bytes at each end of the mapping that are guard pages */
    size_t gap;    /* the offset of a guard page inside; 0: there is none */
    /* the process that has these pages, as process_number(); 0: and its fork children */
    unsigned only_process;

    /* Written under the library's lock. The functions of fault.h read them without it. */
    atomic_int prot;    /* the page rights that the region asks for */
    atomic_int applied; /* the page rights that the kernel has; mprotect enforcement lowers them.
                           PAGES_CHANGING: unknown, because a change is not over */
    atomic_int pkey;    /* the pkey that the kernel has for the pages; 0: none */
    atomic_int allowed; /* the rights of every thread while the pages have no pkey */

    /* Under the library's lock. */
    bool ever_writable;         /* true if the page rights ever allowed a write */
    struct guard_counts guards; /* the software guards on these pages alone */
    struct list of_key;         /* a member of key->pages, or a list of its own */
    /* called after mprotect(2) has made the pages readable or writable; NULL: nothing is */
    void (*on_opened)(const struct pages *pages);
};

/*
 * The functions below record this before they ask the kernel. A fork child finds it if another
 * thread of its parent was there.
 */
enum { PAGES_CHANGING = -1 };

/* The start of the mapping, including the margin. The kernel is told of the whole mapping. */
static inline char *pages_start(const struct pages *pages)
{
    return pages->address - pages->margin;
}

static inline size_t pages_span(const struct pages *pages)
{
    return pages->length + 2 * pages->margin;
}

/* True in a fork child that did not get the pages. Nothing may access their address there. */
static inline bool pages_absent(const struct pages *pages)
{
    return !process_has(pages->only_process);
}

/* Aborts, because the page rights are neither the old ones nor the new ones. */
__attribute__((noreturn, cold)) void pages_abort_unrestored(void);

/*
 * Sets page rights and pkey in one step. If the pages are absent, it only records them. On -ENOMEM
 * and -EACCES both are unchanged. It aborts if some pages are more open than before and the kernel
 * refuses to change them back. If the owner of adopted memory has unmapped some of it, a change
 * that only removes page rights applies to the rest.
 */
int pages_protect(struct pages *pages, int prot, int pkey) NEEDS_LIBRARY_LOCK;

/*
 * Both expect a pkey that every thread has closed. pages_tag() gives the pages this pkey and the
 * page rights that the region asks for. pages_close() removes the pkey and all page rights, from
 * the pages that are still mapped. After a failure some of the pages may have changed, and
 * pages->pkey is this pkey, never 0. If certainly none has changed, pages->applied is as before.
 */
int pages_tag(struct pages *pages, int pkey) NEEDS_LIBRARY_LOCK;
int pages_close(struct pages *pages) NEEDS_LIBRARY_LOCK;

/* Gives each mapped page these page rights and this pkey. Skips pages that are not mapped. Returns
 * the first error of the others. */
int pages_protect_mapped(const struct pages *pages, int prot, int pkey) NEEDS_LIBRARY_LOCK;

#endif
