/* SPDX-License-Identifier: MIT */
#include "pkey/own_pkru.h"

__thread struct own_pkru own_pkru;

static void change_bits(pkru_bits clear, pkru_bits set)
{
    pkru_bits pkru, changed;

    own_pkru_begin_change();
    pkru = pkeyguard_pkru_read();
    changed = (pkru & ~clear) | set;
    if (changed != pkru)
        pkeyguard_pkru_write(changed);
    own_pkru_end_change();
}

void own_pkru_change(pkru_bits clear, pkru_bits set)
{
    own_pkru.chosen |= clear | set;
    own_pkru.expected = (own_pkru.expected & ~clear) | set;
    change_bits(clear, set);
}

void own_pkru_give_back(pkru_bits mask, pkru_bits pkru)
{
    change_bits(mask & ~pkru, mask & pkru);
}

bool own_pkru_chosen(pkru_bits bits)
{
    return (own_pkru.chosen & bits) == bits;
}
