/* SPDX-License-Identifier: MIT */
#include <pkeyguard/region.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lock.h"
#include "os.h"
#include "region_private.h"

enum { PAGE_RIGHTS = PROT_READ | PROT_WRITE | PROT_EXEC };
enum { REGION_FLAGS = PKEYGUARD_REGION_DUMPABLE | PKEYGUARD_REGION_NO_GUARD_PAGES };

/* For PROT_EXEC alone the kernel takes a pkey by itself, unless it is told one. */
static int check_prot(int prot, const struct pkeyguard_key *key)
{
    if ((prot & ~PAGE_RIGHTS) != 0)
        return -EINVAL;
    return prot == PROT_EXEC && pkeyguard_key_enforcement(key) != PKEYGUARD_PKU ? -ENOTSUP : 0;
}

/* Address space for the region and its guard pages, closed to everyone. */
static int reserve(struct pkeyguard_region *region, size_t size, unsigned flags)
{
    size_t page = os_page_size();
    size_t length, reserved;
    void *address;
    int error;

    region->guard_size = flags & PKEYGUARD_REGION_NO_GUARD_PAGES ? 0 : page;
    if (size == 0 || __builtin_add_overflow(size, page - 1, &length))
        return -EINVAL;
    length -= length % page;
    if (__builtin_add_overflow(length, 2 * region->guard_size, &reserved))
        return -EINVAL;
    error = os_reserve(reserved, &address);
    if (error != 0)
        return error;
    region->head.address = (char *)address + region->guard_size;
    region->pages.address = region->head.address;
    region->head.size = size;
    region->pages.length = length;
    region->pages.applied = PROT_NONE;
    if (!(flags & PKEYGUARD_REGION_DUMPABLE))
        error = os_exclude_from_dumps(region->pages.address, length);
    if (error != 0)
        os_unmap(address, reserved);
    return error;
}

static int release_address_space(const struct pkeyguard_region *region)
{
    return os_unmap(region->head.address - region->guard_size,
                    region->pages.length + 2 * region->guard_size);
}

/* The key that stands for NULL: software, closed by default. */
static struct pkeyguard_key *bind_private_key(struct pkeyguard_region *region)
{
    struct pkeyguard_key *key = &region->private_key;

    key->enforcement = &mprotect_enforcement;
    key->default_rights = PKEYGUARD_NO_ACCESS;
    key->pkey = -1;
    list_init(&key->pages);
    key->enforcement->bind(key);
    return key;
}

/* Moves a region to a key, from none at its creation. Under the lock; on failure nothing changed.
 */
static int join(struct pkeyguard_region *region, struct pkeyguard_key *key)
{
    struct pkeyguard_key *before = region->head.key;
    struct pkeyguard_key *joins = key != NULL ? key : bind_private_key(region);
    int error = joins->enforcement->apply(joins, &region->pages);

    if (error == 0) {
        if (before != NULL)
            list_remove(&region->pages.of_key);
        list_insert(&joins->pages, &region->pages.of_key);
        region->head.key = joins;
    }
    /* A private key that is not, or no longer, the region's. */
    if ((error == 0 ? before : joins) == &region->private_key)
        region->private_key.enforcement->unbind(&region->private_key);
    return error;
}

static void part(struct pkeyguard_region *region)
{
    struct pkeyguard_key *key = region->head.key;

    list_remove(&region->pages.of_key);
    if (key == &region->private_key)
        key->enforcement->unbind(key);
}

int pkeyguard_region_create(struct pkeyguard_key *key, size_t size, int prot, unsigned flags,
                            struct pkeyguard_region **ret_region)
{
    struct pkeyguard_region *region;
    int error = check_prot(prot, key);

    if ((flags & ~(unsigned)REGION_FLAGS) != 0)
        return -EINVAL;
    if (error != 0)
        return error;
    region = calloc(1, sizeof(*region));
    if (region == NULL)
        return -ENOMEM;
    region->pages.prot = prot;
    error = reserve(region, size, flags);
    if (error == 0) {
        error = library_lock();
        if (error == 0) {
            error = join(region, key);
            library_unlock();
        }
        if (error != 0)
            release_address_space(region);
    }
    if (error != 0) {
        free(region);
        return error;
    }
    *ret_region = region;
    return 0;
}

/* Makes the content writable, for this thread at least, whatever the page rights were. */
static int open_to_fill(struct pkeyguard_region *region, struct pkru_change *ret_change)
{
    struct pkeyguard_key *key = region->head.key;
    int prot = region->pages.prot;
    int error = pkeyguard_region_protect(region, PROT_READ | PROT_WRITE);

    if (error != 0)
        return error;
    error = key->enforcement->enter(key, &region->pages, PKEYGUARD_READ_WRITE, GUARD_WIDENS,
                                    ret_change);
    if (error != 0 && pkeyguard_region_protect(region, prot) != 0)
        os_abort("the kernel refuses to take page rights back", NULL);
    return error;
}

static int close_filled(struct pkeyguard_region *region, const struct pkru_change *change)
{
    struct pkeyguard_key *key = region->head.key;

    return key->enforcement->leave(key, &region->pages, PKEYGUARD_READ_WRITE, GUARD_WIDENS, change);
}

/* Ends a region that is open to be filled. On failure it stands, wiped and closed. */
static int wipe_and_unmap(struct pkeyguard_region *region, const struct pkru_change *change)
{
    int error, not_closed;

    explicit_bzero(region->pages.address, region->pages.length);
    not_closed = close_filled(region, change);
    error = library_lock();
    if (error == 0) {
        error = release_address_space(region);
        if (error == 0) {
            if (not_closed != 0)
                holds_remove(&region->pages.held, PKEYGUARD_READ_WRITE, GUARD_WIDENS);
            part(region);
        }
        library_unlock();
    }
    if (error == 0)
        free(region);
    else if (not_closed != 0)
        os_abort("a region can be neither closed nor unmapped", NULL);
    return error;
}

int pkeyguard_region_create_with(struct pkeyguard_key *key, const void *content, size_t size,
                                 int prot, unsigned flags, struct pkeyguard_region **ret_region)
{
    struct pkeyguard_region *region;
    struct pkru_change change;
    int error = content == NULL ? -EINVAL : check_prot(prot, key);

    if (error != 0)
        return error;
    error = pkeyguard_region_create(key, size, PROT_READ | PROT_WRITE, flags, &region);
    if (error != 0)
        return error;
    error = open_to_fill(region, &change);
    if (error == 0) {
        memcpy(region->head.address, content, size);
        error = close_filled(region, &change);
        if (error != 0) {
            if (wipe_and_unmap(region, &change) != 0)
                os_abort("a region can be neither created nor unmapped", NULL);
            return error;
        }
        error = pkeyguard_region_protect(region, prot);
    }
    if (error != 0) {
        if (pkeyguard_region_destroy(region) != 0)
            os_abort("a region can be neither created nor unmapped", NULL);
        return error;
    }
    *ret_region = region;
    return 0;
}

int pkeyguard_region_destroy(struct pkeyguard_region *region)
{
    struct pkru_change change;
    int prot, error;

    if (region == NULL)
        return 0;
    if (holds_any(&region->pages.held))
        return -EBUSY;
    prot = region->pages.prot;
    error = open_to_fill(region, &change);
    if (error != 0)
        return error;
    error = wipe_and_unmap(region, &change);
    if (error != 0 && pkeyguard_region_protect(region, prot) != 0)
        os_abort("the kernel refuses to take page rights back", NULL);
    return error;
}

int pkeyguard_region_associate(struct pkeyguard_region *region, struct pkeyguard_key *key)
{
    int error;

    if (region == NULL)
        return -EINVAL;
    if (key == pkeyguard_region_key(region))
        return 0;
    error = check_prot(region->pages.prot, key);
    if (error != 0)
        return error;
    error = library_lock();
    if (error != 0)
        return error;
    error = holds_any(&region->pages.held) ? -EBUSY : join(region, key);
    library_unlock();
    return error;
}

int pkeyguard_region_protect(struct pkeyguard_region *region, int prot)
{
    int before, error;

    if (region == NULL)
        return -EINVAL;
    error = check_prot(prot, region->head.key);
    if (error != 0)
        return error;
    error = library_lock();
    if (error != 0)
        return error;
    before = region->pages.prot;
    region->pages.prot = prot;
    error = region->head.key->enforcement->apply(region->head.key, &region->pages);
    if (error != 0)
        region->pages.prot = before;
    library_unlock();
    return error;
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
    os_name(region->pages.address, region->pages.length, region->name);
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
