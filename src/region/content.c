/* SPDX-License-Identifier: MIT */
#include "region/content.h"

#include <string.h>
#include <sys/mman.h>

#include "base/os.h"

int content_open(struct pkeyguard_region *region, struct pkru_change *ret_change)
{
    struct pkeyguard_key *key = region->head.key;
    int prot = region->pages.prot;
    int error = region_set_prot(region, PROT_READ | PROT_WRITE);

    if (error != 0)
        return error;
    error = key->enforcement->enter(key, &region->pages, PKEYGUARD_READ_WRITE, GUARD_WIDENS,
                                    ret_change);
    if (error != 0 && region_set_prot(region, prot) != 0)
        pages_abort_unrestored();
    return error;
}

int content_close(struct pkeyguard_region *region, const struct pkru_change *change)
{
    struct pkeyguard_key *key = region->head.key;

    return key->enforcement->leave(key, &region->pages, PKEYGUARD_READ_WRITE, GUARD_WIDENS, change);
}

/*
 * Secret memory cannot be locked and need not be: nothing takes it away once it is there. A region
 * with an annex is locked as it comes into use.
 */
int content_populate(const struct pkeyguard_region *region)
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

void content_wipe(const struct pkeyguard_region *region)
{
    explicit_bzero(region->pages.address, region->used);
    if (region->annex != 0)
        explicit_bzero(region_annex(region), region->annex_used);
}

/* Only dedicated keys have sealed regions, and their guards do not fail. */
void content_wipe_sealed(struct pkeyguard_region *region)
{
    struct pkeyguard_key *key = region->head.key;
    struct pkru_change change;

    if (region->pages.prot & PROT_WRITE &&
        key->enforcement->enter(key, &region->pages, PKEYGUARD_READ_WRITE, GUARD_WIDENS, &change) ==
            0) {
        content_wipe(region);
        (void)content_close(region, &change);
    }
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
    int error = lock_more(region, region->pages.address, region->used, used);

    if (error == 0)
        error = lock_more(region, region_annex(region), region->annex_used, annex_used);
    if (error != 0)
        return error;
    region->used = used;
    region->annex_used = annex_used;
    return 0;
}
