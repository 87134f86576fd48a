/* SPDX-License-Identifier: MIT */
#include "key/pages.h"

#include <sys/mman.h>

#include "base/lock.h"
#include "base/os.h"

bool pages_absent(const struct pages *pages)
{
    return pages->not_forked && pages->forks != library_forks();
}

static int protect_run(char *start, const char *end, int prot, int pkey, bool any_pkey)
{
    /* Machines without PKU refuse pkey_mprotect(2) even with pkey 0. */
    if (any_pkey)
        return os_protect_with_pkey(start, (size_t)(end - start), prot, pkey);
    return os_protect(start, (size_t)(end - start), prot);
}

static int protect(const struct pages *pages, int prot, int pkey, bool any_pkey)
{
    char *start = pages_start(pages), *end = start + pages_span(pages);
    char *gap = pages->address + pages->gap;
    int error;

    if (pages_absent(pages))
        return 0;
    if (pages->gap == 0)
        return protect_run(start, end, prot, pkey, any_pkey);
    error = protect_run(start, gap, prot, pkey, any_pkey);
    if (error != 0)
        return error;
    return protect_run(gap + os_page_size(), end, prot, pkey, any_pkey);
}

int pages_protect(struct pages *pages, int prot, int pkey)
{
    bool any_pkey = pkey != 0 || pages->pkey != 0;
    int error = protect(pages, prot, pkey, any_pkey);

    if (error != 0) {
        if (protect(pages, pages->applied, pages->pkey, any_pkey) != 0)
            os_abort("the kernel refuses to take page rights back", NULL);
        return error;
    }
    pages->applied = prot;
    pages->pkey = pkey;
    return 0;
}

int pages_tag(struct pages *pages, int pkey)
{
    int error = protect(pages, pages->prot, pkey, true);

    pages->pkey = pkey;
    if (error == 0)
        pages->applied = pages->prot;
    return error;
}

int pages_close(struct pages *pages)
{
    int error = protect(pages, PROT_NONE, 0, pages->pkey != 0);

    if (error == 0) {
        pages->applied = PROT_NONE;
        pages->pkey = 0;
    }
    return error;
}
