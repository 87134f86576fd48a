/* SPDX-License-Identifier: MIT */
/* The inline guards call these on a virtual key; guard.c does everything else on it. */
#include <pkeyguard/guard.h>

#include "key/virtual_open.h"

int pkeyguard_virtual_write(struct pkeyguard_key *key)
{
    struct thread_record *record = own_record;
    pkru_bits bound;

    if (!has_record(record))
        return 0;
    if (pin_bound(record, key, &bound) && pkeyguard_pkru_open(bound))
        return 1;
    return virtual_bind_and_open(record, bound, key, PKEYGUARD_READ_WRITE);
}

int pkeyguard_virtual_read(struct pkeyguard_key *key)
{
    struct thread_record *record = own_record;
    pkru_bits bound;

    if (!has_record(record))
        return 0;
    if (pin_bound(record, key, &bound) && pkeyguard_pkru_open_to_read(bound, &key->wd_bit))
        return 1;
    return virtual_bind_and_open(record, bound, key, PKEYGUARD_READ_ONLY);
}

void pkeyguard_virtual_close(struct pkeyguard_key *key)
{
    struct thread_record *record = own_record;
    pkru_bits bits = key->pkey_bits;
    uint32_t *counter = pin_counter(record, bits);

    /* A pkey that this thread does not pin is not open in it, either. */
    if (*counter == 0)
        return;
    pkeyguard_pkru_set_bits(bits);
    unpin_once(record, counter);
}
