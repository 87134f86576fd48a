/* SPDX-License-Identifier: MIT */
#include <pkeyguard/guard.h>

#include <errno.h>
#include <stdio.h>

#include "base/error_text.h"
#include "base/os.h"
#include "guard/guard_core.h"
#include "guard/virtual_guard.h"
#include "key/pin.h"
#include "key/virtual_wait.h"
#include "pkey/own_pkru.h"
#include "region/region_record.h"

static enum pkeyguard_rights request_rights(const struct guard_request *request)
{
    return (enum pkeyguard_rights)(request->flags & PKEYGUARD_GUARD_RIGHTS);
}

static enum guard_mode request_mode(const struct guard_request *request)
{
    return request->flags & PKEYGUARD_GUARD_RESTRICTS ? GUARD_RESTRICTS : GUARD_WIDENS;
}

/* A region whose head has size 0 starts where its size has it start; others start a page. */
static bool request_valid(const struct guard_request *request)
{
    const struct pkeyguard_region *region = request_region(request);
    uintptr_t alignment = (uintptr_t)1 << (request->flags >> PKEYGUARD_GUARD_ALIGNMENT);

    if (request->target == NULL || !rights_valid(request_rights(request)))
        return false;
    if (region == NULL)
        return true;
    if (request->size > region->size || request->offset > region->size - request->size)
        return false;
    return region->head.size != 0 ||
           ((uintptr_t)region->head.address + request->offset) % alignment == 0;
}

/* True if such a guard changes nothing, so that its release has nothing to undo. */
static bool is_empty_guard(const struct pkeyguard_key *key, enum pkeyguard_rights rights,
                           enum guard_mode mode, bool checked)
{
    if (rights == (mode == GUARD_RESTRICTS ? PKEYGUARD_READ_WRITE : PKEYGUARD_NO_ACCESS))
        return true;
    return key->enforcement->kind == PKEYGUARD_UNENFORCED && !checked;
}

/* Only under mprotect does a guard open its region alone; elsewhere it opens the key. */
static uint64_t undo_of(struct pkeyguard_key *key, struct pkeyguard_region *region,
                        enum pkeyguard_rights rights, enum guard_mode mode,
                        const struct pkru_change *change)
{
    if (region != NULL && key->enforcement->kind == PKEYGUARD_MPROTECT)
        return undo_make(region, false, rights, mode, change);
    return undo_make(key, true, rights, mode, change);
}

/*
 * Tries once to open, and reports how to undo it. Returns 0, or -errno as pkeyguard_acquire() with
 * *ret_undo 0. @checked: sets UNDO_CHECKED if there is anything to undo.
 */
static int enter(const struct guard_request *request, bool checked, uint64_t *ret_undo)
{
    struct pkeyguard_region *region = request_region(request);
    enum pkeyguard_rights rights = request_rights(request);
    enum guard_mode mode = request_mode(request);
    struct pkeyguard_key *key;
    struct pkru_change change;
    int error;

    *ret_undo = 0;
    if (!request_valid(request))
        return -EINVAL;
    key = region != NULL ? region->head.key : request->target;
    if (is_empty_guard(key, rights, mode, checked))
        return 0;
    if (!checked && mode == GUARD_WIDENS) {
        error = virtual_guard_open(key, rights);
        if (error > 0)
            *ret_undo = undo_make(key, true, 0, mode, &(struct pkru_change){0});
        if (error != 0)
            return error > 0 ? 0 : error;
    }
    error =
        key->enforcement->enter(key, region != NULL ? &region->pages : NULL, rights, mode, &change);
    if (error == 0)
        *ret_undo = undo_of(key, region, rights, mode, &change) | (checked ? UNDO_CHECKED : 0);
    return error;
}

static const char *invalid_scope_text(const struct pkeyguard_region *region)
{
    if (region == NULL)
        return "no region or key, or unknown rights";
    return region->head.size == 0
               ? "the type is larger than the region or needs more alignment, the object is not "
                 "inside it, or the rights are unknown"
               : "the type is larger than the region, the object is not inside it, or the rights "
                 "are unknown";
}

/* In a scope an error has fewer causes than error_text() names. */
static const char *scope_error_text(const struct pkeyguard_region *region, int error)
{
    switch (error) {
    case -EINVAL:
        return invalid_scope_text(region);
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

int guard_leave(uint64_t undo)
{
    struct pkru_change change = undo_change(undo);
    struct pkeyguard_region *region = NULL;
    struct pkeyguard_key *key = undo_address(undo);

    if (!(undo & UNDO_OF_KEY)) {
        region = undo_address(undo);
        key = region->head.key;
    }
    return key->enforcement->leave(key, region != NULL ? &region->pages : NULL, undo_rights(undo),
                                   undo_mode(undo), &change);
}

static const char *name_of_form(unsigned flags)
{
    if (flags & PKEYGUARD_GUARD_RESTRICTS)
        return "restrict scope";
    if (flags & PKEYGUARD_GUARD_OF_KEY)
        return "key scope";
    return (flags & PKEYGUARD_GUARD_RIGHTS) == PKEYGUARD_READ_ONLY ? "read scope" : "write scope";
}

__attribute__((noreturn, cold)) static void abort_unopened(const struct guard_request *request,
                                                           int error)
{
    const struct pkeyguard_region *region = request_region(request);
    bool named = region != NULL && region->name[0] != '\0';
    pid_t thread = error == -EAGAIN ? virtual_wait_unregistered_thread() : 0;
    char number[16];

    snprintf(number, sizeof(number), "%d", (int)thread);
    os_abort(request->where, ": cannot open a ", name_of_form(request->flags),
             named ? " on region '" : "", named ? region->name : "", named ? "': " : ": ",
             scope_error_text(region, error), thread > 0 ? ": thread " : "",
             thread > 0 ? number : "", NULL);
}

void *guard_open(const struct guard_request *request, bool checked, uint64_t *ret_undo)
{
    const struct pkeyguard_region *region = request_region(request);

    for (;;) {
        int error = enter(request, checked, ret_undo);

        if (request->flags & PKEYGUARD_GUARD_BARE)
            return (void *)(intptr_t)error;
        if (error == 0)
            return region != NULL ? region->head.address + request->offset : request->target;
        if (request->flags & PKEYGUARD_GUARD_MAY_FAIL) {
            errno = -error;
            return NULL;
        }
        if (request->flags & PKEYGUARD_GUARD_RESTRICTS || !virtual_wait_for(error))
            abort_unopened(request, error);
    }
}

void guard_abort_unreleased(int error)
{
    os_abort("a guard cannot be released: ", error_text(error), NULL);
}

struct pkeyguard_opened guard_open_slowly(void *target, size_t size, size_t offset,
                                          const char *where, unsigned flags)
{
    struct guard_request request = {target, size, offset, flags, where};
    struct pkeyguard_opened opened;

    opened.address = guard_open(&request, false, &opened.undo);
    return opened;
}

void guard_close_slowly(uint64_t undo)
{
    int saved_errno = errno;
    int error = guard_leave(undo);

    if (error != 0)
        guard_abort_unreleased(error);
    errno = saved_errno;
}

struct pkeyguard_opened guard_wake_waiters(struct thread_record *record)
{
    int saved_errno = errno;

    pin_wake_waiters(record);
    errno = saved_errno;
    return (struct pkeyguard_opened){0};
}

struct pkeyguard_opened guard_settle(struct own_count *mine, uint64_t undo)
{
    int saved_errno = errno;
    int error = mprotect_settle(mine, undo_rights(undo));

    if (error != 0)
        guard_abort_unreleased(error);
    errno = saved_errno;
    return (struct pkeyguard_opened){0};
}
