/* SPDX-License-Identifier: MIT */
/*
 * Where the parts of a region lie in its mapping: mapping.c, with system calls that do as little as
 * the kernel promises. PAGE is the size of a page.
 */
#include "proof.h"
#include "region/mapping.c"

size_t os_page_size(void)
{
    return PAGE;
}

/* What the kernel gives, and what the library then unmaps. */
static struct {
    uintptr_t start;      /* any page */
    size_t length;        /* 0: nothing was asked for */
    uintptr_t kept_start; /* the library has unmapped what is outside of these two */
    uintptr_t kept_end;
    bool wrong; /* it unmapped nothing, or something in the middle */
} mapped;

static int map_any(size_t length, void **ret_address)
{
    mapped.length = length;
    mapped.kept_start = mapped.start;
    mapped.kept_end = mapped.start + length;
    *ret_address = (void *)mapped.start;
    return 0;
}

int os_reserve(size_t length, void **ret_address)
{
    return map_any(length, ret_address);
}

int os_reserve_uncommitted(size_t length, void **ret_address)
{
    return map_any(length, ret_address);
}

int os_unmap(void *address, size_t length)
{
    uintptr_t start = (uintptr_t)address;

    if (length == 0 || !is_aligned(start, PAGE) || !is_aligned(length, PAGE))
        mapped.wrong = true;
    if (start == mapped.kept_start && length < mapped.kept_end - start)
        mapped.kept_start += length;
    else if (start > mapped.kept_start && length == mapped.kept_end - start)
        mapped.kept_end = start;
    else
        mapped.wrong = true;
    return 0;
}

bool prove_round_to_pages(size_t size)
{
    size_t length = 0;

    if (!round_to_pages(size, &length))
        return size == 0 || size > SIZE_MAX - (PAGE - 1);
    return length >= size && length - size < PAGE && length % PAGE == 0;
}

/*
 * The region's bytes, an inaccessible page, the annex and nothing else are in the pages, in this
 * order; or the size is too large.
 */
bool prove_lay_out(size_t size, size_t annex_size, unsigned flags)
{
    struct pkeyguard_region region;
    unsigned __int128 sum = (unsigned __int128)size + annex_size;

    region.flags = flags;
    region.annex = region.pages.gap = 0;
    if (!lay_out(&region, size, annex_size))
        return size == 0 || sum > SIZE_MAX - 4 * (size_t)PAGE;
    if (region.size != size || region.pages.length % PAGE != 0 || region.pages.length < size)
        return false;
    if (region.head.size != 0 && region.head.size != size)
        return false;
    if (annex_size == 0)
        return region.pages.length - size < PAGE && region.used == region.pages.length &&
               region.annex == 0 && region.pages.gap == 0;
    return region.pages.gap >= size && region.pages.gap - size < PAGE &&
           region.annex == region.pages.gap + PAGE && region.annex % PAGE == 0 &&
           region.pages.length > region.annex && region.pages.length - region.annex >= annex_size &&
           region.pages.length - region.annex - annex_size < PAGE;
}

/*
 * The region's pages with a guard page on each side are inside what was reserved, begin at their
 * alignment, and are all that stays mapped. An END_ALIGNED region ends with its pages.
 */
bool prove_reserve_aligned(uintptr_t start, size_t length, size_t size, bool guarded, size_t annex,
                           unsigned flags, bool apart, bool committed)
{
    struct pkeyguard_region region;
    uintptr_t address;

    region.pages.length = length;
    region.size = size;
    region.guard_size = guarded ? PAGE : 0;
    region.annex = annex;
    region.flags = flags;
    ASSUME(length != 0 && is_aligned(length, PAGE) && size != 0 && size <= length);
    ASSUME(is_aligned(start, PAGE) && start != 0);
    mapped.start = start;
    mapped.length = 0;
    mapped.wrong = false;
    if (reserve_aligned(&region, committed, apart ? PAGE : 0) != 0)
        return mapped.length == 0 && length > SIZE_MAX - 4 * (size_t)HUGE_PAGE;
    ASSUME(start < ADDRESS_END && mapped.length < ADDRESS_END); /* else the kernel has no room */
    address = (uintptr_t)region.pages.address;
    return !mapped.wrong && mapped.length >= length && mapped.kept_start >= start &&
           mapped.kept_end <= start + mapped.length - (apart ? PAGE : 0) &&
           mapped.kept_start == address - region.guard_size &&
           mapped.kept_end == address + length + region.guard_size &&
           is_aligned(address, alignment_of(&region)) &&
           (uintptr_t)region.head.address ==
               address + (flags & PKEYGUARD_REGION_END_ALIGNED ? length - size : 0);
}
