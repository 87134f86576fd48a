/* SPDX-License-Identifier: MIT */
/*
 * Revocation: a signal stops every other thread, and the rights in its signal frame are changed.
 *
 * The round has succeeded when the kernel counts no more threads than those that are stopped, and
 * the initiator. At that moment there is no other thread, and every one of these has the new rights
 * in the frame that it goes on with:
 *
 *  - A thread that waits in the handler can neither open a pkey nor create a thread nor end. So the
 *    threads that the kernel counted are exactly those that have answered.
 *  - A thread that is born during the round is born of a thread that has not answered, and it
 *    counts. The initiator finds it when it looks for threads again.
 *  - A waiting thread goes on with the frame of this handler. It answers only if every other frame
 *    on its stack has the new rights already: from another frame, a later return would give it back
 *    what it had.
 *  - The thread is not about to write a PKRU that it has read before. For a guard and for
 *    pkey_set(3), the code around the interrupted instruction shows that. For the library's C code,
 *    which reads rights and then sets them, its count of changes does (own_pkru.h). A guard on a
 *    key may not be opened while that key is destroyed, says its header.
 *  - A fork child has one thread, which was not waiting in the handler; a fork waits for the lock.
 *    As for virtual keys, clone(2) can make code that shares the memory and is not counted.
 *  - The kernel counts the first thread until the process ends, also after that thread has ended.
 *    The initiator finds out whether it has ended before it counts.
 */
#include "pkey/revocation.h"

#include <stdbool.h>
#include <stddef.h>

#include "pkey/kernel_threads.h"
#include "pkey/own_pkru.h"
#include "pkey/signal_round.h"
#include "pkey/thread_records.h"
#include "pkru/signal_frame.h"

/* Written under the library's lock before a round, read by the handlers in it. */
static struct revocation {
    pkru_bits mask; /* the bits that change */
    pkru_bits deny; /* those of them that are set afterwards; the others are clear */
} revocation;

static bool has_new_rights(uint32_t pkru, uint32_t unused)
{
    (void)unused;
    return (pkru & revocation.mask) == revocation.deny;
}

/* True if the thread's PKRU can be changed in this frame. */
static bool can_change(void *ucontext)
{
    uint32_t pkru;

    return own_pkru.changes_begun == 0 && !pkru_write_pending(ucontext) &&
           thread_test_frames_above(stack_in_frame(ucontext), has_new_rights, 0) &&
           pkru_in_frame(ucontext, &pkru);
}

static void change_in_frame(void *ucontext)
{
    uint32_t pkru;

    if (pkru_in_frame(ucontext, &pkru))
        (void)pkru_set_in_frame(ucontext, (pkru & ~revocation.mask) | revocation.deny);
}

static bool close_in_frame(void *ucontext)
{
    if (!can_change(ucontext))
        return false;
    change_in_frame(ucontext);
    return true;
}

static void change_if_all_can(void *ucontext, bool success)
{
    if (!success)
        return;
    own_pkru.chosen |= revocation.mask;
    own_pkru.narrowed |= revocation.deny & ~pkeys_defaults();
    change_in_frame(ucontext);
}

static NEEDS_LIBRARY_LOCK bool all_are_stopped(unsigned stopped)
{
    unsigned ended = kernel_threads_leader_exited() ? 1 : 0;

    return kernel_threads_count() == 1 + stopped + ended;
}

int revoke_everywhere(pkru_bits bits)
{
    static const struct round_job job = {
        .is_complete = all_are_stopped, .in_handler = close_in_frame, .waits = true};

    revocation = (struct revocation){.mask = bits, .deny = bits & EVERY_AD};
    own_pkru_change(bits & ~EVERY_AD, bits & EVERY_AD);
    return signal_round(&job);
}

int set_rights_everywhere(pkru_bits mask, pkru_bits deny)
{
    static const struct round_job job = {.is_complete = all_are_stopped,
                                         .in_handler = can_change,
                                         .at_end = change_if_all_can,
                                         .waits = true};
    revocation = (struct revocation){.mask = mask, .deny = deny};
    return signal_round(&job);
}
