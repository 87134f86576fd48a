/* SPDX-License-Identifier: MIT */
/* recovery.h - the points to which the reporter jumps when a fault ends a call */
#ifndef RECOVERY_H
#define RECOVERY_H

#include <setjmp.h>

#include <pkeyguard/fault.h>

/* On the stack of the function that sets it. */
struct recovery_point {
    sigjmp_buf back;
    struct recovery_point *outer;
    unsigned level;               /* of the software guards before the call (key/guard_counts.h) */
    struct pkeyguard_fault fault; /* the fault that ended the call */
};

/* The calling thread's innermost point, or NULL. Its signal handlers read it. */
extern __thread struct recovery_point *own_recovery_point
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* True if the reporter is installed with PKEYGUARD_REPORTER_RECOVER. */
bool reporter_recovers(void);

#endif
