/* SPDX-License-Identifier: MIT */
/* Copies in and out of a region: a scope that begins and ends inside one call. */
#include <pkeyguard/guard.h>

#include <errno.h>
#include <string.h>

#include "region/region_record.h"

static bool lies_inside(const struct pkeyguard_region *region, size_t offset, size_t size)
{
    return region != NULL && offset <= region->size && size <= region->size - offset;
}

int pkeyguard_region_read(struct pkeyguard_region *region, size_t offset, void *buffer, size_t size)
{
    struct pkeyguard_guard guard;
    int error;

    if (!lies_inside(region, offset, size) || (buffer == NULL && size != 0))
        return -EINVAL;
    error = pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &guard);
    if (error != 0)
        return error;
    if (size != 0)
        memcpy(buffer, region->head.address + offset, size);
    pkeyguard_release(&guard);
    return 0;
}

int pkeyguard_region_write(struct pkeyguard_region *region, size_t offset, const void *data,
                           size_t size)
{
    struct pkeyguard_guard guard;
    int error;

    if (!lies_inside(region, offset, size) || (data == NULL && size != 0))
        return -EINVAL;
    error = pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard);
    if (error != 0)
        return error;
    if (size != 0)
        memcpy(region->head.address + offset, data, size);
    pkeyguard_release(&guard);
    return 0;
}
