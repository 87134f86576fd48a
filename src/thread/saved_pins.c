/* SPDX-License-Identifier: MIT */
#include "thread/saved_pins.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include <pkeyguard/pkru.h>

#include "base/error_text.h"
#include "base/os.h"
#include "key/virtual_pool.h"
#include "key/virtual_wait.h"
#include "pkey/own_pkru.h"

void saved_pins_save(struct pkeyguard_thread_rights *ret_rights)
{
    pkru_bits pkru;
    uint32_t count = 0;

    ret_rights->virtual_count = 0;
    if (!own_record->registered)
        return;
    pkru = pkeyguard_pkru_read();
    for_each_pkey_left(left, pkeys_pool())
    {
        int pkey = pkru_first_pkey(left);

        if (own_record->pins[pkey] != 0) {
            ret_rights->virtual_keys[count++] = (struct pkeyguard_virtual_rights){
                .serial = virtual_pool_serial(pkey),
                .pins = own_record->pins[pkey],
                .denied = pkru_to_relative(pkey, pkru),
            };
        }
    }
    ret_rights->virtual_count = count;
}

static const struct pkeyguard_virtual_rights *
find_saved(const struct pkeyguard_thread_rights *rights, int pkey)
{
    uint64_t serial = virtual_pool_serial(pkey);

    for (uint32_t i = 0; i < rights->virtual_count; i++) {
        if (rights->virtual_keys[i].serial == serial)
            return &rights->virtual_keys[i];
    }
    return NULL;
}

/*
 * The deny bits of one saved pkey of the pool. In a handler never both bits, because both would
 * mark the thread as outside handlers (thread_records.c).
 */
static pkru_bits saved_deny(const struct pkeyguard_virtual_rights *saved, bool outside_handlers)
{
    pkru_bits denied = saved == NULL ? RELATIVE_BITS : saved->denied;

    return denied == RELATIVE_BITS && !outside_handlers ? RELATIVE_AD : denied;
}

void saved_pins_restore(const struct pkeyguard_thread_rights *rights)
{
    pkru_bits pool = pkeys_pool(), deny = 0;
    uint32_t surplus[PKEYS];
    bool outside_handlers;

    if (pool == 0)
        return;
    outside_handlers = thread_outside_handlers();
    for_each_pkey_left(left, pool)
    {
        const struct pkeyguard_virtual_rights *saved = NULL;
        int pkey = pkru_first_pkey(left);

        surplus[pkey] = own_record->pins[pkey];
        if (surplus[pkey] != 0)
            saved = find_saved(rights, pkey);
        deny |= pkru_from_relative(pkey, saved_deny(saved, outside_handlers));
        if (saved != NULL)
            surplus[pkey] -= surplus[pkey] < saved->pins ? surplus[pkey] : saved->pins;
    }
    own_pkru_change(pool & ~deny, deny);
    for_each_pkey_left(left, outside_handlers ? pool : 0)
    {
        int pkey = pkru_first_pkey(left);

        if (surplus[pkey] != 0)
            unpin_times(pkey, surplus[pkey]);
    }
}

static void drop_saved(const struct pkeyguard_virtual_rights *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        int pkey = virtual_pool_pkey(keys[i].serial);

        if (pkey > 0)
            unpin_times(pkey, keys[i].pins);
    }
}

int saved_pins_take(const struct pkeyguard_thread_rights *rights)
{
    for (uint32_t i = 0; i < rights->virtual_count; i++) {
        const struct pkeyguard_virtual_rights *saved = &rights->virtual_keys[i];
        int error = virtual_pool_pin_serial(saved->serial, saved->pins);

        if (error != 0 && error != -ENOENT) {
            drop_saved(rights->virtual_keys, i);
            return error;
        }
    }
    return 0;
}

pkru_bits saved_pins_deny(const struct pkeyguard_thread_rights *rights, pkru_bits *ret_mask)
{
    pkru_bits mask = 0, deny = 0;

    for (uint32_t i = 0; i < rights->virtual_count; i++) {
        int pkey = virtual_pool_pkey(rights->virtual_keys[i].serial);

        if (pkey > 0) {
            mask |= PKEY_BITS(pkey);
            deny |= pkru_from_relative(pkey, rights->virtual_keys[i].denied);
        }
    }
    *ret_mask = mask;
    return deny;
}

void saved_pins_drop(const struct pkeyguard_thread_rights *rights)
{
    drop_saved(rights->virtual_keys, rights->virtual_count);
}

bool saved_pins_retake(const struct pkeyguard_thread_rights *rights)
{
    bool any = false;

    for (uint32_t i = 0; i < rights->virtual_count; i++) {
        const struct pkeyguard_virtual_rights *saved = &rights->virtual_keys[i];
        int pkey = virtual_pool_pkey(saved->serial), error;
        uint32_t pins = pkey > 0 ? own_record->pins[pkey] : 0;

        if (pins >= saved->pins)
            continue;
        any = true;
        while ((error = virtual_pool_pin_serial(saved->serial, saved->pins - pins)) != 0 &&
               error != -ENOENT) {
            if (!virtual_wait_for(error))
                os_abort("virtual keys that a call gate has closed cannot be opened again: ",
                         error_text(error), NULL);
        }
    }
    return any;
}

/* If there is no memory for a record, keys keep their pkeys while this thread lives. That is safe.
 */
static void register_if_possible(void)
{
    /* A thread that a round of signals waits for must not wait for the lock (signal_round.c). */
    if (thread_stays_closed(pkeys_to_close()) && library_lock() == 0) {
        /* Again under the lock: a pkey that became idle meanwhile is noted as closed, too. */
        if (thread_stays_closed(pkeys_to_close()))
            (void)thread_records_register(thread_outside_handlers());
        library_unlock();
    }
    own_pkru_change(0, pkeys_pool() & EVERY_AD);
}

void saved_pins_reset(void)
{
    static const struct pkeyguard_thread_rights no_pins;
    bool idle_to_close = thread_records_idle_to_close();

    if (!idle_to_close && !virtual_pool_in_use())
        return;
    if (!own_record->registered) {
        register_if_possible();
        return;
    }
    saved_pins_restore(&no_pins);
    if (idle_to_close && thread_outside_handlers())
        thread_records_close_idle();
}
