/* SPDX-License-Identifier: MIT */
#include "thread/saved_pins.h"

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

#include <pkeyguard/pkru.h>

#include "base/lock.h"
#include "key/virtual_pool.h"
#include "pkey/pkeys.h"

void pins_save(struct pkeyguard_thread_rights *ret_rights)
{
    uint32_t pkru, count = 0;

    ret_rights->virtual_count = 0;
    if (!own_record->registered)
        return;
    pkru = pkeyguard_pkru_read();
    for_each_pkey_left(left, threads_pool)
    {
        int pkey = pkeys_first(left);

        if (own_record->pins[pkey] != 0) {
            ret_rights->virtual_keys[count++] = (struct pkeyguard_virtual_rights){
                .serial = multiplexer_serial(pkey),
                .pins = own_record->pins[pkey],
                .denied = (pkru & PKEY_BITS(pkey)) >> (2 * pkey),
            };
        }
    }
    ret_rights->virtual_count = count;
}

static const struct pkeyguard_virtual_rights *
find_saved(const struct pkeyguard_thread_rights *rights, int pkey)
{
    uint64_t serial = multiplexer_serial(pkey);

    for (uint32_t i = 0; i < rights->virtual_count; i++) {
        if (rights->virtual_keys[i].serial == serial)
            return &rights->virtual_keys[i];
    }
    return NULL;
}

void pins_restore(const struct pkeyguard_thread_rights *rights)
{
    uint32_t pool = threads_pool, deny = pool, surplus[PKEYS];
    bool outside_handlers;

    if (pool == 0)
        return;
    outside_handlers = threads_outside_handlers();
    if (!outside_handlers)
        deny &= EVERY_AD;
    for_each_pkey_left(left, pool)
    {
        const struct pkeyguard_virtual_rights *saved = NULL;
        int pkey = pkeys_first(left);

        surplus[pkey] = own_record->pins[pkey];
        if (surplus[pkey] != 0)
            saved = find_saved(rights, pkey);
        if (saved != NULL) {
            deny = (deny & ~PKEY_BITS(pkey)) | saved->denied << (2 * pkey);
            surplus[pkey] -= surplus[pkey] < saved->pins ? surplus[pkey] : saved->pins;
        }
    }
    pkeys_change(pool & ~deny, deny);
    for_each_pkey_left(left, outside_handlers ? pool : 0)
    {
        int pkey = pkeys_first(left);

        if (surplus[pkey] != 0)
            multiplexer_drop_pins(pkey, surplus[pkey]);
    }
}

static void drop(const struct pkeyguard_virtual_rights *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        int pkey = multiplexer_pkey(keys[i].serial);

        if (pkey > 0)
            multiplexer_drop_pins(pkey, keys[i].pins);
    }
}

int pins_take(const struct pkeyguard_thread_rights *rights)
{
    for (uint32_t i = 0; i < rights->virtual_count; i++) {
        const struct pkeyguard_virtual_rights *saved = &rights->virtual_keys[i];
        int error = multiplexer_pin_again(saved->serial, saved->pins);

        if (error != 0 && error != -ENOENT) {
            drop(rights->virtual_keys, i);
            return error;
        }
    }
    return 0;
}

uint32_t pins_deny(const struct pkeyguard_thread_rights *rights, uint32_t *ret_mask)
{
    uint32_t mask = 0, deny = 0;

    for (uint32_t i = 0; i < rights->virtual_count; i++) {
        int pkey = multiplexer_pkey(rights->virtual_keys[i].serial);

        if (pkey > 0) {
            mask |= PKEY_BITS(pkey);
            deny |= rights->virtual_keys[i].denied << (2 * pkey);
        }
    }
    *ret_mask = mask;
    return deny;
}

void pins_drop(const struct pkeyguard_thread_rights *rights)
{
    drop(rights->virtual_keys, rights->virtual_count);
}

void pins_reset(void)
{
    static const struct pkeyguard_thread_rights nothing;
    bool idle_to_close = threads_have_idle_to_close();

    if (!idle_to_close && !multiplexer_in_use())
        return;
    if (own_record->registered || !threads_outside_handlers()) {
        pins_restore(&nothing);
        if (idle_to_close && threads_outside_handlers())
            threads_close_idle();
    } else {
        pkeys_change(0, threads_pool);
        if (library_lock() == 0) {
            /* Where there is no memory for it the thread stays in the way of others: no harm. */
            threads_register();
            library_unlock();
        }
    }
}
