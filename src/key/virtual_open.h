/* SPDX-License-Identifier: MIT */
/*
 * virtual_open.h - how a guard opens a virtual key; virtual_pool.c has the protocol
 *
 * The functions are inline because they are most of the cost of an open scope.
 */
#ifndef VIRTUAL_OPEN_H
#define VIRTUAL_OPEN_H

#include "key/key.h"
#include "key/pin.h"

/* True if the thread has a record. Always false without PKU, because no thread registers there. */
static inline bool has_record(const struct thread_record *record)
{
    return __builtin_expect(record->registered == 1, 1);
}

/*
 * Pins the pkey that the key is bound to. Returns false if the key was rebound meanwhile; then
 * *ret_bound is still pinned, and the caller unpins it. If the key is not bound, pins UNBOUND,
 * which opens nothing, and returns true.
 */
static inline bool pin_bound(struct thread_record *record, const struct pkeyguard_key *key,
                             pkru_bits *ret_bound)
{
    pkru_bits bound = key->bound_bits;

    *ret_bound = bound;
    pin_once(record, bound);
    return __builtin_expect(key->bound_bits == bound, 1);
}

/* Opens the key's pkey, which is pinned. False, and nothing changed: it is not closed by both bits.
 */
static inline bool open_pinned(const struct pkeyguard_key *key, pkru_bits pkey_bits,
                               enum pkeyguard_rights rights)
{
    return rights == PKEYGUARD_READ_WRITE ? pkeyguard_pkru_open(pkey_bits)
                                          : pkeyguard_pkru_open_to_read(pkey_bits, &key->wd_bit);
}

/*
 * Slow path of an open, in a thread that has a record: binds a virtual key, and opens it. Returns 1
 * if it opened the key. Returns 0 if the slow path of guards must open it, because this thread has
 * not closed it by both bits. Else returns an error of struct enforcement's enter.
 */
int virtual_bind_and_open(struct pkeyguard_key *key, enum pkeyguard_rights rights);

#endif
