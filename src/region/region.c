/* SPDX-License-Identifier: MIT */
#include <pkeyguard/region.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/os.h"
#include "region/adopt.h"
#include "region/annexed.h"
#include "region/content.h"
#include "region/mapping.h"

enum {
    REGION_FLAGS = PKEYGUARD_REGION_SECRET | PKEYGUARD_REGION_LOCKED | PKEYGUARD_REGION_DUMPABLE |
                   PKEYGUARD_REGION_FORK_WIPE | PKEYGUARD_REGION_NO_FORK | PKEYGUARD_REGION_SEALED |
                   PKEYGUARD_REGION_NO_GUARD_PAGES
};

static int check_flags(unsigned flags, const struct pkeyguard_key *key)
{
    if ((flags & ~(unsigned)REGION_FLAGS) != 0)
        return -EINVAL;
    if (flags & PKEYGUARD_REGION_FORK_WIPE &&
        flags & (PKEYGUARD_REGION_NO_FORK | PKEYGUARD_REGION_SECRET))
        return -EINVAL;
    if (flags & PKEYGUARD_REGION_SECRET && flags & PKEYGUARD_REGION_DUMPABLE)
        return -EINVAL;
    /* Every other key closes its regions by changing their mappings. */
    if (flags & PKEYGUARD_REGION_SEALED && (key == NULL || !key->enforcement->owns_pkey))
        return -ENOTSUP;
    return 0;
}

static NEEDS_LIBRARY_LOCK int create_empty(struct pkeyguard_key *key, size_t size,
                                           size_t annex_size, int prot, unsigned flags,
                                           struct pkeyguard_region **ret_region)
{
    struct pkeyguard_region *region = registry_take(&region_registry);
    int error;

    if (region == NULL)
        return -ENOMEM;
    region->pages.prot = prot;
    list_init(&region->pages.of_key);
    region->flags = flags;
    error = mapping_create(region, size, annex_size, flags);
    if (error == 0) {
        error = region_join(region, key);
        if (error != 0)
            mapping_unmap(region);
    }
    if (error != 0) {
        registry_give_back(&region_registry, region);
        return error;
    }
    registry_publish(region, mapping_start(region), mapping_length(region));
    *ret_region = region;
    return 0;
}

/* Ends a region that is empty or wiped. On failure it stands, closed. */
static int unmap_region(struct pkeyguard_region *region, bool still_open)
{
    int error = library_lock();

    if (error == 0) {
        error = mapping_unmap(region);
        if (error == 0) {
            if (still_open)
                guard_counts_remove(&region->pages.guards, PKEYGUARD_READ_WRITE, GUARD_WIDENS);
            region_end_record(region);
        }
        library_unlock();
    }
    if (error != 0 && still_open)
        os_abort("a region can be neither closed nor unmapped", NULL);
    return error;
}

static void require_unmapped(int error)
{
    if (error != 0)
        os_abort("a region can be neither created nor unmapped", NULL);
}

/* Does what needs a new region open. On failure the region is gone. */
static int fill_region(struct pkeyguard_region *region, const void *content, int prot)
{
    struct pkru_change change;
    int error = content_open(region, &change), not_closed = 0;

    if (error == 0) {
        error = content_populate(region);
        if (error == 0 && content != NULL)
            memcpy(region->head.address, content, region->head.size);
        not_closed = content_close(region, &change);
        if (error == 0 && not_closed == 0) {
            error = region_set_prot(region, prot);
            if (error != 0)
                require_unmapped(pkeyguard_region_destroy(region));
            return error;
        }
        if (error == 0)
            content_wipe(region);
    }
    require_unmapped(unmap_region(region, not_closed != 0));
    return error != 0 ? error : not_closed;
}

static int seal_region(struct pkeyguard_region *region)
{
    int error = os_seal(mapping_start(region), mapping_length(region));

    region->sealed = error == 0;
    if (error != 0)
        require_unmapped(pkeyguard_region_destroy(region));
    return error;
}

static int create_region(struct pkeyguard_key *key, const void *content, size_t size,
                         size_t annex_size, int prot, unsigned flags,
                         struct pkeyguard_region **ret_region)
{
    bool filled = content != NULL || flags & (PKEYGUARD_REGION_LOCKED | PKEYGUARD_REGION_SECRET);
    struct pkeyguard_region *region;
    int error = check_flags(flags, key);

    if (error == 0)
        error = region_check_prot(prot, key);
    if (error != 0)
        return error;
    error = library_lock();
    if (error != 0)
        return error;
    error =
        create_empty(key, size, annex_size, filled ? PROT_READ | PROT_WRITE : prot, flags, &region);
    library_unlock();
    if (error == 0 && filled)
        error = fill_region(region, content, prot);
    if (error == 0 && flags & PKEYGUARD_REGION_SEALED)
        error = seal_region(region);
    if (error == 0)
        *ret_region = region;
    return error;
}

int pkeyguard_region_create(struct pkeyguard_key *key, size_t size, int prot, unsigned flags,
                            struct pkeyguard_region **ret_region)
{
    return create_region(key, NULL, size, 0, prot, flags, ret_region);
}

int pkeyguard_region_create_with(struct pkeyguard_key *key, const void *content, size_t size,
                                 int prot, unsigned flags, struct pkeyguard_region **ret_region)
{
    if (content == NULL)
        return -EINVAL;
    return create_region(key, content, size, 0, prot, flags, ret_region);
}

int region_create_with_annex(struct pkeyguard_key *key, size_t size, size_t annex_size,
                             unsigned flags, struct pkeyguard_region **ret_region)
{
    return create_region(key, NULL, size, annex_size, PROT_READ | PROT_WRITE, flags, ret_region);
}

/* In a fork child that does not have the memory. */
static int end_absent(struct pkeyguard_region *region)
{
    int error = library_lock();

    if (error == 0) {
        region_end_record(region);
        library_unlock();
    }
    return error;
}

static int wipe_and_unmap(struct pkeyguard_region *region)
{
    int prot = region->pages.prot;
    struct pkru_change change;
    int error = content_open(region, &change);

    if (error != 0)
        return error;
    content_wipe(region);
    error = unmap_region(region, content_close(region, &change) != 0);
    if (error != 0 && region_set_prot(region, prot) != 0)
        pages_abort_unrestored();
    return error;
}

int pkeyguard_region_destroy(struct pkeyguard_region *region)
{
    if (region == NULL)
        return 0;
    if (guard_counts_any(&region->pages.guards))
        return -EBUSY;
    if (pages_absent(&region->pages))
        return end_absent(region);
    if (region->adopted)
        return region_give_back(region);
    if (region->sealed) {
        content_wipe_sealed(region);
        return -EPERM;
    }
    return wipe_and_unmap(region);
}

int pkeyguard_region_associate(struct pkeyguard_region *region, struct pkeyguard_key *key)
{
    int error;

    if (region == NULL)
        return -EINVAL;
    if (region->sealed)
        return -EPERM;
    if (key == pkeyguard_region_key(region))
        return 0;
    error = region_check_prot(region->pages.prot, key);
    if (error != 0)
        return error;
    error = library_lock();
    if (error != 0)
        return error;
    error = guard_counts_any(&region->pages.guards) ? -EBUSY : region_join(region, key);
    library_unlock();
    return error;
}

int pkeyguard_region_protect(struct pkeyguard_region *region, int prot)
{
    int error;

    if (region == NULL)
        return -EINVAL;
    if (region->sealed)
        return -EPERM;
    error = region_check_prot(prot, region->head.key);
    return error != 0 ? error : region_set_prot(region, prot);
}

int pkeyguard_region_name(struct pkeyguard_region *region, const char *name)
{
    size_t length = name == NULL ? 0 : strnlen(name, REGION_NAME_SIZE);

    if (region == NULL || length == 0 || length == REGION_NAME_SIZE)
        return -EINVAL;
    for (size_t i = 0; i < length; i++) {
        if (name[i] < ' ' || name[i] > '~' || strchr("[]\\$`", name[i]) != NULL)
            return -EINVAL;
    }
    memcpy(region->name, name, length + 1);
    if (!region->adopted && !pages_absent(&region->pages))
        os_name(pages_start(&region->pages), pages_span(&region->pages), region->name);
    return 0;
}

size_t pkeyguard_region_size(const struct pkeyguard_region *region)
{
    return region == NULL ? 0 : region->head.size;
}

int pkeyguard_region_prot(const struct pkeyguard_region *region)
{
    return region == NULL ? PROT_NONE : region->pages.prot;
}

struct pkeyguard_key *pkeyguard_region_key(const struct pkeyguard_region *region)
{
    if (region == NULL || region->head.key == &region->private_key)
        return NULL;
    return region->head.key;
}

const void *pkeyguard_region_address(const struct pkeyguard_region *region)
{
    if (region == NULL || region->head.key->default_rights == PKEYGUARD_NO_ACCESS)
        return NULL;
    return region->head.address;
}

void *pkeyguard_region_unsafe_address(const struct pkeyguard_region *region)
{
    return region == NULL ? NULL : region->head.address;
}
