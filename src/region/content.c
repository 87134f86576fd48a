/* SPDX-License-Identifier: MIT */
#include "region/content.h"

#include <string.h>
#include <sys/mman.h>

#include "base/os.h"
#include "region/slack.h"

/*
 * Secret memory needs no mlock(2), and cannot have it: the kernel never swaps it. A region with an
 * annex locks its memory as it comes into use.
 */
static int populate(const struct pkeyguard_region *region)
{
    const struct pages *pages = &region->pages;
    int error;

    if (!(region->flags & PKEYGUARD_REGION_SECRET))
        return region->flags & PKEYGUARD_REGION_LOCKED && region->annex == 0
                   ? os_lock(pages->address, pages->length)
                   : 0;
    if (region->annex == 0)
        return os_touch(pages->address, pages->length);
    error = os_touch(pages->address, region->annex - os_page_size());
    return error != 0 ? error : os_touch(region_annex(region), pages->length - region->annex);
}

static void wipe_open(const struct pkeyguard_region *region)
{
    os_wipe(region->pages.address, region->used);
    if (region->annex != 0)
        os_wipe(region_annex(region), region->annex_used);
}

int content_fill(struct pkeyguard_region *region, const void *content, bool *ret_still_open)
{
    struct pkru_change change;
    int error = key_open_pages(region->head.key, &region->pages, &change), not_closed;

    if (error != 0) {
        *ret_still_open = false;
        return error;
    }
    error = populate(region);
    if (error == 0)
        slack_fill(region);
    if (error == 0 && content != NULL)
        memcpy(region->head.address, content, region->size);
    not_closed = key_close_pages(region->head.key, &region->pages, &change);
    if (error == 0 && not_closed != 0)
        wipe_open(region);
    *ret_still_open = not_closed != 0;
    return error != 0 ? error : not_closed;
}

int content_wipe(struct pkeyguard_region *region, bool *ret_still_open)
{
    struct pkeyguard_key *key = region->head.key;
    struct pkru_change change;
    int error;

    *ret_still_open = false;
    if (region->adopted || pages_absent(&region->pages) || !region->pages.ever_writable ||
        (region->sealed && !(region->pages.prot & PROT_WRITE)))
        return 0;
    error = region->sealed ? key->enforcement->enter(key, &region->pages, PKEYGUARD_READ_WRITE,
                                                     GUARD_WIDENS, &change)
                           : key_open_pages(key, &region->pages, &change);
    if (error != 0)
        return error;
    slack_require_intact(region);
    wipe_open(region);
    *ret_still_open = key_close_pages(key, &region->pages, &change) != 0;
    return 0;
}

void *region_annex(const struct pkeyguard_region *region)
{
    return region->pages.address + region->annex;
}

static int lock_more(const struct pkeyguard_region *region, char *start, size_t before, size_t used)
{
    if (!(region->flags & PKEYGUARD_REGION_LOCKED) || region->flags & PKEYGUARD_REGION_SECRET ||
        used <= before)
        return 0;
    before -= before % os_page_size();
    return os_lock(start + before, used - before);
}

int region_use(struct pkeyguard_region *region, size_t used, size_t annex_used)
{
    struct pkeyguard_region *written;
    int error = lock_more(region, region->pages.address, region->used, used);

    if (error == 0)
        error = lock_more(region, region_annex(region), region->annex_used, annex_used);
    if (error != 0)
        return error;
    /* The heap's lock keeps others from writing here, not the library's. */
    written = to_write(region);
    record_memory_open();
    written->used = used;
    written->annex_used = annex_used;
    record_memory_close();
    return 0;
}
