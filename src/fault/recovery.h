/* SPDX-License-Identifier: MIT */
/* recovery.h - the points to which the reporter jumps when a fault ends a call */
#ifndef RECOVERY_H
#define RECOVERY_H

#include <setjmp.h>

#include <pkeyguard/fault.h>

/*
 * Not on the stack of the function that sets it: after a jump that left the function its stack is
 * used for other things, but the point must still tell which one is around it.
 */
struct recovery_point {
    sigjmp_buf back;
    struct recovery_point *outer;
    const void *frame;            /* of the function that set it; compared, never read */
    unsigned level;               /* of the software guards before the call (key/guard_counts.h) */
    struct pkeyguard_fault fault; /* the fault that ended the call */
};

/* The calling thread's innermost point, or NULL. Its signal handlers read it. */
extern __thread struct recovery_point *own_recovery_point
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/*
 * Makes a point, which becomes the innermost one when the caller stores it there. Returns 0 or
 * -ENOMEM.
 */
int recovery_prepare(const void *frame, struct recovery_point **ret_point);

/* Ends a point, and those inside it that a jump has left. */
void recovery_end(struct recovery_point *point);

/* True if the reporter is installed with PKEYGUARD_REPORTER_RECOVER. */
bool reporter_recovers(void);

#endif
