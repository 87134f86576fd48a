/* SPDX-License-Identifier: MIT */
/*
 * pkeyguard_try_call(): a fault ends the call. The fault reporter jumps back here, and this code
 * undoes every guard that the call left open.
 */
#include <pkeyguard/fault.h>

#include <errno.h>
#include <stddef.h>

#include <pkeyguard/thread.h>

#include "fault/recovery.h"
#include "key/enforcement.h"
#include "thread/saved_pins.h"

/* Closes what the call opened, and opens again what a call gate inside it closed. */
static void undo_guards(const struct pkeyguard_thread_rights *before, unsigned level)
{
    mprotect_lower_level(level);
    pkeyguard_thread_restore(before);
    if (saved_pins_retake(before))
        pkeyguard_thread_restore(before);
}

/* Runs however the call ends: an exception or the end of the thread may pass through it. */
static void end_call(struct recovery_point **point)
{
    unsigned level = (*point)->level;

    recovery_end(*point);
    mprotect_keep_guards_at(level);
}

static int try_function(struct recovery_point *begun, int (*function)(void *), void *argument,
                        int *ret_result, struct pkeyguard_fault *ret_fault)
{
    struct recovery_point *point __attribute__((cleanup(end_call))) = begun;
    struct pkeyguard_thread_rights before;
    int result;

    pkeyguard_thread_save(&before);
    if (sigsetjmp(point->back, 1) != 0) {
        undo_guards(&before, point->level);
        *ret_fault = point->fault;
        return -EFAULT;
    }
    own_recovery_point = point;
    result = function(argument);
    *ret_result = result;
    return 0;
}

int pkeyguard_try_call(int (*function)(void *), void *argument, int *ret_result,
                       struct pkeyguard_fault *ret_fault)
{
    struct recovery_point *point;
    int error;

    if (function == NULL || ret_result == NULL || ret_fault == NULL || !reporter_recovers())
        return -EINVAL;
    error = recovery_prepare(__builtin_frame_address(0), &point);
    if (error != 0)
        return error;
    point->level = mprotect_raise_level();
    return try_function(point, function, argument, ret_result, ret_fault);
}
