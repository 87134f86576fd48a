/* SPDX-License-Identifier: MIT */
#include "pkey/own_pkru.h"

__thread struct own_pkru own_pkru;

void own_pkru_change(pkru_bits clear, pkru_bits set)
{
    pkru_bits pkru, changed;

    own_pkru.chosen |= clear | set;
    own_pkru.expected = (own_pkru.expected & ~clear) | set;
    own_pkru_begin_change();
    pkru = pkeyguard_pkru_read();
    changed = (pkru & ~clear) | set;
    if (changed != pkru)
        pkeyguard_pkru_write(changed);
    own_pkru_end_change();
}

bool own_pkru_chosen(pkru_bits bits)
{
    return (own_pkru.chosen & bits) == bits;
}
