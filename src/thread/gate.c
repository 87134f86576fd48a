/* SPDX-License-Identifier: MIT */
/* The call gate: a call into foreign code, during which nothing of the caller is open. */
#include <pkeyguard/thread.h>

#include <errno.h>
#include <stddef.h>

#include "base/error_text.h"
#include "base/os.h"
#include "key/enforcement.h"
#include "key/virtual_wait.h"
#include "pkey/own_pkru.h"
#include "pkey/pkeys.h"
#include "pkey/thread_records.h"
#include "thread/saved_pins.h"

void pkeyguard_closed_enter(struct pkeyguard_closed *ret_closed)
{
    static const struct pkeyguard_thread_rights no_pins;

    unsigned level = guard_counts_level();

    /* First: if a jump ends this function from here on, pkeyguard_thread_restore() sees it. */
    mprotect_suspend_own();
    own_pkru_begin_change();
    pkeyguard_thread_save(&ret_closed->rights);
    ret_closed->rights.level = level;
    if (pkeys_in(ret_closed->rights.bound) != 0) {
        pkeys_note_given_up(pkeys_bits(ret_closed->rights.bound) & ~pkeys_defaults());
        own_pkru_change(0, pkeys_bits(ret_closed->rights.bound));
    }
    own_pkru_end_change();
    /* In a signal handler the pins belong to the interrupted code, so they stay. */
    ret_closed->unpinned = ret_closed->rights.virtual_count != 0 && thread_outside_handlers();
    saved_pins_restore(&no_pins);
    ret_closed->entered = 1;
}

/*
 * Another key may have got the pkey during the call. Then this waits for a pkey, as a scope does.
 */
static void take_pins_back(const struct pkeyguard_thread_rights *rights)
{
    int error;

    while ((error = saved_pins_take(rights)) != 0) {
        if (!virtual_wait_for(error))
            os_abort("a call gate cannot open virtual keys again: ", error_text(error), NULL);
    }
}

void pkeyguard_closed_leave(struct pkeyguard_closed *closed)
{
    int saved_errno = errno;
    pkru_bits of_virtual, deny, kept;

    if (closed->entered == 0)
        return;
    closed->entered = 0;
    if (closed->unpinned)
        take_pins_back(&closed->rights);
    own_pkru_begin_change();
    deny = saved_pins_deny(&closed->rights, &of_virtual);
    deny |= pkeys_saved_deny(closed->rights.bound, closed->rights.pkru, &kept);
    if ((kept | of_virtual) != 0)
        own_pkru_change((kept | of_virtual) & ~deny, deny);
    own_pkru_end_change();
    mprotect_resume_own((unsigned)closed->rights.level);
    errno = saved_errno;
}
