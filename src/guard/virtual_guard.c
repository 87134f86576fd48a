/* SPDX-License-Identifier: MIT */
#include "guard/virtual_guard.h"

int virtual_guard_open(struct pkeyguard_key *key, enum pkeyguard_rights rights)
{
    struct thread_record *record = own_record;
    pkru_bits bound;

    if (!has_record(record))
        return 0;
    if (pin_bound(record, key, &bound) && open_pinned(key, bound, rights))
        return 1;
    return virtual_bind_and_open(record, bound, key, rights);
}
