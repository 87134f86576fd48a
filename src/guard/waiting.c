/* SPDX-License-Identifier: MIT */
/* Guards that wait for a pkey: several at once, and with a limit of time. */
#include <pkeyguard/guard.h>

#include <errno.h>

#include "base/os.h"
#include "key/virtual_wait.h"

static int acquire_all_until(size_t count, struct pkeyguard_region *const regions[],
                             const enum pkeyguard_rights rights[], uint64_t deadline,
                             struct pkeyguard_guard ret_guards[])
{
    size_t open = 0;
    int error = 0;

    for (size_t i = 0; i < count; i++) {
        ret_guards[i] = (struct pkeyguard_guard){0};
        if (regions[i] == NULL || !rights_valid(rights[i]))
            error = -EINVAL;
    }
    if (error == 0)
        error = virtual_hold_all(count, regions, pkeyguard_guard_key, deadline);
    if (error != 0)
        return error;
    while (open < count && error == 0) {
        error = pkeyguard_acquire(regions[open], rights[open], &ret_guards[open]);
        open += error == 0;
    }
    virtual_drop_all(count, regions, pkeyguard_guard_key);
    while (error != 0 && open > 0)
        pkeyguard_release(&ret_guards[--open]);
    return error;
}

int pkeyguard_acquire_all(size_t count, struct pkeyguard_region *const regions[],
                          const enum pkeyguard_rights rights[], struct pkeyguard_guard ret_guards[])
{
    return acquire_all_until(count, regions, rights, VIRTUAL_WAIT_WHERE_SAFE, ret_guards);
}

static uint64_t deadline_after(unsigned milliseconds)
{
    return os_milliseconds() + milliseconds;
}

int pkeyguard_acquire_all_timed(size_t count, struct pkeyguard_region *const regions[],
                                const enum pkeyguard_rights rights[], unsigned milliseconds,
                                struct pkeyguard_guard ret_guards[])
{
    return acquire_all_until(count, regions, rights, deadline_after(milliseconds), ret_guards);
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
