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

/* A machine without PKU refuses pkey_mprotect(2) even with pkey 0, so that is not always used. */
static int protect_pages(const struct pages *pages, int prot, int pkey, bool with_pkey)
{
    size_t length = pages_span(pages), page = os_page_size();
    size_t first = pages->gap == 0 ? length : pages->margin + pages->gap; /* before the gap */
    char *start = pages_start(pages);
    int error;

    if (pages_absent(pages))
        return 0;
    for (size_t done = 0, part = first; done < length; done += part + page, part = length - done) {
        error = with_pkey ? os_protect_with_pkey(start + done, part, prot, pkey)
                          : os_protect(start + done, part, prot);
        if (error != 0)
            return error;
    }
    return 0;
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
