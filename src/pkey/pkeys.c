/* SPDX-License-Identifier: MIT */
#include "pkey/pkeys.h"

struct pkey_manager pkey_manager = {.defaults = UINT32_MAX};

pkru_bits pkeys_bits_kept(uint64_t snapshot)
{
    uint64_t now = pkeys_snapshot();
    pkey_bitset kept = pkeys_in(snapshot & now);

    if (now != snapshot) {
        for (pkey_bitset left = kept; left != 0; left &= left - 1) {
            int pkey = __builtin_ctz(left);

            if (pkey_manager.changed_at[pkey] > pkeys_change_number(snapshot))
                kept &= ~(1u << pkey);
        }
    }
    return pkru_of_set(kept);
}

pkru_bits pkeys_saved_deny(uint64_t snapshot, pkru_bits pkru, pkru_bits *ret_kept)
{
    pkru_bits kept = pkeys_bits_kept(snapshot), renewed = 0;

    *ret_kept = kept;
    if (pkeys_snapshot() == snapshot)
        return pkru & kept;
    for_each_pkey_left(left, kept)
    {
        int pkey = pkru_first_pkey(left);

        if (pkey_manager.everywhere_at[pkey] > pkeys_change_number(snapshot))
            renewed |= PKEY_BITS(pkey);
    }
    return (pkru & kept & ~renewed) | (pkey_manager.everywhere & renewed);
}

static uint64_t after_change(pkey_bitset dedicated)
{
    return (pkeys_change_number(pkey_manager.dedicated) + 1) << PKEYS | dedicated;
}

/*
 * `dedicated` is written last, so a reader that finds the pkey there also finds the other members.
 */
void pkeys_dedicate(int pkey, enum pkeyguard_rights default_rights)
{
    uint64_t changed = after_change(pkeys_in(pkey_manager.dedicated) | 1u << pkey);

    pkey_manager.changed_at[pkey] = pkeys_change_number(changed);
    pkey_manager.given_up &= ~PKEY_BITS(pkey);
    pkey_manager.defaults =
        (pkey_manager.defaults & ~PKEY_BITS(pkey)) | pkru_deny(pkey, default_rights);
    pkey_manager.dedicated = changed;
}

/* changed_at is written before `dedicated`, for the same reason. */
void pkeys_make_idle(int pkey)
{
    uint64_t changed = after_change(pkeys_in(pkey_manager.dedicated) & ~(1u << pkey));

    pkey_manager.changed_at[pkey] = pkey_manager.last_idle_at = pkeys_change_number(changed);
    pkey_manager.idle |= 1u << pkey;
    pkey_manager.dedicated = changed;
    pkey_manager.defaults |= PKEY_BITS(pkey);
}

void pkeys_note_everywhere(int pkey, pkru_bits deny)
{
    uint64_t changed = after_change(pkeys_in(pkey_manager.dedicated));

    pkey_manager.everywhere = (pkey_manager.everywhere & ~PKEY_BITS(pkey)) | deny;
    pkey_manager.everywhere_at[pkey] = pkeys_change_number(changed);
    pkey_manager.dedicated = changed;
}

void pkeys_reuse(int pkey)
{
    pkey_manager.idle &= ~(1u << pkey);
    pkey_manager.closed_everywhere &= pkey_manager.idle;
}

void pkeys_add_to_pool(int pkey)
{
    pkey_manager.pool |= PKEY_BITS(pkey);
}

void pkeys_remove_from_pool(int pkey)
{
    pkey_manager.pool &= ~PKEY_BITS(pkey);
    pkeys_make_idle(pkey);
}
