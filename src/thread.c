/* SPDX-License-Identifier: MIT */
#include <pkeyguard/thread.h>

#include <errno.h>
#include <stddef.h>

#include <pkeyguard/pkru.h>

#include "lock.h"
#include "multiplexer.h"
#include "pkeys.h"

/* Of these bits the ones in deny are set, the others cleared. */
static void set_rights(uint32_t mask, uint32_t deny)
{
    if (mask != 0)
        pkeys_change(mask & ~deny, mask & deny);
}

void pkeyguard_thread_save(struct pkeyguard_thread_rights *ret_rights)
{
    uint64_t bound = pkeys_bound();

    ret_rights->bound = bound;
    ret_rights->pkru = pkeys_mask(bound) != 0 ? pkeyguard_pkru_read() : 0;
}

void pkeyguard_thread_restore(const struct pkeyguard_thread_rights *rights)
{
    set_rights(pkeys_kept(rights->bound), rights->pkru);
}

int pkeyguard_thread_switch(struct pkeyguard_thread_rights *ret_from,
                            const struct pkeyguard_thread_rights *to)
{
    uint32_t deny = pkeys_defaults();

    if (to != NULL) {
        uint32_t kept = pkeys_kept(to->bound);

        deny = (deny & ~kept) | (to->pkru & kept);
    }
    pkeyguard_thread_save(ret_from);
    set_rights(pkeys_mask(ret_from->bound), deny);
    return 0;
}

void pkeyguard_thread_reset(void)
{
    set_rights(pkeys_mask(pkeys_bound()), pkeys_defaults());
    multiplexer_reset();
}

int pkeyguard_thread_register(void)
{
    int error = library_lock();

    if (error != 0)
        return error;
    error = multiplexer_register(true);
    library_unlock();
    /* With no pkeys, or no way to share them, there are no virtual keys to close. */
    return error == -ENOTSUP || error == -ENOSYS ? 0 : error;
}
