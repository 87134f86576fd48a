/* SPDX-License-Identifier: MIT */
#include "key/pages.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/os.h"
#include "base/process.h"

bool pages_absent(const struct pages *pages)
{
    return pages->not_forked && pages->process != process_number();
}

void pages_abort_unrestored(void)
{
    os_abort("cannot restore page rights after a failed change", NULL);
}

/* with_pkey: use pkey_mprotect(2). A machine without PKU refuses that call, even with pkey 0. */
static int protect_pages(const struct pages *pages, int prot, int pkey, bool with_pkey)
{
    size_t length = pages_span(pages), page = os_page_size();
    /* the part before the gap */
    size_t first = pages->gap == 0 ? length : pages->margin + pages->gap;
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

/*
 * Undoes a change that failed and may have reached some of the pages. If a sandbox refuses this
 * call too, it has also refused the change, so no page has changed. If a page is not mapped, the
 * kernel stops at that page both times.
 */
static void undo_protect(const struct pages *pages, int prot, int pkey, bool with_pkey)
{
    bool more_open = (prot & ~pages->applied) != 0 || pkey != pages->pkey;

    if (protect_pages(pages, pages->applied, pages->pkey, with_pkey) == -ENOMEM && more_open &&
        os_is_mapped(pages_start(pages), pages_span(pages)))
        pages_abort_unrestored();
}

static void note_protect(struct pages *pages, int prot, int pkey)
{
    pages->applied = prot;
    pages->pkey = pkey;
    if (prot & PROT_WRITE)
        pages->ever_writable = true;
}

int pages_protect(struct pages *pages, int prot, int pkey)
{
    bool with_pkey = pkey != 0 || pages->pkey != 0;
    int error = protect_pages(pages, prot, pkey, with_pkey);

    if (error == 0)
        note_protect(pages, prot, pkey);
    else
        undo_protect(pages, prot, pkey, with_pkey);
    return error;
}

int pages_tag(struct pages *pages, int pkey)
{
    int error = protect_pages(pages, pages->prot, pkey, true);

    pages->pkey = pkey;
    if (error == 0)
        note_protect(pages, pages->prot, pkey);
    return error;
}

int pages_close(struct pages *pages)
{
    int error = protect_pages(pages, PROT_NONE, 0, pages->pkey != 0);

    if (error == 0)
        note_protect(pages, PROT_NONE, 0);
    return error;
}

void pages_give_back_each(const struct pages *pages, int prot)
{
    size_t page = os_page_size();

    for (char *at = pages->address; at < pages->address + pages->length; at += page) {
        if (pages->pkey != 0)
            (void)os_protect_with_pkey(at, page, prot, 0);
        else
            (void)os_protect(at, page, prot);
    }
}
