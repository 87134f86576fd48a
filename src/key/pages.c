/* SPDX-License-Identifier: MIT */
#include "key/pages.h"

#include <sys/mman.h>

#include "base/os.h"

bool pages_absent(const struct pages *pages)
{
    return pages->not_forked && pages->forks != library_forks();
}

void pages_abort_unrestored(void)
{
    os_abort("cannot restore page rights after a failed change", NULL);
}

static int protect_range(char *start, const char *end, int prot, int pkey, bool with_pkey)
{
    /* A machine without PKU refuses pkey_mprotect(2) even with pkey 0. */
    if (with_pkey)
        return os_protect_with_pkey(start, (size_t)(end - start), prot, pkey);
    return os_protect(start, (size_t)(end - start), prot);
}

static int protect_pages(const struct pages *pages, int prot, int pkey, bool with_pkey)
{
    char *start = pages_start(pages), *end = start + pages_span(pages);
    char *gap = pages->address + pages->gap;
    int error;

    if (pages_absent(pages))
        return 0;
    if (pages->gap == 0)
        return protect_range(start, end, prot, pkey, with_pkey);
    error = protect_range(start, gap, prot, pkey, with_pkey);
    if (error != 0)
        return error;
    return protect_range(gap + os_page_size(), end, prot, pkey, with_pkey);
}

int pages_protect(struct pages *pages, int prot, int pkey)
{
    bool with_pkey = pkey != 0 || pages->pkey != 0;
    int error = protect_pages(pages, prot, pkey, with_pkey);

    if (error != 0) {
        if (protect_pages(pages, pages->applied, pages->pkey, with_pkey) != 0)
            pages_abort_unrestored();
        return error;
    }
    pages->applied = prot;
    pages->pkey = pkey;
    return 0;
}

int pages_tag(struct pages *pages, int pkey)
{
    int error = protect_pages(pages, pages->prot, pkey, true);

    pages->pkey = pkey;
    if (error == 0)
        pages->applied = pages->prot;
    return error;
}

int pages_close(struct pages *pages)
{
    int error = protect_pages(pages, PROT_NONE, 0, pages->pkey != 0);

    if (error == 0) {
        pages->applied = PROT_NONE;
        pages->pkey = 0;
    }
    return error;
}
