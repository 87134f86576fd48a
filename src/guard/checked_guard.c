/* SPDX-License-Identifier: MIT */
/* Guards that are acquired with PKEYGUARD_DEBUG: they abort on misuse, with a line on stderr. */
#include <pkeyguard/guard.h>

#include <errno.h>
#include <stdatomic.h>

#include "base/os.h"
#include "guard/guard_core.h"
#include "guard/holder.h"
#include "pkey/own_pkru.h"
#include "region/region_record.h"

__thread uint64_t own_holder;

enum { REMEMBERED = 1024 };

/* Every thread reads and writes these. A fork child has its own copy. */
static struct checked_guards {
    _Atomic uint64_t last_number; /* the last number that a holder or a guard got */

    /*
     * The numbers of released guards. A number is stored at its remainder modulo REMEMBERED, until
     * a later one takes its place.
     */
    _Atomic uint64_t released[REMEMBERED];
} checked_guards;

static uint64_t new_number(void)
{
    return ++checked_guards.last_number;
}

static uint64_t present_holder(void)
{
    if (own_holder == 0)
        own_holder = new_number();
    return own_holder;
}

/*
 * @region: NULL if the guard is on a key. @where: file and line of the wrong call. @acquired_at:
 * file and line where the guard was acquired, if that is another call. NULL: not known.
 */
__attribute__((noreturn)) static void abort_misuse(const struct pkeyguard_region *region,
                                                   const char *where, const char *acquired_at,
                                                   const char *reason)
{
    bool named = region != NULL && region->name[0] != '\0';

    if (where == NULL) {
        where = acquired_at;
        acquired_at = NULL;
    }
    os_abort(where != NULL ? where : "", where != NULL ? ": " : "",
             region == NULL ? "a guard on a key"
             : named        ? "a guard on region '"
                            : "a guard on a region",
             named ? region->name : "", named ? "'" : "",
             acquired_at != NULL ? ", acquired at " : "", acquired_at != NULL ? acquired_at : "",
             ": ", reason, NULL);
}

/* @frame: the frame of the function that the program called. */
static void check_lock(const void *frame, const struct pkeyguard_region *region, const char *where,
                       const char *acquired_at)
{
    if (library_lock_is_lost(frame))
        abort_misuse(region, where, acquired_at,
                     "the library is locked for good: siglongjmp left a signal handler that had "
                     "interrupted it");
}

/*
 * True if the thread inherited open rights from its creator. The process's first thread was not
 * created inside a scope.
 */
static bool inherited_rights(const struct pkeyguard_key *key)
{
    return key->enforcement->kind == PKEYGUARD_PKU &&
           key->enforcement->rights(key) > key->default_rights &&
           !own_pkru_chosen(key->head.ad_wd) && os_thread_id() != os_process_id();
}

static void check_before_open(const struct guard_request *request)
{
    const struct pkeyguard_region *region = request_region(request);
    const struct pkeyguard_key *key = request->target;
    const char *reason = NULL;

    if (request->target == NULL)
        return;
    if (registry_is_published(registry_generation(request->target))) {
        if (inherited_rights(region != NULL ? region->head.key : key))
            reason = "this thread was created inside a scope: call pkeyguard_thread_reset() first "
                     "in it";
    } else if (region == NULL) {
        reason = "the key was destroyed";
    } else {
        reason = pages_absent(&region->pages) ? "a fork child does not have the region"
                                              : "the region was destroyed";
    }
    if (reason != NULL)
        abort_misuse(region, request->where, NULL, reason);
}

static struct pkeyguard_key *key_to_close(const struct pkeyguard_guard *guard)
{
    void *address = undo_address(guard->undo);

    return guard->undo & UNDO_OF_KEY ? address : ((struct pkeyguard_region *)address)->head.key;
}

/* Returns 0 for a region's private key, which lives as long as its region. */
static unsigned generation_of_key(const struct pkeyguard_guard *guard)
{
    const struct pkeyguard_key *key = key_to_close(guard);

    return guard->region != NULL && key == &guard->region->private_key ? 0
                                                                       : registry_generation(key);
}

static bool released_before(const struct pkeyguard_guard *guard)
{
    return checked_guards.released[guard->number % REMEMBERED] == guard->number;
}

/*
 * A guard's expected_change says what the guard changed in own_pkru.expected, as `undo` says what
 * it changed in PKRU. They differ in a handler, whose guard opens what the interrupted code may
 * have open already.
 */
enum { EXPECTED_SET_SHIFT = 2 };

static void note_expected_bits(int pkey, pkru_bits relative)
{
    own_pkru.expected = (own_pkru.expected & ~PKEY_BITS(pkey)) | pkru_from_relative(pkey, relative);
}

/* @expected_before: own_pkru.expected before the guard was opened. */
static void note_opened(struct pkeyguard_guard *guard, pkru_bits expected_before)
{
    struct pkru_change change = undo_change(guard->undo);
    int pkey = key_to_close(guard)->pkey;
    pkru_bits before, cleared, set;

    if (pkey <= 0)
        return;
    before = pkru_to_relative(pkey, expected_before);
    cleared = before & change.cleared;
    set = ~before & change.set;
    guard->expected_change = cleared | set << EXPECTED_SET_SHIFT;
    note_expected_bits(pkey, (before & ~cleared) | set);
}

static void note_closed(const struct pkeyguard_guard *guard, int pkey, pkru_bits expected_before)
{
    pkru_bits cleared = guard->expected_change & RELATIVE_BITS;
    pkru_bits set = guard->expected_change >> EXPECTED_SET_SHIFT;

    if (pkey > 0)
        note_expected_bits(pkey, (pkru_to_relative(pkey, expected_before) & ~set) | cleared);
}

/* True if a guard that is released now finds bits set that it cleared, or the reverse. */
static bool differs(uint64_t undo, pkru_bits denied)
{
    struct pkru_change change = undo_change(undo);

    return (denied & change.cleared) != 0 ||
           (undo_mode(undo) == GUARD_RESTRICTS && (~denied & change.set) != 0);
}

static bool out_of_order(const struct pkeyguard_guard *guard)
{
    const struct pkeyguard_key *key = key_to_close(guard);
    pkru_bits denied;

    return key->enforcement->denied != NULL && key->enforcement->denied(key, &denied) &&
           differs(guard->undo, denied) &&
           differs(guard->undo, pkru_to_relative(key->pkey, own_pkru.expected));
}

static void check_before_close(const struct pkeyguard_guard *guard, const char *where)
{
    const char *reason = NULL;

    if (guard->holder != own_holder)
        reason = "released by a thread that did not acquire it";
    else if (released_before(guard))
        reason = "released twice, through a copy of it";
    else if (generation_of_key(guard) != guard->key_generation)
        reason = "its key was destroyed";
    else if (out_of_order(guard))
        reason = "released out of order around a restrict guard or a change of rights";
    if (reason != NULL)
        abort_misuse(guard->region, where, guard->where, reason);
}

void *pkeyguard_checked_open(void *target, size_t size, size_t offset, const char *where,
                             unsigned flags, struct pkeyguard_guard *ret_guard)
{
    struct guard_request request = {target, size, offset, flags, where};
    pkru_bits expected = own_pkru.expected;
    void *answer;

    *ret_guard = (struct pkeyguard_guard){0};
    check_lock(__builtin_frame_address(0), request_region(&request), where, NULL);
    check_before_open(&request);
    answer = guard_open(&request, true, &ret_guard->undo);
    if (ret_guard->undo != 0) {
        ret_guard->holder = present_holder();
        ret_guard->number = new_number();
        ret_guard->where = where;
        ret_guard->region = request_region(&request);
        ret_guard->key_generation = generation_of_key(ret_guard);
        note_opened(ret_guard, expected);
    }
    return answer;
}

void pkeyguard_checked_close(struct pkeyguard_guard *guard, const char *where)
{
    pkru_bits expected = own_pkru.expected;
    int saved_errno = errno;
    int pkey, error;

    check_lock(__builtin_frame_address(0), guard->region, where, guard->where);
    check_before_close(guard, where);
    checked_guards.released[guard->number % REMEMBERED] = guard->number;
    pkey = key_to_close(guard)->pkey;
    error = guard_leave(guard->undo);
    if (error != 0)
        guard_abort_unreleased(error);
    note_closed(guard, pkey, expected);
    errno = saved_errno;
}
