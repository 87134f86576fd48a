/* SPDX-License-Identifier: MIT */
/* virtual_guard.h - the fast path of guards on virtual keys; guard.c does everything else on them
 */
#ifndef VIRTUAL_GUARD_H
#define VIRTUAL_GUARD_H

#include "key/virtual_open.h"

/*
 * Opens a key that this thread has closed by both deny bits. Returns 1: opened; 0: not handled, the
 * rights are unchanged; or -errno as struct enforcement's enter.
 */
int virtual_guard_open(struct pkeyguard_key *key, enum pkeyguard_rights rights);

/*
 * Opens such a key if it has a pkey, and never changes which key has one. False: not handled, the
 * rights are unchanged.
 */
static inline bool virtual_guard_open_bound(const struct pkeyguard_key *key,
                                            enum pkeyguard_rights rights)
{
    struct thread_record *record = own_record;
    pkru_bits bound;

    if (!has_record(record))
        return false;
    if (pin_bound(record, key, &bound) &&
        (rights == PKEYGUARD_READ_WRITE ? pkeyguard_pkru_open(bound)
                                        : pkeyguard_pkru_open_to_read(bound, &key->wd_bit)))
        return true;
    unpin_once(record, pin_counter(record, bound));
    return false;
}

/* Closes what it opened. */
void virtual_guard_close(struct pkeyguard_key *key);

#endif
