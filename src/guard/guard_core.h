/* SPDX-License-Identifier: MIT */
/* guard_core.h - opens and closes for guards of every kind; checked or not (checked_guard.c) */
#ifndef GUARD_CORE_H
#define GUARD_CORE_H

#include <pkeyguard/guard.h>

#include "guard/undo.h"

/* The arguments of pkeyguard_guard_open() and pkeyguard_checked_open(). */
struct guard_request {
    void *target; /* a region, or a key if flags say so; may be NULL */
    size_t size, offset;
    unsigned flags; /* PKEYGUARD_GUARD_* */
    const char *where;
};

/* NULL: the request is for a whole key. */
static inline struct pkeyguard_region *request_region(const struct guard_request *request)
{
    return request->flags & PKEYGUARD_GUARD_OF_KEY ? NULL
                                                   : (struct pkeyguard_region *)request->target;
}

/*
 * Opens once and says how to undo it. Returns 0, or -errno as pkeyguard_acquire(), with *ret_undo
 * 0. @checked: the guard gets UNDO_CHECKED if there is anything to undo.
 */
int guard_enter(const struct guard_request *request, bool checked, uint64_t *ret_undo);

/* Undoes it; `undo` is of no fast path. On failure returns -errno, and it is open as before. */
int guard_leave(uint64_t undo);

/* Opens as often as the form of the guard asks for, and returns what the form returns. */
void *guard_open(const struct guard_request *request, bool checked, uint64_t *ret_undo);

__attribute__((noreturn)) void guard_abort_unreleased(int error);

#endif
