/* SPDX-License-Identifier: MIT */
/*
 * Adopted memory: the program mapped it. The library gives it a pkey and page rights; it never
 * writes to it and never unmaps it.
 */
#include <pkeyguard/region.h>

#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#include "base/os.h"
#include "region/inspect.h"
#include "region/region_record.h"

static NEEDS_LIBRARY_LOCK int record_adopted(struct pkeyguard_key *key, void *address, size_t size,
                                             int prot, int prot_before,
                                             struct pkeyguard_region **ret_region)
{
    struct pkeyguard_region *region = registry_take(&region_registry), *written = to_write(region);
    int error;

    if (region == NULL)
        return -ENOMEM;
    written->head.address = address;
    written->size = written->head.size = size;
    written->adopted = true;
    written->prot_before = prot_before;
    written->pages.address = address;
    written->pages.length = size;
    written->pages.prot = prot;
    written->pages.applied = prot_before;
    list_init(&region->pages.of_key);
    /* True if the memory overlaps a region or the guard pages of one. */
    error = registry_any(&region_registry, address, size) ? -EBUSY : region_join(region, key);
    if (error != 0) {
        registry_give_back(&region_registry, region);
        return error;
    }
    region_publish(region);
    *ret_region = region;
    return 0;
}

static bool whole_pages_given(const void *address, size_t size)
{
    size_t page = os_page_size();
    uintptr_t end;

    return address != NULL && size != 0 && (uintptr_t)address % page == 0 && size % page == 0 &&
           !__builtin_add_overflow((uintptr_t)address, size, &end);
}

int pkeyguard_region_adopt(struct pkeyguard_key *key, void *address, size_t size, int prot,
                           unsigned flags, struct pkeyguard_region **ret_region)
{
    struct pkeyguard_region *region;
    int prot_before, error;

    if ((flags & ~(unsigned)PKEYGUARD_REGION_NO_GUARD_PAGES) != 0 ||
        !whole_pages_given(address, size))
        return -EINVAL;
    error = region_check_prot(prot, key);
    if (error == 0)
        error = inspect_memory(address, size, &prot_before);
    if (error == 0)
        error = region_check_code(prot_before, prot, key);
    if (error != 0)
        return error;
    error = library_lock();
    if (error != 0)
        return error;
    error = record_adopted(key, address, size, prot, prot_before, &region);
    library_unlock();
    /* Without the lock, because the caller's memory may be closed. */
    if (error == 0)
        *ret_region = region;
    return error;
}
