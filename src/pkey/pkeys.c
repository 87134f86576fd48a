/* SPDX-License-Identifier: MIT */
#include "pkey/pkeys.h"

#include <stdatomic.h>

/* A bit for each pkey that has a key; above them the number of changes so far. */
static _Atomic uint64_t bound_pkeys;
static _Atomic uint64_t changed_at[PKEYS];

/* A bit for each pkey that had a key and has none; the number of the change that made the last. */
static _Atomic uint32_t idle_pkeys;
static _Atomic uint64_t last_idle_since;
static _Atomic uint32_t defaults = UINT32_MAX;

static __thread uint32_t chosen __attribute__((tls_model("initial-exec")));

uint64_t pkeys_change_number(uint64_t bound)
{
    return bound >> PKEYS;
}

static uint64_t after_change(uint64_t pkeys)
{
    return (pkeys_change_number(bound_pkeys) + 1) << PKEYS | pkeys;
}

static uint64_t bound_bits(uint64_t bound)
{
    return bound & ((1u << PKEYS) - 1);
}

__thread uint32_t pkeys_changes_begun;

uint32_t pkeys_deny(int pkey, enum pkeyguard_rights rights)
{
    switch (rights) {
    case PKEYGUARD_READ_WRITE:
        return 0;
    case PKEYGUARD_READ_ONLY:
        return PKEY_WD(pkey);
    default:
        /* Both, so that opening for reading finds write-disable set already. */
        return PKEY_AD(pkey) | PKEY_WD(pkey);
    }
}

enum pkeyguard_rights pkeys_rights(int pkey, uint32_t pkru)
{
    if (pkru & PKEY_AD(pkey))
        return PKEYGUARD_NO_ACCESS;
    return pkru & PKEY_WD(pkey) ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE;
}

/* bound_pkeys last: who finds a pkey in it finds what belongs to it. */
void pkeys_bind(int pkey, enum pkeyguard_rights default_rights)
{
    uint64_t bound = after_change(bound_bits(bound_pkeys) | 1u << pkey);

    changed_at[pkey] = pkeys_change_number(bound);
    defaults = (defaults & ~(PKEY_AD(pkey) | PKEY_WD(pkey))) | pkeys_deny(pkey, default_rights);
    bound_pkeys = bound;
}

void pkeys_unbind(int pkey)
{
    uint64_t bound = after_change(bound_bits(bound_pkeys) & ~(uint64_t)(1u << pkey));

    changed_at[pkey] = last_idle_since = pkeys_change_number(bound);
    idle_pkeys |= 1u << pkey;
    bound_pkeys = bound;
    defaults |= PKEY_AD(pkey) | PKEY_WD(pkey);
}

void pkeys_reuse(int pkey)
{
    idle_pkeys &= ~(1u << pkey);
}

uint32_t pkeys_idle(void)
{
    return pkeys_mask(idle_pkeys);
}

uint64_t pkeys_idle_since(int pkey)
{
    return changed_at[pkey];
}

uint64_t pkeys_last_idle_since(void)
{
    return atomic_load_explicit(&last_idle_since, memory_order_relaxed);
}

uint64_t pkeys_bound(void)
{
    return atomic_load_explicit(&bound_pkeys, memory_order_acquire);
}

/* Each pkey's bit becomes two. */
uint32_t pkeys_mask(uint64_t bound)
{
    uint32_t bits = (uint32_t)bound_bits(bound);

    bits = (bits | bits << 8) & 0x00ff00ff;
    bits = (bits | bits << 4) & 0x0f0f0f0f;
    bits = (bits | bits << 2) & 0x33333333;
    bits = (bits | bits << 1) & 0x55555555;
    return bits * 3;
}

uint32_t pkeys_kept(uint64_t bound)
{
    uint64_t now = pkeys_bound(), kept = bound_bits(bound & now);

    if (now != bound) {
        for (uint64_t left = kept; left != 0; left &= left - 1) {
            int pkey = __builtin_ctzll(left);

            if (changed_at[pkey] > pkeys_change_number(bound))
                kept &= ~(uint64_t)(1u << pkey);
        }
    }
    return pkeys_mask(kept);
}

uint32_t pkeys_defaults(void)
{
    return atomic_load_explicit(&defaults, memory_order_relaxed);
}

void pkeys_change(uint32_t clear, uint32_t set)
{
    uint32_t pkru, changed;

    chosen |= clear | set;
    pkeys_begin_change();
    pkru = pkeyguard_pkru_read();
    changed = (pkru & ~clear) | set;
    if (changed != pkru)
        pkeyguard_pkru_write(changed);
    pkeys_end_change();
}

bool pkeys_chosen(uint32_t bits)
{
    return (chosen & bits) == bits;
}
