/* SPDX-License-Identifier: MIT */
#include "key/pages.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/os.h"

void pages_abort_unrestored(void)
{
    os_abort("cannot restore page rights after a failed change", NULL);
}

/* with_pkey: use pkey_mprotect(2). A machine without PKU refuses that call, even with pkey 0. */
static int protect_part(char *start, const char *end, int prot, int pkey, bool with_pkey)
{
    size_t length = (size_t)(end - start);

    return with_pkey ? os_protect_with_pkey(start, length, prot, pkey)
                     : os_protect(start, length, prot);
}

/* As protect_parts(), for pages with a gap. */
static int protect_around_gap(const struct pages *pages, int prot, int pkey, bool with_pkey,
                              size_t *ret_done)
{
    char *start = pages_start(pages), *end = start + pages_span(pages);
    char *gap = pages->address + pages->gap;
    int error = protect_part(start, gap, prot, pkey, with_pkey);

    if (error != 0)
        return error;
    start = gap + os_page_size();
    *ret_done = (size_t)(start - pages_start(pages));
    return protect_part(start, end, prot, pkey, with_pkey);
}

/* *ret_done: after a failure, the bytes before the part at which the kernel stopped. */
static inline int protect_parts(const struct pages *pages, int prot, int pkey, bool with_pkey,
                                size_t *ret_done)
{
    char *start = pages_start(pages);

    *ret_done = 0;
    if (pages_absent(pages))
        return 0;
    if (pages->gap != 0)
        return protect_around_gap(pages, prot, pkey, with_pkey, ret_done);
    return protect_part(start, start + pages_span(pages), prot, pkey, with_pkey);
}

static int protect_pages(const struct pages *pages, int prot, int pkey, bool with_pkey)
{
    size_t unused;

    return protect_parts(pages, prot, pkey, with_pkey, &unused);
}

int pages_protect_mapped(const struct pages *pages, int prot, int pkey)
{
    size_t page = os_page_size();
    int first_error = 0;

    for (char *at = pages->address; at < pages->address + pages->length; at += page) {
        int error = pkey != 0 || pages->pkey != 0 ? os_protect_with_pkey(at, page, prot, pkey)
                                                  : os_protect(at, page, prot);

        if (error != 0 && first_error == 0 && os_is_mapped(at, page))
            first_error = error;
    }
    return first_error;
}

static bool all_mapped(const struct pages *pages)
{
    return os_is_mapped(pages_start(pages), pages_span(pages));
}

/* What a hole stops half-way is done page by page. */
static inline NEEDS_LIBRARY_LOCK int take_rights_away(const struct pages *pages, int prot, int pkey,
                                                      bool with_pkey, size_t *ret_done)
{
    int error = protect_parts(pages, prot, pkey, with_pkey, ret_done);

    return error == -ENOMEM && !all_mapped(pages) ? pages_protect_mapped(pages, prot, pkey) : error;
}

/*
 * Undoes a change that failed and may have reached some of the pages. If a sandbox refuses this
 * call too, it has also refused the change, so no page has changed. If a page is not mapped, the
 * kernel stops at that page both times.
 */
static void undo_protect(struct pages *pages, int before, bool more_open, bool with_pkey)
{
    if (before != PAGES_CHANGING &&
        protect_pages(pages, before, pages->pkey, with_pkey) == -ENOMEM && more_open &&
        all_mapped(pages))
        pages_abort_unrestored();
    to_write(pages)->applied = before;
}

static void note_protect(struct pages *written, int prot, int pkey)
{
    written->pkey = pkey;
    if (prot & PROT_WRITE)
        written->ever_writable = true;
    written->applied = prot;
}

int pages_protect(struct pages *pages, int prot, int pkey)
{
    struct pages *written = to_write(pages);
    bool with_pkey = pkey != 0 || pages->pkey != 0;
    int before = pages->applied, error;
    bool more_open = (prot & ~before) != 0 || pkey != pages->pkey;
    size_t unused;

    written->applied = PAGES_CHANGING;
    error = more_open && prot != PROT_NONE
                ? protect_pages(pages, prot, pkey, with_pkey)
                : take_rights_away(pages, prot, pkey, with_pkey, &unused);
    if (error == 0)
        note_protect(written, prot, pkey);
    else
        undo_protect(pages, before, more_open, with_pkey);
    if (error == 0 && prot & PROT_READ && pages->on_opened != NULL && !pages_absent(pages))
        pages->on_opened(pages);
    return error;
}

/* True if this error says that nothing has changed: the first call was refused. */
static bool is_refusal(int error, size_t done)
{
    return error == -EACCES && done == 0;
}

int pages_tag(struct pages *pages, int pkey)
{
    struct pages *written = to_write(pages);
    int before = pages->applied, error;
    size_t done;

    written->applied = PAGES_CHANGING;
    written->pkey = pkey;
    error = protect_parts(pages, pages->prot, pkey, true, &done);
    if (error == 0)
        note_protect(written, pages->prot, pkey);
    else if (is_refusal(error, done))
        written->applied = before;
    return error;
}

int pages_close(struct pages *pages)
{
    struct pages *written = to_write(pages);
    int before = pages->applied, error;
    size_t done;

    written->applied = PAGES_CHANGING;
    error = take_rights_away(pages, PROT_NONE, 0, pages->pkey != 0, &done);
    if (error == 0)
        note_protect(written, PROT_NONE, 0);
    else if (is_refusal(error, done))
        written->applied = before;
    return error;
}
