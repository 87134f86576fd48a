/* SPDX-License-Identifier: MIT */
#include "region/mapping.h"

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#include "base/os.h"
#include "base/process.h"

/*
 * With these flags guard pages are separate mappings. A guard inside the mapping
 * (MADV_GUARD_INSTALL) would not do: the kernel drops it in a child whose memory it wipes, lets the
 * program remove it from a sealed mapping, and refuses it in locked and secret memory.
 */
enum {
    GUARDS_APART = PKEYGUARD_REGION_SECRET | PKEYGUARD_REGION_LOCKED | PKEYGUARD_REGION_FORK_WIPE |
                   PKEYGUARD_REGION_SEALED
};

/* Where pages are 4 KiB. */
enum { HUGE_PAGE = 2 << 20 };

/*
 * If the kernel refuses such guards for this mapping, ordinary pages without page rights serve
 * instead: those reserved around the region, and the page before its annex.
 */
static int install_guards(struct pkeyguard_region *region)
{
    struct pages *pages = &region->pages;
    int error = os_install_guard(pages->address - region->guard_size, region->guard_size);

    if (error == 0)
        error = os_install_guard(pages->address + pages->length, region->guard_size);
    if (error == 0 && pages->gap != 0)
        error = os_install_guard(pages->address + pages->gap, os_page_size());
    if (error == 0) {
        pages->margin = region->guard_size;
        pages->gap = 0;
    }
    return error == -ENOTSUP ? 0 : error;
}

/* Does what the flags ask, before any thread can reach the memory. */
static int apply_flags(struct pkeyguard_region *region, unsigned flags, bool guards_inside)
{
    struct pages *pages = &region->pages;
    int error = 0;

    if (flags & PKEYGUARD_REGION_SECRET)
        error = os_reserve_secret(pages->address, pages->length);
    if (error == 0 && guards_inside)
        error = install_guards(region);
    if (error == 0 && flags & PKEYGUARD_REGION_HUGE_PAGES)
        error = os_prefer_huge_pages(mapping_start(region), mapping_length(region));
    if (error == 0 && !(flags & PKEYGUARD_REGION_DUMPABLE))
        error = os_exclude_from_dumps(pages_start(pages), pages_span(pages));
    if (error == 0)
        error = os_never_merge(pages_start(pages), pages_span(pages));
    if (error == 0 && flags & PKEYGUARD_REGION_FORK_WIPE)
        error = os_wipe_on_fork(pages->address, pages->length);
    if (error == 0 && flags & (PKEYGUARD_REGION_NO_FORK | PKEYGUARD_REGION_SECRET)) {
        error = os_unmap_on_fork(mapping_start(region), mapping_length(region));
        pages->only_process = process_number();
    }
    return error;
}

static bool round_to_pages(size_t size, size_t *ret_length)
{
    size_t page = os_page_size();

    if (size == 0 || __builtin_add_overflow(size, page - 1, ret_length))
        return false;
    *ret_length -= *ret_length % page;
    return true;
}

/* Computes the offset of each part from the first page. Returns false if a size is too large. */
static bool lay_out(struct pkeyguard_region *region, size_t size, size_t annex_size)
{
    size_t page = os_page_size(), annex_length;
    struct pages *pages = &region->pages;

    region->size = size;
    if (!round_to_pages(size, &pages->length))
        return false;
    /* With 0 the inline guards leave it to guard.c to check bounds and alignment. */
    region->head.size =
        region->flags & PKEYGUARD_REGION_END_ALIGNED && size != pages->length ? 0 : size;
    region->used = pages->length;
    if (annex_size == 0)
        return true;
    region->used = 0;
    pages->gap = pages->length;
    region->annex = pages->length + page;
    return round_to_pages(annex_size, &annex_length) &&
           !__builtin_add_overflow(annex_length, page, &annex_length) &&
           !__builtin_add_overflow(pages->length, annex_length, &pages->length);
}

/*
 * If a region starts at a multiple of a huge page's size, huge pages can serve its whole parts. A
 * heap's region, which has an annex, commits little memory at a time, so only if it is asked for.
 */
static size_t alignment_of(const struct pkeyguard_region *region)
{
    bool whole = region->annex == 0 || region->flags & PKEYGUARD_REGION_HUGE_PAGES;

    return whole && region->pages.length >= HUGE_PAGE ? HUGE_PAGE : os_page_size();
}

static int unmap_unless_empty(char *start, const char *end)
{
    return start == end ? 0 : os_unmap(start, (size_t)(end - start));
}

/*
 * Reserves address space for the region and its guard pages, and sets its address. Leaves at least
 * `apart` bytes after it unmapped.
 */
static int reserve_aligned(struct pkeyguard_region *region, bool committed, size_t apart)
{
    size_t alignment = alignment_of(region), reserved;
    size_t more = 2 * region->guard_size + alignment - os_page_size() + apart;
    char *all, *start, *end;
    void *address;
    int error;

    if (__builtin_add_overflow(region->pages.length, more, &reserved))
        return -EINVAL;
    error = committed ? os_reserve(reserved, &address) : os_reserve_uncommitted(reserved, &address);
    if (error != 0)
        return error;
    all = address;
    end = all + reserved;
    start = all + (alignment - 1 - ((uintptr_t)all + region->guard_size - 1) % alignment);
    error = unmap_unless_empty(all, start);
    if (error != 0) {
        os_unmap(all, reserved);
        return error;
    }
    error = unmap_unless_empty(start + mapping_length(region), end);
    if (error != 0)
        os_unmap(start, (size_t)(end - start));
    region->pages.address = region->head.address = start + region->guard_size;
    if (region->flags & PKEYGUARD_REGION_END_ALIGNED)
        region->head.address += region->pages.length - region->size;
    return error;
}

int mapping_create(struct pkeyguard_region *region, size_t size, size_t annex_size, unsigned flags)
{
    bool guarded = !(flags & PKEYGUARD_REGION_NO_GUARD_PAGES);
    bool guards_inside = guarded && !(flags & GUARDS_APART) && os_has_guards();
    int error;

    region->guard_size = guarded ? os_page_size() : 0;
    if (!lay_out(region, size, annex_size))
        return -EINVAL;
    error = reserve_aligned(region, annex_size == 0, guards_inside ? os_page_size() : 0);
    if (error != 0)
        return error;
    region->pages.applied = PROT_NONE;
    if (annex_size != 0)
        os_commit_on_use(mapping_start(region), mapping_length(region));
    error = apply_flags(region, flags, guards_inside);
    if (error != 0)
        os_unmap(mapping_start(region), mapping_length(region));
    return error;
}

int mapping_seal(const struct pkeyguard_region *region)
{
    return os_seal(mapping_start(region), mapping_length(region));
}

static NEEDS_LIBRARY_LOCK int give_back(struct pkeyguard_region *region)
{
    struct pages *pages = &region->pages;
    int error = pages_protect(pages, region->prot_before, 0);

    if (error != -ENOMEM || os_is_mapped(pages->address, pages->length))
        return error;
    (void)pages_protect_mapped(pages, region->prot_before, 0);
    return -ESTALE;
}

int mapping_give_up(struct pkeyguard_region *region)
{
    if (pages_absent(&region->pages))
        return 0;
    if (region->adopted)
        return give_back(region);
    return os_unmap(mapping_start(region), mapping_length(region));
}
