/* SPDX-License-Identifier: MIT */
/*
 * Revocation: a signal stops every other thread, and its handler changes the rights in the thread's
 * signal frame.
 *
 * The round has succeeded when the kernel counts no threads but the initiator and those that are
 * stopped. At that moment every other thread has the new rights in the frame that it goes on with:
 *
 *  - A thread that waits in the handler cannot open a pkey, create a thread, or end. So the threads
 *    that the kernel counted are exactly those that have answered.
 *  - A thread that starts during the round was created by a thread that has not answered, and it
 *    counts. The initiator finds it when it looks for threads again.
 *  - A waiting thread goes on with the frame of this handler. It answers "done" only if every older
 *    frame on its stack already has the new rights. Otherwise a later return to such a frame would
 *    give it back its old rights.
 *  - The thread is not about to write a PKRU value that it has read before. For a guard and for
 *    pkey_set(3) the code around the interrupted instruction shows that. For the library's C code
 *    the count of changes shows it (own_pkru.h). The header of keys forbids opening a guard on a
 *    key during its destruction.
 *  - A fork child has one thread, which was not waiting in the handler, because fork waits for the
 *    lock. clone(2) can make code that shares the memory and is not counted; the proof does not
 *    cover it.
 *  - The kernel counts the first thread until the process ends, even after that thread has ended.
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

/* Written under the library's lock before a round. Read by the handlers during the round. */
static struct revocation {
    pkru_bits mask; /* the bits that change */
    pkru_bits deny; /* the bits of `mask` to set; the others are cleared */
} revocation;

static bool has_new_rights(uint32_t pkru, uint32_t unused)
{
    (void)unused;
    return (pkru & revocation.mask) == revocation.deny;
}

/* True if it is safe to change the thread's PKRU in this frame. */
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
    pkeys_note_given_up(revocation.deny & ~pkeys_defaults());
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

/* Notes it while the threads are stopped: one may be about to restore rights that it has saved. */
static NEEDS_LIBRARY_LOCK bool note_if_all_are_stopped(unsigned stopped)
{
    bool all = all_are_stopped(stopped);

    if (all)
        pkeys_note_everywhere(pkru_first_pkey(revocation.mask), revocation.deny);
    return all;
}

int set_rights_everywhere(int pkey, pkru_bits deny)
{
    static const struct round_job job = {.is_complete = note_if_all_are_stopped,
                                         .in_handler = can_change,
                                         .at_end = change_if_all_can,
                                         .waits = true};
    revocation = (struct revocation){.mask = PKEY_BITS(pkey), .deny = deny};
    return signal_round(&job);
}
