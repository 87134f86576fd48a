/* SPDX-License-Identifier: MIT */
#include "region/parts.h"

#include <sys/mman.h>

#include "base/os.h"
#include "base/record_memory.h"
#include "region/content.h"

/* In a fork child of another thread the region has to be closed: region_forget_unmapped(). */
bool region_parts_begin(struct region_parts *parts, struct pkeyguard_region *region)
{
    struct pages *pages = &region->pages;

    if (region->head.key->enforcement != &mprotect_enforcement || pages->applied != PROT_NONE ||
        pages->prot != (PROT_READ | PROT_WRITE) || pages->pkey != 0 || pages_absent(pages))
        return false;
    *parts = (struct region_parts){.region = region};
    to_write(pages)->applied = PAGES_CHANGING;
    return true;
}

static NEEDS_LIBRARY_LOCK int open_pages(struct region_parts *parts, char *start, char *end)
{
    /* First: after a failure some of the pages may be open. */
    if (parts->start == NULL || start < parts->start)
        parts->start = start;
    if (end > parts->end)
        parts->end = end;
    return os_protect(start, (size_t)(end - start), PROT_READ | PROT_WRITE);
}

int region_parts_open(struct region_parts *parts, const void *start, size_t size)
{
    struct pages *pages = &parts->region->pages;
    size_t offset = (size_t)((const char *)start - pages->address);
    size_t before = offset % os_page_size(), last = (offset + size - 1) / os_page_size();

    return open_pages(parts, pages->address + offset - before,
                      pages->address + (last + 1) * os_page_size());
}

/* With the guard page behind it, which may be in the same mapping: then that is split once less. */
int region_parts_open_annex(struct region_parts *parts)
{
    char *annex = region_annex(parts->region);
    const struct pages *pages = &parts->region->pages;

    return open_pages(parts, annex, pages_start(pages) + pages_span(pages));
}

/* The kernel skips the mappings between the parts, which are closed. */
void region_parts_end(struct region_parts *parts)
{
    if (parts->start != NULL &&
        os_protect(parts->start, (size_t)(parts->end - parts->start), PROT_NONE) != 0)
        os_abort("a heap cannot be closed again", NULL);
    to_write(&parts->region->pages)->applied = PROT_NONE;
}
