/* SPDX-License-Identifier: MIT */
/*
 * Back end of virtual keys: a key borrows a pkey from the pool. A guard pins the pkey. A pkey that
 * no thread pins may move to another key.
 *
 * A guard on a bound key takes no lock, makes no system call, and writes only to the thread's own
 * record. virtual_pool.c shows why that is safe.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/process.h"
#include "key/virtual_open.h"
#include "key/virtual_pool.h"
#include "pkey/own_pkru.h"

/*
 * Changes use relative bits (bits.h), because the key may have another pkey when the guard is
 * released.
 */

static pkru_bits denied_now(int pkey)
{
    return pkru_to_relative(pkey, pkeyguard_pkru_read());
}

static struct pkru_change deny(int pkey, pkru_bits wanted)
{
    pkru_bits before = denied_now(pkey);
    struct pkru_change change = {.cleared = before & ~wanted, .set = wanted & ~before};

    own_pkru_change(pkru_from_relative(pkey, change.cleared), pkru_from_relative(pkey, change.set));
    return change;
}

/*
 * In a signal handler, guards that are released out of order could leave both bits set, and both
 * bits would mark the thread as outside handlers. So a handler sets AD alone.
 */
static void undo_pkru_change(int pkey, const struct pkru_change *change)
{
    pkru_bits after = (denied_now(pkey) & ~change->set) | change->cleared;

    if (after == RELATIVE_BITS && !thread_marked_outside_handlers())
        after = RELATIVE_AD;
    (void)deny(pkey, after);
}

static int lock_and_pin(struct pkeyguard_key *key)
{
    int error = library_lock();

    if (error != 0)
        return error;
    if (!has_record(own_record))
        error = virtual_pool_register_thread(false);
    if (error == 0)
        error = virtual_pool_pin(key);
    library_unlock();
    return error;
}

/*
 * A trap handler may fork while this thread has the lock. Its child finds the parent's threads
 * registered until it unlocks, so it tries again.
 */
static int bind_and_pin(struct pkeyguard_key *key)
{
    unsigned process = process_number_noticed();
    int error = lock_and_pin(key);

    return error == -EAGAIN && process_number_noticed() != process ? lock_and_pin(key) : error;
}

static int pin_or_bind(struct pkeyguard_key *key)
{
    pkru_bits bound;

    if (has_record(own_record) && key->bound_bits != UNBOUND) {
        if (pin_bound(own_record, key, &bound) && bound != UNBOUND)
            return 0;
        unpin_once(own_record, pin_counter(own_record, bound));
    }
    return bind_and_pin(key);
}

/*
 * Sets both bits of a closed pkey. A pkey that joined the pool after this thread registered has
 * only AD set. So has a pkey that undo_pkru_change() closed in a handler. The fast path does not
 * open such a pkey.
 */
static void close_by_both_bits(int pkey)
{
    if (denied_now(pkey) == RELATIVE_AD && thread_outside_handlers())
        deny(pkey, RELATIVE_BITS);
}

int virtual_bind_and_open(struct pkeyguard_key *key, enum pkeyguard_rights rights)
{
    int error = bind_and_pin(key);

    if (error != 0)
        return error;
    if (open_pinned(key, key->pkey_bits, rights))
        return 1;
    close_by_both_bits(key->pkey);
    if (open_pinned(key, key->pkey_bits, rights))
        return 1;
    unpin_once(own_record, pin_counter(own_record, key->pkey_bits));
    return 0;
}

static NEEDS_LIBRARY_LOCK int virtual_bind(struct pkeyguard_key *key)
{
    return virtual_pool_add_key(key);
}

static NEEDS_LIBRARY_LOCK int virtual_unbind(struct pkeyguard_key *key)
{
    return virtual_pool_remove_key(key);
}

static NEEDS_LIBRARY_LOCK int virtual_apply(const struct pkeyguard_key *key, struct pages *pages)
{
    int error = 0;

    if (key->pkey > 0)
        error = pages_protect(pages, pages->prot, key->pkey);
    else if (pages->applied != PROT_NONE || pages->pkey != 0)
        error = pages_protect(pages, PROT_NONE, 0);
    if (error == 0)
        to_write(pages)->allowed = PKEYGUARD_NO_ACCESS;
    return error;
}

/*
 * The answer is right for an unregistered thread too, because a key keeps its pkey while such a
 * thread exists.
 */
static enum pkeyguard_rights virtual_rights(const struct pkeyguard_key *key)
{
    int pkey = key->pkey;

    return pkey < 0 ? PKEYGUARD_NO_ACCESS : pkru_rights(pkey, pkeyguard_pkru_read());
}

/* Takes rights away. Pins nothing if the thread has no more than these rights already. */
static int virtual_restrict(struct pkeyguard_key *key, enum pkeyguard_rights rights,
                            struct pkru_change *ret_change)
{
    /*
     * One bit only: both bits would mark the thread as outside signal handlers (thread_records.c).
     */
    pkru_bits wanted = rights == PKEYGUARD_READ_ONLY ? RELATIVE_WD : RELATIVE_AD;
    int error;

    *ret_change = (struct pkru_change){0};
    if (virtual_rights(key) <= rights)
        return 0;
    error = pin_or_bind(key);
    if (error != 0)
        return error;
    /* Check again: registering the thread has closed the pool, so the key may be closed by now. */
    if (virtual_rights(key) > rights)
        *ret_change = deny(key->pkey, wanted);
    else
        unpin_once(own_record, pin_counter(own_record, key->pkey_bits));
    return 0;
}

static int virtual_enter(struct pkeyguard_key *key, struct pages *pages,
                         enum pkeyguard_rights rights, enum guard_mode mode,
                         struct pkru_change *ret_change)
{
    int error;

    (void)pages;
    if (mode == GUARD_RESTRICTS)
        return virtual_restrict(key, rights, ret_change);
    error = pin_or_bind(key);
    if (error != 0)
        return error;
    close_by_both_bits(key->pkey);
    *ret_change = deny(key->pkey, pkru_widened(denied_now(key->pkey), RELATIVE_AD, rights));
    return 0;
}

static int virtual_leave(struct pkeyguard_key *key, struct pages *pages,
                         enum pkeyguard_rights rights, enum guard_mode mode,
                         const struct pkru_change *change)
{
    struct pkru_change undone = *change;
    int pkey = key->pkey;

    (void)pages, (void)rights;
    /*
     * A restrict guard may have pinned nothing. For any other guard a missing pin means that
     * another thread acquired it.
     */
    if ((mode == GUARD_RESTRICTS && change->set == 0) || pkey < 0 || !thread_pins(own_record, pkey))
        return 0;
    /*
     * WD was set after this guard's AD, if it is set: by close_by_both_bits(), or by guards inside
     * that were released out of order. If WD was set before, the guard has cleared it.
     */
    if (mode == GUARD_RESTRICTS && change->set == RELATIVE_AD)
        undone.set = RELATIVE_BITS;
    undo_pkru_change(pkey, &undone);
    unpin_once(own_record, pin_counter(own_record, key->pkey_bits));
    return 0;
}

static bool virtual_denied(const struct pkeyguard_key *key, pkru_bits *ret_denied)
{
    int pkey = key->pkey;

    if (pkey < 0)
        return false;
    *ret_denied = denied_now(pkey);
    return true;
}

const struct enforcement virtual_enforcement = {
    .kind = PKEYGUARD_PKU,
    .bind = virtual_bind,
    .unbind = virtual_unbind,
    .apply = virtual_apply,
    .rights = virtual_rights,
    .enter = virtual_enter,
    .leave = virtual_leave,
    .denied = virtual_denied,
};
