/* SPDX-License-Identifier: MIT */
/* guard_core.h - what guards of every kind share: checked guards (checked_guard.c) and others */
#ifndef GUARD_CORE_H
#define GUARD_CORE_H

#include <pkeyguard/guard.h>

#include "guard/undo.h"
#include "pkey/thread_records.h"

/* The arguments of guard_open_slowly() and pkeyguard_checked_open(). */
struct guard_request {
    void *target; /* a region, or a key if flags say so; may be NULL */
    size_t size, offset;
    unsigned flags; /* PKEYGUARD_GUARD_* */
    const char *where;
};

/* Returns NULL if the request is for a whole key. */
static inline struct pkeyguard_region *request_region(const struct guard_request *request)
{
    return request->flags & PKEYGUARD_GUARD_OF_KEY ? NULL
                                                   : (struct pkeyguard_region *)request->target;
}

/* Undoes an open that took no fast path. On failure returns -errno, and the guard stays open. */
int guard_leave(uint64_t undo);

/*
 * Opens, and waits and retries if the form of the guard asks for it. Returns what the form returns.
 */
void *guard_open(const struct guard_request *request, bool checked, uint64_t *ret_undo);

/*
 * For kept_calls.c: as pkeyguard_call_open() and pkeyguard_call_close() of arch/calls.h, for what
 * the assembly does not handle.
 */
__attribute__((used)) struct pkeyguard_opened
guard_open_slowly(void *target, size_t size, size_t offset, const char *where, unsigned flags);
__attribute__((used)) void guard_close_slowly(uint64_t undo);

/* Keeps errno. Returns zeros. */
__attribute__((used)) struct pkeyguard_opened guard_wake_waiters(struct thread_record *record);

/*
 * Settles an entry from which the guard that had this to undo was subtracted (own_counts.h). Aborts
 * if that fails. Keeps errno. Returns zeros.
 */
__attribute__((used)) struct pkeyguard_opened guard_settle(struct own_count *mine, uint64_t undo);

__attribute__((noreturn)) void guard_abort_unreleased(int error);

#endif
