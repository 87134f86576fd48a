/* SPDX-License-Identifier: MIT */
#include <pkeyguard/region.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/os.h"
#include "region/annexed_region.h"
#include "region/mapping.h"

enum {
    REGION_FLAGS = PKEYGUARD_REGION_SECRET | PKEYGUARD_REGION_LOCKED | PKEYGUARD_REGION_DUMPABLE |
                   PKEYGUARD_REGION_FORK_WIPE | PKEYGUARD_REGION_NO_FORK | PKEYGUARD_REGION_SEALED |
                   PKEYGUARD_REGION_NO_GUARD_PAGES | PKEYGUARD_REGION_HUGE_PAGES |
                   PKEYGUARD_REGION_END_ALIGNED,
    FILLED_FLAGS = PKEYGUARD_REGION_LOCKED | PKEYGUARD_REGION_SECRET | PKEYGUARD_REGION_END_ALIGNED
};

static int check_flags(unsigned flags, const struct pkeyguard_key *key)
{
    if ((flags & ~(unsigned)REGION_FLAGS) != 0)
        return -EINVAL;
    if (flags & PKEYGUARD_REGION_FORK_WIPE &&
        flags & (PKEYGUARD_REGION_NO_FORK | PKEYGUARD_REGION_SECRET))
        return -EINVAL;
    if (flags & PKEYGUARD_REGION_SECRET &&
        flags & (PKEYGUARD_REGION_DUMPABLE | PKEYGUARD_REGION_HUGE_PAGES))
        return -EINVAL;
    /* Its end is only of use beside a guard page, and a wiped pattern would look damaged. */
    if (flags & PKEYGUARD_REGION_END_ALIGNED &&
        flags & (PKEYGUARD_REGION_NO_GUARD_PAGES | PKEYGUARD_REGION_FORK_WIPE))
        return -EINVAL;
    /* Keys of other kinds close their regions by changing the mappings, which sealing forbids. */
    if (flags & PKEYGUARD_REGION_SEALED && (key == NULL || !key->enforcement->owns_pkey))
        return -ENOTSUP;
    return 0;
}

/* Makes a region without content. On failure nothing is left. */
static NEEDS_LIBRARY_LOCK int map_and_join(struct pkeyguard_key *key, size_t size,
                                           size_t annex_size, int prot, unsigned flags,
                                           struct pkeyguard_region **ret_region)
{
    struct pkeyguard_region *region = registry_take(&region_registry), *written = to_write(region);
    int error;

    if (region == NULL)
        return -ENOMEM;
    written->pages.prot = prot;
    list_init(&region->pages.of_key);
    written->flags = flags;
    error = mapping_create(written, size, annex_size, flags);
    if (error == 0) {
        error = region_join(region, key);
        if (error != 0)
            mapping_give_up(region);
    }
    if (error != 0) {
        registry_give_back(&region_registry, region);
        return error;
    }
    region_publish(region);
    *ret_region = region;
    return 0;
}

/*
 * Ends a region that is empty or wiped. On failure the region still exists and is closed, except
 * with -ESTALE (mapping.h).
 */
static int end_region(struct pkeyguard_region *region, bool still_open)
{
    int error = library_lock();

    if (error == 0) {
        error = mapping_give_up(region);
        if (error == 0 || error == -ESTALE) {
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

/*
 * Ends a region whose creation has failed. If a sandbox refuses to unmap the memory, it stays, but
 * belongs to no region: it is empty, or no thread can access it. Else it stays in its key, closed.
 */
static void abandon_region(struct pkeyguard_region *region, bool empty, bool still_open)
{
    if (library_lock() != 0)
        return;
    if (mapping_give_up(region) == 0 || empty || region->pages.applied == PROT_NONE) {
        if (still_open)
            guard_counts_remove(&region->pages.guards, PKEYGUARD_READ_WRITE, GUARD_WIDENS);
        region_end_record(region);
    }
    library_unlock();
}

static int seal_region(struct pkeyguard_region *region)
{
    int error = library_lock();

    if (error != 0)
        return error;
    error = mapping_seal(region);
    to_write(region)->sealed = error == 0;
    library_unlock();
    return error;
}

/* Completes a region that has its memory and its key. On failure there is no region. */
static int finish_region(struct pkeyguard_region *region, const void *content, bool filled,
                         int prot)
{
    bool still_open;
    int error = filled ? content_fill(region, content, &still_open) : 0;

    if (error != 0) {
        abandon_region(region, true, still_open);
        return error;
    }
    if (filled)
        error = key_set_prot(region->head.key, &region->pages, prot);
    if (error == 0 && region->flags & PKEYGUARD_REGION_SEALED)
        error = seal_region(region);
    if (error != 0) {
        bool empty = content_wipe(region, &still_open) == 0;

        abandon_region(region, empty, still_open);
    }
    return error;
}

static int create_region(struct pkeyguard_key *key, const void *content, size_t size,
                         size_t annex_size, int prot, unsigned flags,
                         struct pkeyguard_region **ret_region)
{
    bool filled = content != NULL || flags & FILLED_FLAGS;
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
        map_and_join(key, size, annex_size, filled ? PROT_READ | PROT_WRITE : prot, flags, &region);
    library_unlock();
    if (error == 0)
        error = finish_region(region, content, filled, prot);
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

int pkeyguard_region_destroy(struct pkeyguard_region *region)
{
    bool still_open;
    int prot, error;

    if (region == NULL)
        return 0;
    error = region_check_unused(region);
    if (error != 0)
        return error;
    prot = region->pages.prot;
    error = content_wipe(region, &still_open);
    if (region->sealed && !pages_absent(&region->pages))
        return -EPERM;
    if (error != 0)
        return error;
    error = end_region(region, still_open);
    if (error != 0 && error != -ESTALE && region->pages.prot != prot &&
        key_set_prot(region->head.key, &region->pages, prot) != 0)
        pages_abort_unrestored();
    return error;
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
    if (error == 0)
        error = region_check_code(region->pages.prot, region->pages.prot, key);
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
    /* The owner of adopted memory gets it back with the page rights that it had. */
    if (error == 0 && region->adopted)
        error = region_check_code(region->prot_before, prot, region->head.key);
    return error != 0 ? error : key_set_prot(region->head.key, &region->pages, prot);
}

int pkeyguard_region_name(struct pkeyguard_region *region, const char *name)
{
    size_t length = name == NULL ? 0 : strnlen(name, REGION_NAME_SIZE);
    int error;

    if (region == NULL || length == 0 || length == REGION_NAME_SIZE)
        return -EINVAL;
    for (size_t i = 0; i < length; i++) {
        if (name[i] < ' ' || name[i] > '~' || strchr("[]\\$`", name[i]) != NULL)
            return -EINVAL;
    }
    error = library_lock();
    if (error != 0)
        return error;
    memcpy(to_write(region)->name, name, length + 1);
    library_unlock();
    if (!region->adopted && !pages_absent(&region->pages))
        os_name(pages_start(&region->pages), pages_span(&region->pages), region->name);
    return 0;
}

size_t pkeyguard_region_size(const struct pkeyguard_region *region)
{
    return region == NULL ? 0 : region->size;
}

int pkeyguard_region_prot(const struct pkeyguard_region *region)
{
    return region == NULL ? PROT_NONE : region->pages.prot;
}

struct pkeyguard_region *pkeyguard_region_of(const void *address)
{
    return registry_owner(&region_registry, address);
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
