/* SPDX-License-Identifier: MIT */
#include "region/region_record.h"

#include <errno.h>
#include <sys/mman.h>

struct registry region_registry = REGISTRY_INIT(struct pkeyguard_region);

int region_check_prot(int prot, const struct pkeyguard_key *key)
{
    if ((prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) != 0)
        return -EINVAL;
    /* For PROT_EXEC alone the kernel takes a pkey by itself, unless it is told one. */
    return prot == PROT_EXEC && pkeyguard_key_enforcement(key) != PKEYGUARD_PKU ? -ENOTSUP : 0;
}

int region_join(struct pkeyguard_region *region, struct pkeyguard_key *key)
{
    struct pkeyguard_key *before = region->head.key, *joined = key, *unused;
    int error;

    if (joined == NULL) {
        joined = &region->private_key;
        key_init_private(joined);
    }
    error = key_take_pages(joined, &region->pages);
    if (error == 0)
        region->head.key = joined;
    unused = error == 0 ? before : joined;
    if (unused == &region->private_key)
        key_end_private(unused);
    return error;
}

void region_end_record(struct pkeyguard_region *region)
{
    key_drop_pages(&region->pages);
    if (region->head.key == &region->private_key)
        key_end_private(&region->private_key);
    registry_give_back(&region_registry, region);
}

/* The addresses may belong to something else by now. */
void region_forget_unmapped(void)
{
    struct registry_cursor cursor = registry_begin(&region_registry);
    struct pkeyguard_region *region;

    while ((region = registry_next(&region_registry, &cursor)) != NULL) {
        if (pages_absent(&region->pages))
            registry_withdraw(region);
    }
}
