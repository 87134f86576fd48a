/* SPDX-License-Identifier: MIT */
/* Guards that wait for a pkey: on several regions at once, or with a deadline. */
#include <pkeyguard/guard.h>

#include <errno.h>

#include "base/os.h"
#include "key/virtual_wait.h"
#include "region/region_record.h"

static struct pkeyguard_key *key_of_region(const struct pkeyguard_region *region)
{
    return region->head.key;
}

/* The arguments of one call that acquires several guards. */
struct group {
    struct wanted_guards wanted;
    const char *where; /* for checked guards */
    bool checked;
};

static int acquire_one(const struct group *group, size_t i, struct pkeyguard_guard *ret_guard)
{
    unsigned flags = (unsigned)group->wanted.rights[i] | PKEYGUARD_GUARD_BARE;

    if (group->checked)
        return (int)(intptr_t)pkeyguard_checked_open(group->wanted.regions[i], 0, 0, group->where,
                                                     flags, ret_guard);
    return pkeyguard_acquire(group->wanted.regions[i], group->wanted.rights[i], ret_guard);
}

static int check_and_empty(const struct wanted_guards *wanted, struct pkeyguard_guard ret_guards[])
{
    int error = 0;

    for (size_t i = 0; i < wanted->count; i++) {
        ret_guards[i] = (struct pkeyguard_guard){0};
        if (wanted->regions[i] == NULL || !rights_valid(wanted->rights[i]))
            error = -EINVAL;
    }
    return error;
}

static int acquire_group(const struct group *group, uint64_t deadline,
                         struct pkeyguard_guard ret_guards[])
{
    size_t open = 0;
    int error = check_and_empty(&group->wanted, ret_guards);

    if (error == 0)
        error = virtual_hold_all(&group->wanted, deadline);
    if (error != 0)
        return error;
    while (open < group->wanted.count && error == 0) {
        error = acquire_one(group, open, &ret_guards[open]);
        open += error == 0;
    }
    virtual_drop_all(&group->wanted);
    while (error != 0 && open > 0)
        pkeyguard_release(&ret_guards[--open]);
    return error;
}

int pkeyguard_acquire_all(size_t count, struct pkeyguard_region *const regions[],
                          const enum pkeyguard_rights rights[], struct pkeyguard_guard ret_guards[])
{
    struct group group = {.wanted = {count, regions, rights, key_of_region}};

    return acquire_group(&group, VIRTUAL_WAIT_WHERE_SAFE, ret_guards);
}

int pkeyguard_checked_acquire_all(size_t count, struct pkeyguard_region *const regions[],
                                  const enum pkeyguard_rights rights[],
                                  struct pkeyguard_guard ret_guards[], const char *where)
{
    struct group group = {{count, regions, rights, key_of_region}, where, true};

    return acquire_group(&group, VIRTUAL_WAIT_WHERE_SAFE, ret_guards);
}

static uint64_t deadline_after(unsigned milliseconds)
{
    return os_milliseconds() + milliseconds;
}

int pkeyguard_acquire_all_timed(size_t count, struct pkeyguard_region *const regions[],
                                const enum pkeyguard_rights rights[], unsigned milliseconds,
                                struct pkeyguard_guard ret_guards[])
{
    struct group group = {.wanted = {count, regions, rights, key_of_region}};

    return acquire_group(&group, deadline_after(milliseconds), ret_guards);
}

int pkeyguard_checked_acquire_all_timed(size_t count, struct pkeyguard_region *const regions[],
                                        const enum pkeyguard_rights rights[], unsigned milliseconds,
                                        struct pkeyguard_guard ret_guards[], const char *where)
{
    struct group group = {{count, regions, rights, key_of_region}, where, true};

    return acquire_group(&group, deadline_after(milliseconds), ret_guards);
}

int pkeyguard_checked_acquire_timed(void *target, unsigned flags, unsigned milliseconds,
                                    struct pkeyguard_guard *ret_guard, const char *where)
{
    uint64_t deadline = deadline_after(milliseconds);
    int error;

    do {
        error = (int)(intptr_t)pkeyguard_checked_open(target, 0, 0, where, flags, ret_guard);
    } while (virtual_wait_until(&error, deadline));
    return error;
}

int pkeyguard_acquire_timed(struct pkeyguard_region *region, enum pkeyguard_rights rights,
                            unsigned milliseconds, struct pkeyguard_guard *ret_guard)
{
    uint64_t deadline = deadline_after(milliseconds);
    int error;

    do {
        error = pkeyguard_acquire(region, rights, ret_guard);
    } while (virtual_wait_until(&error, deadline));
    return error;
}

int pkeyguard_key_acquire_timed(struct pkeyguard_key *key, enum pkeyguard_rights rights,
                                unsigned milliseconds, struct pkeyguard_guard *ret_guard)
{
    uint64_t deadline = deadline_after(milliseconds);
    int error;

    do {
        error = pkeyguard_key_acquire(key, rights, ret_guard);
    } while (virtual_wait_until(&error, deadline));
    return error;
}
