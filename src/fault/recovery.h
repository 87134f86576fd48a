/* SPDX-License-Identifier: MIT */
/* recovery.h - points in a thread to which the reporter jumps when a fault ends what follows them
 */
#ifndef RECOVERY_H
#define RECOVERY_H

#include <setjmp.h>

#include <pkeyguard/fault.h>

/* On the stack of the function that sets it. */
struct recovery_point {
    sigjmp_buf back;
    struct recovery_point *outer;
    struct pkeyguard_fault fault; /* that led back here */
};

/* The calling thread's innermost point; NULL: it has none. Its signal handlers read it. */
extern __thread struct recovery_point *own_recovery_point
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* True if the reporter is installed with PKEYGUARD_REPORTER_RECOVER. */
bool reporter_recovers(void);

#endif
