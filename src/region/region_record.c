/* SPDX-License-Identifier: MIT */
#include "region/region_record.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/os.h"
#include "base/process.h"
#include "region/mapping.h"

struct registry region_registry = REGISTRY_INIT(struct pkeyguard_region);

/*
 * The page rights tell whether the guard is what the thread thinks: another thread may have
 * released it. In a fork child that the library has not noticed nothing is certain.
 */
bool region_open_by_own_software_guard(const struct pkeyguard_region *region)
{
    const struct pages *pages = &region->pages;

    return guard_counts_own_writer(&pages->guards, &region->head.key->guards) &&
           pages->applied == (PROT_READ | PROT_WRITE) && !process_is_unnoticed();
}

int region_check_prot(int prot, const struct pkeyguard_key *key)
{
    if ((prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) != 0)
        return -EINVAL;
    /*
     * For PROT_EXEC alone the kernel chooses a pkey by itself, unless the call names one. Code of a
     * virtual key could not run while the key has no pkey.
     */
    return prot == PROT_EXEC && (key == NULL || !key->enforcement->owns_pkey) ? -ENOTSUP : 0;
}

int region_check_code(int needed, int prot, const struct pkeyguard_key *key)
{
    bool loses = !(prot & PROT_EXEC) || key == NULL || !key->enforcement->owns_pkey;

    return needed & PROT_EXEC && loses && os_forbids_new_code() ? -EACCES : 0;
}

/* Copies into the head what the inline guards need to know of the key. */
static void copy_key_to_head(struct pkeyguard_region_head *head)
{
    struct pkeyguard_region_head *written = to_write(head);

    written->bits = head->key->head;
    written->open_size = written->bits.ad_wd != 0 ? head->size : 0;
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
    if (error == 0) {
        to_write(region)->head.key = joined;
        copy_key_to_head(&region->head);
    }
    unused = error == 0 ? before : joined;
    if (unused == &region->private_key)
        key_end_private(unused);
    return error;
}

/* The bytes of its own pages, without an annex. */
static size_t own_length(const struct pkeyguard_region *region)
{
    return region->annex == 0 ? region->pages.length : region->annex - os_page_size();
}

void region_publish(struct pkeyguard_region *region)
{
    const struct registry_addresses addresses = {
        .start = mapping_start(region),
        .length = mapping_length(region),
        .own_start = region->pages.address,
        .own_length = own_length(region),
        .only_process = region->pages.only_process,
    };

    registry_publish(&region_registry, region, &addresses);
}

void region_end_record(struct pkeyguard_region *region)
{
    key_drop_pages(&region->pages);
    if (region->head.key == &region->private_key)
        key_end_private(&region->private_key);
    registry_give_back(&region_registry, region);
}

int region_check_unused(const struct pkeyguard_region *region)
{
    int error = library_lock();

    if (error == 0) {
        error = guard_counts_any(&region->pages.guards) ? -EBUSY : 0;
        library_unlock();
    }
    return error;
}

#define for_each_region(region)                                            \
    for (struct registry_cursor cursor = registry_begin(&region_registry); \
         ((region) = registry_next(&region_registry, &cursor)) != NULL;)

/*
 * What a thread was changing that is not there: it may have been moving the region from one key to
 * another, or calling the kernel for its pages.
 */
static NEEDS_LIBRARY_LOCK void finish_change(struct pkeyguard_region *region)
{
    struct pages *pages = &region->pages;
    const struct pkeyguard_key *key = region->head.key;

    copy_key_to_head(&region->head);
    if (pages->of_key.previous->next != &pages->of_key)
        list_insert(&region->head.key->pages, &pages->of_key);
    if (pages->applied == PAGES_CHANGING)
        (void)key->enforcement->apply(key, pages);
}

/* These addresses may belong to other memory by now. */
void region_forget_unmapped(void)
{
    struct pkeyguard_region *region;

    for_each_region(region)
    {
        list_mend_link(&region->pages.of_key);
        list_mend_link(&region->head.key->pages);
    }
    for_each_region(region)
    {
        finish_change(region);
        /* Its addresses may belong to something else by now. */
        if (pages_absent(&region->pages))
            registry_withdraw(region);
    }
}
