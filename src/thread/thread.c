/* SPDX-License-Identifier: MIT */
#include <pkeyguard/thread.h>

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <pkeyguard/guard.h>
#include <pkeyguard/pkru.h>

#include "base/keep_loaded.h"
#include "base/os.h"
#include "fault/recovery.h"
#include "guard/holder.h"
#include "key/enforcement.h"
#include "thread/saved_pins.h"
#include "pkey/own_pkru.h"
#include "pkey/pkey_allocator.h"
#include "pkey/pkeys.h"
#include "pkey/signal_round.h"
#include "pkey/thread_records.h"

/* Changes only the PKRU bits in the mask: sets those in deny and clears the others. */
static void set_masked(pkru_bits mask, pkru_bits deny)
{
    if (mask == 0)
        return;
    pkeys_note_given_up(mask & deny & ~pkeys_defaults());
    own_pkru_change(mask & ~deny, mask & deny);
}

void pkeyguard_thread_save(struct pkeyguard_thread_rights *ret_rights)
{
    uint64_t bound = pkeys_snapshot();

    ret_rights->bound = bound;
    ret_rights->pkru = pkeys_in(bound) != 0 ? pkeyguard_pkru_read() : 0;
    ret_rights->holder = own_holder;
    ret_rights->level = guard_counts_level();
    ret_rights->parked = ret_rights->tried_call = 0;
    saved_pins_save(ret_rights);
}

/*
 * A siglongjmp can leave a change of rights in the middle. Its code will never run again, so end
 * it.
 */
static void end_skipped_changes(void)
{
    if (own_pkru.changes_begun != 0 && thread_outside_handlers())
        own_pkru.changes_begun = 0;
}

/*
 * Forgets the tried calls, begun since the save, that a jump has left. The frame of a call that
 * still runs is above that of every function that it calls, unless that one is a handler on another
 * stack.
 */
static void forget_left_calls(const struct pkeyguard_thread_rights *rights, const void *frame)
{
    struct recovery_point *point;

    while ((point = own_recovery_point) != NULL && point->level >= rights->level &&
           (const char *)point->frame <= (const char *)frame && !os_on_signal_stack())
        recovery_end(point);
}

/* Returns to the level at the save. False: no call gate was left, or a signal handler runs. */
static bool end_left_gates(const struct pkeyguard_thread_rights *rights)
{
    unsigned level = (unsigned)rights->level;

    if (own_recovery_point != NULL && own_recovery_point->level >= level)
        level = own_recovery_point->level + 1;
    if (guard_counts_level() <= level || !thread_outside_handlers())
        return false;
    mprotect_resume_own(level);
    return true;
}

static void restore_rights(const struct pkeyguard_thread_rights *rights)
{
    pkru_bits kept, deny;

    own_pkru_begin_change();
    deny = pkeys_saved_deny(rights->bound, rights->pkru, &kept);
    set_masked(kept, deny);
    own_pkru_end_change();
    saved_pins_restore(rights);
}

void pkeyguard_thread_restore(const struct pkeyguard_thread_rights *rights)
{
    end_skipped_changes();
    forget_left_calls(rights, __builtin_frame_address(0));
    restore_rights(rights);
    if (end_left_gates(rights) && saved_pins_retake(rights))
        restore_rights(rights);
    if (rights->holder != 0)
        own_holder = rights->holder;
}

int pkeyguard_thread_switch(struct pkeyguard_thread_rights *ret_from,
                            const struct pkeyguard_thread_rights *to)
{
    static const struct pkeyguard_thread_rights fresh;
    pkru_bits kept, left, entered, deny;
    struct pkeyguard_thread_rights from;
    struct recovery_point *tried;
    int error;

    if (to == NULL)
        to = &fresh;
    pkeyguard_thread_save(&from);
    error = saved_pins_take(to);
    if (error != 0)
        return error;
    error = mprotect_switch_own(to->parked, &from.parked);
    if (error != 0) {
        saved_pins_drop(to);
        return error;
    }
    from.tried_call = (uintptr_t)own_recovery_point;
    tried = (struct recovery_point *)(uintptr_t)to->tried_call;
    own_pkru_begin_change();
    saved_pins_deny(&from, &left);
    deny = saved_pins_deny(to, &entered);
    deny |= pkeys_saved_deny(to->bound, to->pkru, &kept);
    deny |= pkeys_defaults() & ~kept & ~entered;
    set_masked(pkeys_bits(from.bound) | left | entered, deny);
    own_pkru_end_change();
    saved_pins_drop(&from);
    own_holder = to->holder;
    /* Copy only the part in use, because the struct is large. */
    memcpy(ret_from, &from,
           offsetof(struct pkeyguard_thread_rights, virtual_keys[from.virtual_count]));
    own_recovery_point = tried;
    return 0;
}

void pkeyguard_thread_reset(void)
{
    end_skipped_changes();
    own_pkru_begin_change();
    set_masked(pkeys_bits(pkeys_snapshot()), pkeys_defaults());
    own_pkru_end_change();
    saved_pins_reset();
}

int pkeyguard_thread_register(void)
{
    int error = library_lock();

    if (error != 0)
        return error;
    error = pkeys_ruled_out() == 0 ? thread_records_register(true) : 0;
    library_unlock();
    return error;
}

int pkeyguard_thread_use_signal(int signal)
{
    int error;

    if (!signal_round_may_use(signal))
        return -EINVAL;
    error = pkeys_ruled_out() == 0 ? keep_loaded() : 0;
    if (error != 0)
        return error;
    error = library_lock();
    if (error != 0)
        return error;
    error = pkeys_ruled_out() == 0 ? signal_round_use(signal) : 0;
    library_unlock();
    return error;
}

size_t pkeyguard_thread_rights_size(void)
{
    return sizeof(struct pkeyguard_thread_rights);
}

size_t pkeyguard_guard_size(void)
{
    return sizeof(struct pkeyguard_guard);
}
