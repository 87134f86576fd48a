/* SPDX-License-Identifier: MIT */
#include <pkeyguard/guard.h>

#include <pkeyguard.h>

#include <stdio.h>

#include "key/enforcement.h"
#include "base/lock.h"
#include "key/virtual_pool.h"
#include "base/os.h"
#include "pkey/pkeys.h"
#include "region/region.h"

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

/* Whether such a guard changes nothing, and has nothing to remember for its release. */
static bool is_empty(const struct pkeyguard_key *key, enum pkeyguard_rights rights, bool restricts,
                     bool checked)
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
    if (error != 0 || is_empty(key, rights, restricts, checked)) {
        *ret_guard = (struct pkeyguard_guard){0};
        return error;
    }
    if (checked)
        check_thread(key);
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

/* The misuse that a guard can see when it is released. */
static void check_release(const struct pkeyguard_key *key, uint32_t how,
                          const struct pkru_change *change, uint32_t thread)
{
    uint32_t denied;

    if (thread != (uint32_t)os_thread_id())
        os_abort("a guard released by a thread that did not acquire it", NULL);
    if (key->enforcement->kind != PKEYGUARD_PKU || key->pkey < 0)
        return;
    denied = pkeyguard_pkru_read();
    if (key->enforcement == &virtual_enforcement)
        denied >>= 2 * key->pkey;
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
        check_release(key, how, &change, thread);
    error = key->enforcement->leave(key, region != NULL ? &region->pages : NULL,
                                    (enum pkeyguard_rights)(how >> RIGHTS_SHIFT),
                                    how & RESTRICTS ? GUARD_RESTRICTS : GUARD_WIDENS, &change);
    if (error != 0)
        os_abort("a guard cannot be released: ", pkeyguard_strerror(error), NULL);
    errno = saved_errno;
}

/* One that is in the way of virtual keys; 0: none; -1: it cannot be known. */
static pid_t unregistered_thread(void)
{
    pid_t thread;

    if (library_lock() != 0)
        return -1;
    thread = thread_records_find_unregistered();
    library_unlock();
    return thread;
}

void pkeyguard_scope_abort(const struct pkeyguard_region *region, const char *what,
                           const char *where, int error)
{
    bool named = region != NULL && region->name[0] != '\0';
    pid_t thread = error == -EAGAIN ? unregistered_thread() : 0;
    char number[16];

    snprintf(number, sizeof(number), "%d", (int)thread);
    os_abort(where, ": cannot open a ", what, named ? " on region '" : "",
             named ? region->name : "", named ? "': " : ": ", pkeyguard_strerror(error),
             thread > 0 ? ": thread " : "", thread > 0 ? number : "", NULL);
}

/* A thread is born unregistered: give it a second to say that it is there. */
static bool wait_for_registration(void)
{
    enum { TRIES = 100, MILLISECONDS = 10 };
    static const atomic_uint nothing;

    for (int i = 0; i < TRIES; i++) {
        pid_t thread = unregistered_thread();

        if (thread == 0)
            return true;
        if (thread < 0 || thread == os_thread_id())
            return false;
        os_wait(&nothing, 0, MILLISECONDS);
    }
    return false;
}

static bool wait_for_pin(void)
{
    bool may_wait, wait = true;
    unsigned seen = 0;

    if (library_lock() != 0)
        return false;
    may_wait = virtual_wait_allowed();
    if (may_wait) {
        seen = virtual_wait_begin();
        wait = virtual_pool_all_pinned();
    }
    library_unlock();
    if (may_wait && wait)
        virtual_wait_sleep(seen);
    return may_wait;
}

void pkeyguard_scope_wait(const struct pkeyguard_region *region, const char *what,
                          const char *where, int error)
{
    if ((error == -EBUSY && wait_for_pin()) || (error == -EAGAIN && wait_for_registration()))
        return;
    pkeyguard_scope_abort(region, what, where, error);
}

static bool is_virtual(const struct pkeyguard_region *region)
{
    return region->head.key->enforcement == &virtual_enforcement;
}

static void unpin_all(size_t count, struct pkeyguard_region *const regions[])
{
    while (count-- > 0) {
        if (is_virtual(regions[count]))
            virtual_pool_unpin(regions[count]->head.key);
    }
}

/* Under the lock, so that no two threads each take a part of what the other one needs, too. */
static int try_to_pin_all(size_t count, struct pkeyguard_region *const regions[],
                          bool *ret_may_wait)
{
    int error = 0;

    for (size_t i = 0; i < count; i++) {
        error = is_virtual(regions[i]) ? virtual_pool_pin(regions[i]->head.key) : 0;
        if (error != 0) {
            /* No other thread's pin is in the way if this one has them all. */
            *ret_may_wait = error == -EBUSY && !virtual_pool_all_pinned_here();
            unpin_all(i, regions);
            break;
        }
    }
    return error;
}

/* Binds the virtual keys among the regions' and keeps them bound; waits where that is safe. */
static int pin_all(size_t count, struct pkeyguard_region *const regions[])
{
    bool may_wait;
    int error = library_lock();

    if (error != 0)
        return error;
    error = virtual_pool_register_thread(false);
    while (error == 0) {
        unsigned seen;

        error = try_to_pin_all(count, regions, &may_wait);
        if (error == 0 || !may_wait || !virtual_wait_allowed())
            break;
        seen = virtual_wait_begin();
        error = try_to_pin_all(count, regions, &may_wait);
        if (error == 0 || !may_wait)
            break;
        library_unlock();
        virtual_wait_sleep(seen);
        error = library_lock();
        if (error != 0)
            return error;
    }
    library_unlock();
    return error;
}

static bool any_virtual(size_t count, struct pkeyguard_region *const regions[])
{
    for (size_t i = 0; i < count; i++) {
        if (is_virtual(regions[i]))
            return true;
    }
    return false;
}

int pkeyguard_acquire_all(size_t count, struct pkeyguard_region *const regions[],
                          const enum pkeyguard_rights rights[], struct pkeyguard_guard ret_guards[])
{
    bool pinned = false;
    size_t open = 0;
    int error = 0;

    for (size_t i = 0; i < count; i++) {
        ret_guards[i] = (struct pkeyguard_guard){0};
        if (regions[i] == NULL || !rights_valid(rights[i]))
            error = -EINVAL;
    }
    if (error == 0 && any_virtual(count, regions)) {
        error = pin_all(count, regions);
        pinned = error == 0;
    }
    while (open < count && error == 0) {
        error = pkeyguard_acquire(regions[open], rights[open], &ret_guards[open]);
        open += error == 0;
    }
    if (pinned)
        unpin_all(count, regions);
    while (error != 0 && open > 0)
        pkeyguard_release(&ret_guards[--open]);
    return error;
}
