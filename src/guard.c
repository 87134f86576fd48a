/* SPDX-License-Identifier: MIT */
#include <pkeyguard/guard.h>

#include <pkeyguard.h>

#include "enforcement.h"
#include "os.h"
#include "pkeys.h"
#include "region_private.h"

/* struct pkeyguard_guard.how: 0 for what the inline code undoes by itself. */
enum { HELD = 1, RESTRICTS = 2, CHECKED = 4, RIGHTS_SHIFT = 8 };

/* The misuse that a guard can see when it is acquired. */
static void check_thread(const struct pkeyguard_key *key)
{
    if (key->enforcement->kind == PKEYGUARD_PKU &&
        key->enforcement->rights(key) > key->default_rights && !pkeys_chosen(key->head.ad_wd))
        os_abort("a thread that was born inside a scope: pkeyguard_thread_reset() should be the "
                 "first that it calls",
                 NULL);
}

int pkeyguard_guard_enter(struct pkeyguard_key *key, struct pkeyguard_region *region,
                          enum pkeyguard_rights rights, unsigned flags,
                          struct pkeyguard_guard *ret_guard)
{
    bool restricts = flags & PKEYGUARD_GUARD_RESTRICTS;
    bool checked = flags & PKEYGUARD_GUARD_CHECKED;
    struct pkru_change change;
    int error;

    *ret_guard = (struct pkeyguard_guard){0};
    if (region != NULL)
        key = region->head.key;
    if (key == NULL || rights < PKEYGUARD_NO_ACCESS || rights > PKEYGUARD_READ_WRITE)
        return -EINVAL;
    if (rights == (restricts ? PKEYGUARD_READ_WRITE : PKEYGUARD_NO_ACCESS))
        return 0;
    if (checked)
        check_thread(key);
    error = key->enforcement->enter(key, region != NULL ? &region->pages : NULL, rights,
                                    restricts ? GUARD_RESTRICTS : GUARD_WIDENS, &change);
    if (error != 0)
        return error;
    *ret_guard = (struct pkeyguard_guard){
        .changed = {change.cleared, change.set},
        .how = HELD | (restricts ? RESTRICTS : 0) | (checked ? CHECKED : 0) |
               (uint32_t)rights << RIGHTS_SHIFT,
        .thread = checked ? (uint32_t)os_thread_id() : 0,
        .key = key,
        .region = region,
    };
    return 0;
}

/* The misuse that a guard can see when it is released. */
static void check_release(const struct pkeyguard_guard *guard)
{
    uint32_t pkru;

    if (guard->thread != (uint32_t)os_thread_id())
        os_abort("a guard released by a thread that did not acquire it", NULL);
    if (guard->key->enforcement->kind != PKEYGUARD_PKU)
        return;
    pkru = pkeyguard_pkru_read();
    if ((pkru & guard->changed[0]) != 0 ||
        (guard->how & RESTRICTS && (~pkru & guard->changed[1]) != 0))
        os_abort("a guard released out of order around a restrict guard or a change of rights",
                 NULL);
}

void pkeyguard_guard_leave(const struct pkeyguard_guard *guard)
{
    struct pkru_change change = {.cleared = guard->changed[0], .set = guard->changed[1]};
    int saved_errno = errno;
    int error;

    if (guard->how & CHECKED)
        check_release(guard);
    error = guard->key->enforcement->leave(
        guard->key, guard->region != NULL ? &guard->region->pages : NULL,
        (enum pkeyguard_rights)(guard->how >> RIGHTS_SHIFT),
        guard->how & RESTRICTS ? GUARD_RESTRICTS : GUARD_WIDENS, &change);
    if (error != 0)
        os_abort("a guard cannot be released: ", pkeyguard_strerror(error), NULL);
    errno = saved_errno;
}

void pkeyguard_scope_abort(const struct pkeyguard_region *region, const char *what,
                           const char *where, int error)
{
    bool named = region != NULL && region->name[0] != '\0';

    os_abort(where, ": cannot open a ", what, named ? " on region '" : "",
             named ? region->name : "", named ? "': " : ": ", pkeyguard_strerror(error), NULL);
}
