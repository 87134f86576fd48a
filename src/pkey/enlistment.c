/* SPDX-License-Identifier: MIT */
/*
 * Enlistment: a signal handler registers its thread at the request of another thread.
 *
 * The registration is that of thread_records.c, and the invariants hold for the same reasons. The
 * thread goes on with this handler's signal frame, in which the handler closes the pool and the
 * idle pkeys. The thread can register only if every other frame on its stack has them closed
 * already. It also cannot register while it is about to write a PKRU value that it has read before
 * (revocation.c), or while it changes its list of robust mutexes, to which the record's mutex is
 * added.
 *
 * The handler cannot take the library's lock, because the initiator holds it. So the initiator
 * offers records before the signal, and adds the accepted records to the registry afterwards.
 */
#include "pkey/enlistment.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/os.h"
#include "pkey/own_pkru.h"
#include "pkey/signal_round.h"
#include "pkey/thread_records.h"
#include "pkru/signal_frame.h"

static bool closes_for_good(void *ucontext, pkru_bits ad_bits)
{
    return own_pkru.changes_begun == 0 && !pkru_write_pending(ucontext) &&
           !os_changes_robust_list() && thread_frames_above_deny(stack_in_frame(ucontext), ad_bits);
}

static bool enlist_in_handler(void *ucontext)
{
    pkru_bits to_close = pkeys_to_close();
    uint32_t pkru;

    if (!closes_for_good(ucontext, to_close) || !pkru_in_frame(ucontext, &pkru) ||
        !thread_records_accept_offer())
        return false;
    /* If the interrupted code is a handler too, both bits would mark it as outside handlers. */
    if (thread_no_frame_above(stack_in_frame(ucontext)))
        to_close |= pkeys_pool();
    return pkru_set_in_frame(ucontext, pkru | to_close);
}

static NEEDS_LIBRARY_LOCK bool all_registered(unsigned unused)
{
    (void)unused;
    thread_records_collect_offers();
    thread_records_make_offers();
    return thread_records_all_registered() == 0;
}

int enlist_threads(void)
{
    static const struct round_job job = {.concerns = thread_records_is_unregistered,
                                         .is_complete = all_registered,
                                         .in_handler = enlist_in_handler};
    int error = signal_round(&job);

    thread_records_collect_offers();
    thread_records_withdraw_offers();
    return error;
}
