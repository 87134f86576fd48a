/* SPDX-License-Identifier: MIT */
/* Helpers for the files of this suite. */
#include "test_guard.h"

struct pkeyguard_guard acquire(struct pkeyguard_region *from, enum pkeyguard_rights rights)
{
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_acquire(from, rights, &guard), 0);
    return guard;
}

void assert_open_for(enum pkeyguard_rights rights, const struct pkeyguard_region *of)
{
    if (rights == PKEYGUARD_NO_ACCESS)
        assert_denied(READ_BYTE, address_of(of), pkeyguard_region_key(of));
    else
        assert_allowed(READ_BYTE, address_of(of));
    if (rights == PKEYGUARD_READ_WRITE)
        assert_allowed(WRITE_BYTE, address_of(of));
    else
        assert_denied(WRITE_BYTE, address_of(of), pkeyguard_region_key(of));
}
