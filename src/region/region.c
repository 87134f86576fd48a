/* SPDX-License-Identifier: MIT */
#include <pkeyguard/region.h>

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/lock.h"
#include "base/os.h"
#include "region/region.h"
#include "region/mapping.h"
#include "region/smaps.h"

enum { PAGE_RIGHTS = PROT_READ | PROT_WRITE | PROT_EXEC };
enum {
    REGION_FLAGS = PKEYGUARD_REGION_SECRET | PKEYGUARD_REGION_LOCKED | PKEYGUARD_REGION_DUMPABLE |
                   PKEYGUARD_REGION_FORK_WIPE | PKEYGUARD_REGION_NO_FORK | PKEYGUARD_REGION_SEALED |
                   PKEYGUARD_REGION_NO_GUARD_PAGES
};

struct registry region_registry = REGISTRY_INIT(struct pkeyguard_region);

/* For PROT_EXEC alone the kernel takes a pkey by itself, unless it is told one. */
static int check_prot(int prot, const struct pkeyguard_key *key)
{
    if ((prot & ~PAGE_RIGHTS) != 0)
        return -EINVAL;
    return prot == PROT_EXEC && pkeyguard_key_enforcement(key) != PKEYGUARD_PKU ? -ENOTSUP : 0;
}

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
    if (flags & PKEYGUARD_REGION_SEALED && (key == NULL || key->head.ad_wd == 0))
        return -ENOTSUP;
    return 0;
}

/* The key that stands for NULL: software, closed by default. */
static struct pkeyguard_key *bind_private_key(struct pkeyguard_region *region)
{
    struct pkeyguard_key *key = &region->private_key;

    key->enforcement = &mprotect_enforcement;
    key->default_rights = PKEYGUARD_NO_ACCESS;
    key->pkey = -1;
    key->bound = UNBOUND;
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

/* The region's end, under the lock. */
static void part(struct pkeyguard_region *region)
{
    struct pkeyguard_key *key = region->head.key;

    list_remove(&region->pages.of_key);
    if (key == &region->private_key)
        key->enforcement->unbind(key);
    registry_give_back(&region_registry, region);
}

/* A fork child: what it does not have is none of its regions, and others may be in that place. */
static void withdraw_absent(void)
{
    struct registry_cursor cursor = registry_begin(&region_registry);
    struct pkeyguard_region *region;

    while ((region = registry_next(&region_registry, &cursor)) != NULL) {
        if (pages_absent(&region->pages))
            registry_withdraw(region);
    }
}

/* Under the lock. */
static int create_empty(struct pkeyguard_key *key, size_t size, size_t annex_size, int prot,
                        unsigned flags, struct pkeyguard_region **ret_region)
{
    struct pkeyguard_region *region = registry_take(&region_registry);
    int error;

    if (region == NULL)
        return -ENOMEM;
    region->pages.prot = prot;
    region->flags = flags;
    error = mapping_create(region, size, annex_size, flags);
    if (error == 0) {
        error = join(region, key);
        if (error != 0)
            mapping_unmap(region);
    }
    if (error != 0) {
        registry_give_back(&region_registry, region);
        return error;
    }
    if (region->pages.not_forked)
        library_add_fork_child(withdraw_absent);
    registry_publish(region, mapping_start(region), mapping_length(region));
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

/* Ends a region that is empty or wiped. On failure it stands, closed. */
static int unmap(struct pkeyguard_region *region, bool still_open)
{
    int error = library_lock();

    if (error == 0) {
        error = mapping_unmap(region);
        if (error == 0) {
            if (still_open)
                guard_counts_remove(&region->pages.held, PKEYGUARD_READ_WRITE, GUARD_WIDENS);
            part(region);
        }
        library_unlock();
    }
    if (error != 0 && still_open)
        os_abort("a region can be neither closed nor unmapped", NULL);
    return error;
}

/*
 * Secret memory cannot be locked, and need not be: nothing takes it away once it is there. What
 * has an annex is locked as it comes into use.
 */
static int bring_into_memory(const struct pkeyguard_region *region)
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

static void wipe(const struct pkeyguard_region *region)
{
    explicit_bzero(region->pages.address, region->used);
    if (region->annex != 0)
        explicit_bzero(region_annex(region), region->annex_used);
}

/* Does what needs a new region open. On failure the region is gone. */
static int fill(struct pkeyguard_region *region, const void *content, int prot)
{
    struct pkru_change change;
    int error = open_to_fill(region, &change), not_closed = 0;

    if (error == 0) {
        error = bring_into_memory(region);
        if (error == 0 && content != NULL)
            memcpy(region->head.address, content, region->head.size);
        not_closed = close_filled(region, &change);
        if (error == 0 && not_closed == 0) {
            error = pkeyguard_region_protect(region, prot);
            if (error != 0 && pkeyguard_region_destroy(region) != 0)
                os_abort("a region can be neither created nor unmapped", NULL);
            return error;
        }
        if (error == 0)
            wipe(region);
    }
    if (unmap(region, not_closed != 0) != 0)
        os_abort("a region can be neither created nor unmapped", NULL);
    return error != 0 ? error : not_closed;
}

static int seal(struct pkeyguard_region *region)
{
    int error = os_seal(mapping_start(region), mapping_length(region));

    region->sealed = error == 0;
    if (error != 0 && pkeyguard_region_destroy(region) != 0)
        os_abort("a region can be neither created nor unmapped", NULL);
    return error;
}

static int create(struct pkeyguard_key *key, const void *content, size_t size, size_t annex_size,
                  int prot, unsigned flags, struct pkeyguard_region **ret_region)
{
    bool filled = content != NULL || flags & (PKEYGUARD_REGION_LOCKED | PKEYGUARD_REGION_SECRET);
    struct pkeyguard_region *region;
    int error = check_flags(flags, key);

    if (error == 0)
        error = check_prot(prot, key);
    if (error == 0)
        error = library_lock();
    if (error != 0)
        return error;
    error =
        create_empty(key, size, annex_size, filled ? PROT_READ | PROT_WRITE : prot, flags, &region);
    library_unlock();
    if (error == 0 && filled)
        error = fill(region, content, prot);
    if (error == 0 && flags & PKEYGUARD_REGION_SEALED)
        error = seal(region);
    if (error == 0)
        *ret_region = region;
    return error;
}

int pkeyguard_region_create(struct pkeyguard_key *key, size_t size, int prot, unsigned flags,
                            struct pkeyguard_region **ret_region)
{
    return create(key, NULL, size, 0, prot, flags, ret_region);
}

int pkeyguard_region_create_with(struct pkeyguard_key *key, const void *content, size_t size,
                                 int prot, unsigned flags, struct pkeyguard_region **ret_region)
{
    return content == NULL ? -EINVAL : create(key, content, size, 0, prot, flags, ret_region);
}

int region_create_with_annex(struct pkeyguard_key *key, size_t size, size_t annex_size,
                             unsigned flags, struct pkeyguard_region **ret_region)
{
    return create(key, NULL, size, annex_size, PROT_READ | PROT_WRITE, flags, ret_region);
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

/* Under the lock. A guard page counts as its region's. */
static bool overlaps_a_region(const struct pkeyguard_region *adopted)
{
    struct registry_cursor cursor = registry_begin(&region_registry);
    const struct pkeyguard_region *region;

    while ((region = registry_next(&region_registry, &cursor)) != NULL) {
        if (mapping_start(region) < adopted->pages.address + adopted->pages.length &&
            adopted->pages.address < mapping_start(region) + mapping_length(region))
            return true;
    }
    return false;
}

/* Under the lock. */
static int adopt(struct pkeyguard_key *key, void *address, size_t size, int prot, int found,
                 struct pkeyguard_region **ret_region)
{
    struct pkeyguard_region *region = registry_take(&region_registry);
    int error;

    if (region == NULL)
        return -ENOMEM;
    region->head.address = address;
    region->head.size = size;
    region->adopted = true;
    region->prot_before = found;
    region->pages.address = address;
    region->pages.length = size;
    region->pages.prot = prot;
    region->pages.applied = found;
    error = overlaps_a_region(region) ? -EBUSY : join(region, key);
    if (error != 0) {
        registry_give_back(&region_registry, region);
        return error;
    }
    registry_publish(region, address, size);
    *ret_region = region;
    return 0;
}

int pkeyguard_region_adopt(struct pkeyguard_key *key, void *address, size_t size, int prot,
                           unsigned flags, struct pkeyguard_region **ret_region)
{
    size_t page = os_page_size();
    uintptr_t end;
    int found, error;

    if ((flags & ~(unsigned)PKEYGUARD_REGION_NO_GUARD_PAGES) != 0 || address == NULL || size == 0 ||
        (uintptr_t)address % page != 0 || size % page != 0 ||
        __builtin_add_overflow((uintptr_t)address, size, &end))
        return -EINVAL;
    error = check_prot(prot, key);
    if (error == 0)
        error = smaps_inspect(address, size, &found);
    if (error == 0)
        error = library_lock();
    if (error != 0)
        return error;
    error = adopt(key, address, size, prot, found, ret_region);
    library_unlock();
    return error;
}

/* To the owner of adopted memory, as it came. */
static int give_back(struct pkeyguard_region *region)
{
    int error = library_lock();

    if (error == 0) {
        error = pages_protect(&region->pages, region->prot_before, 0);
        if (error == 0)
            part(region);
        library_unlock();
    }
    return error;
}

/* What page rights keep from being written stays, for nobody can change them any more. */
static int wipe_sealed(struct pkeyguard_region *region)
{
    struct pkeyguard_key *key = region->head.key;
    struct pkru_change change;

    if (region->pages.prot & PROT_WRITE &&
        key->enforcement->enter(key, &region->pages, PKEYGUARD_READ_WRITE, GUARD_WIDENS, &change) ==
            0) {
        wipe(region);
        close_filled(region, &change);
    }
    return -EPERM;
}

/* In a fork child that does not have its memory. */
static int forget(struct pkeyguard_region *region)
{
    int error = library_lock();

    if (error == 0) {
        part(region);
        library_unlock();
    }
    return error;
}

int pkeyguard_region_destroy(struct pkeyguard_region *region)
{
    struct pkru_change change;
    int prot, error;

    if (region == NULL)
        return 0;
    if (guard_counts_any(&region->pages.held))
        return -EBUSY;
    if (pages_absent(&region->pages))
        return forget(region);
    if (region->adopted)
        return give_back(region);
    if (region->sealed)
        return wipe_sealed(region);
    prot = region->pages.prot;
    error = open_to_fill(region, &change);
    if (error != 0)
        return error;
    wipe(region);
    error = unmap(region, close_filled(region, &change) != 0);
    if (error != 0 && pkeyguard_region_protect(region, prot) != 0)
        os_abort("the kernel refuses to take page rights back", NULL);
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
    error = check_prot(region->pages.prot, key);
    if (error != 0)
        return error;
    error = library_lock();
    if (error != 0)
        return error;
    error = guard_counts_any(&region->pages.held) ? -EBUSY : join(region, key);
    library_unlock();
    return error;
}

int pkeyguard_region_protect(struct pkeyguard_region *region, int prot)
{
    int before, error;

    if (region == NULL)
        return -EINVAL;
    if (region->sealed)
        return -EPERM;
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
