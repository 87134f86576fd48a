/* SPDX-License-Identifier: MIT */
#include <pkeyguard/guard.h>

#include <errno.h>
#include <stdio.h>

#include "base/error_text.h"
#include "base/os.h"
#include "key/virtual_wait.h"
#include "pkey/own_pkru.h"
#include "region/region_record.h"

/* Bits of struct pkeyguard_guard.how; 0 is for guards that the inline code releases by itself. */
enum { HELD = 1, RESTRICTS = 2, CHECKED = 4, RIGHTS_SHIFT = 8 };

static void check_before_acquire(const struct pkeyguard_key *key)
{
    if (key->enforcement->kind == PKEYGUARD_PKU &&
        key->enforcement->rights(key) > key->default_rights && !own_pkru_chosen(key->head.ad_wd))
        os_abort("thread created inside a scope: call pkeyguard_thread_reset() first in it", NULL);
}

/* True if such a guard changes nothing and has nothing to remember for its release. */
static bool is_empty_guard(const struct pkeyguard_key *key, enum pkeyguard_rights rights,
                           bool restricts, bool checked)
{
    if (rights == (restricts ? PKEYGUARD_READ_WRITE : PKEYGUARD_NO_ACCESS))
        return true;
    return key->enforcement->kind == PKEYGUARD_UNENFORCED && !checked;
}

int pkeyguard_guard_enter(struct pkeyguard_key *key, struct pkeyguard_region *region,
                          enum pkeyguard_rights rights, unsigned flags,
                          struct pkeyguard_guard *ret_guard)
{
    bool restricts = flags & PKEYGUARD_GUARD_RESTRICTS;
    bool checked = flags & PKEYGUARD_GUARD_CHECKED;
    struct pkru_change change;
    int error = 0;

    if (region != NULL)
        key = region->head.key;
    if (key == NULL || !rights_valid(rights))
        error = -EINVAL;
    if (error != 0 || is_empty_guard(key, rights, restricts, checked)) {
        *ret_guard = (struct pkeyguard_guard){0};
        return error;
    }
    if (checked)
        check_before_acquire(key);
    error = key->enforcement->enter(key, region != NULL ? &region->pages : NULL, rights,
                                    restricts ? GUARD_RESTRICTS : GUARD_WIDENS, &change);
    if (error != 0) {
        *ret_guard = (struct pkeyguard_guard){0};
        return error;
    }
    ret_guard->cleared = 0;
    ret_guard->how = HELD | (restricts ? RESTRICTS : 0) | (checked ? CHECKED : 0) |
                     (uint32_t)rights << RIGHTS_SHIFT;
    ret_guard->changed[0] = change.cleared;
    ret_guard->changed[1] = change.set;
    ret_guard->thread = checked ? (uint32_t)os_thread_id() : 0;
    ret_guard->key = key;
    ret_guard->region = region;
    return 0;
}

static void check_before_release(const struct pkeyguard_key *key, uint32_t how,
                                 const struct pkru_change *change, uint32_t thread)
{
    pkru_bits denied;

    if (thread != (uint32_t)os_thread_id())
        os_abort("a guard released by a thread that did not acquire it", NULL);
    if (key->enforcement->denied == NULL || !key->enforcement->denied(key, &denied))
        return;
    if ((denied & change->cleared) != 0 || (how & RESTRICTS && (~denied & change->set) != 0))
        os_abort("a guard released out of order around a restrict guard or a change of rights",
                 NULL);
}

void pkeyguard_guard_leave(struct pkeyguard_key *key, struct pkeyguard_region *region, uint32_t how,
                           uint32_t cleared, uint32_t set, uint32_t thread)
{
    struct pkru_change change = {.cleared = cleared, .set = set};
    int saved_errno = errno;
    int error;

    if (how & CHECKED)
        check_before_release(key, how, &change, thread);
    error = key->enforcement->leave(key, region != NULL ? &region->pages : NULL,
                                    (enum pkeyguard_rights)(how >> RIGHTS_SHIFT),
                                    how & RESTRICTS ? GUARD_RESTRICTS : GUARD_WIDENS, &change);
    if (error != 0)
        os_abort("a guard cannot be released: ", error_text(error), NULL);
    errno = saved_errno;
}

/* An error has fewer causes in a scope. */
static const char *scope_error_text(const struct pkeyguard_region *region, int error)
{
    switch (error) {
    case -EINVAL:
        return region == NULL ? "no region or key, or unknown rights"
                              : "the type is larger than the region, the object is not inside it, "
                                "or the rights are unknown";
    case -EBUSY:
        return "open guards pin every pkey";
    case -EAGAIN:
        return "a thread is not registered (see pkeyguard_thread_register()), or the threads "
               "cannot be counted";
    case -ENOSPC:
        return "no pkey is left for virtual keys";
    default:
        return error_text(error);
    }
}

void pkeyguard_scope_abort(const struct pkeyguard_region *region, const char *what,
                           const char *where, int error)
{
    bool named = region != NULL && region->name[0] != '\0';
    pid_t thread = error == -EAGAIN ? virtual_wait_unregistered_thread() : 0;
    char number[16];

    snprintf(number, sizeof(number), "%d", (int)thread);
    os_abort(where, ": cannot open a ", what, named ? " on region '" : "",
             named ? region->name : "", named ? "': " : ": ", scope_error_text(region, error),
             thread > 0 ? ": thread " : "", thread > 0 ? number : "", NULL);
}

void pkeyguard_scope_wait(const struct pkeyguard_region *region, const char *what,
                          const char *where, int error)
{
    if (!virtual_wait_for(error))
        pkeyguard_scope_abort(region, what, where, error);
}
