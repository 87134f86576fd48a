/* SPDX-License-Identifier: MIT */
#include "guard/virtual_guard.h"

int virtual_guard_open(struct pkeyguard_key *key, enum pkeyguard_rights rights)
{
    struct thread_record *record = own_record;
    pkru_bits bound;

    if (!has_record(record))
        return 0;
    if (key->bound_bits != UNBOUND) {
        if (pin_bound(record, key, &bound) && open_pinned(key, bound, rights))
            return 1;
        unpin_once(record, pin_counter(record, bound));
    }
    return key->bound_bits == UNBOUND && key->enforcement == &virtual_enforcement
               ? virtual_bind_and_open(key, rights)
               : 0;
}
