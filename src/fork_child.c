/* SPDX-License-Identifier: MIT */
/*
 * fork_child.c - what a fork child forgets, in this order
 *
 * A fork child has the forking thread alone. Of the library's state it keeps what belongs to that
 * thread. Each function changes nothing where its module was never used.
 */
#include <stddef.h>

#include "base/lock.h"
#include "key/enforcement.h"
#include "key/virtual_pool.h"
#include "pkey/revocation.h"
#include "pkey/thread_records.h"
#include "region/region_record.h"

void (*const fork_child_forget[])(void) = {
    thread_records_forget_others, /* other threads' records, with their pins */
    revocation_forget_round,      /* threads that a signal has stopped */
    virtual_pool_renew_barrier,   /* membarrier(2)'s registration, which is the parent's */
    mprotect_forget_others,       /* software guards of other threads */
    region_forget_unmapped,       /* regions that fork did not copy */
    NULL,
};
