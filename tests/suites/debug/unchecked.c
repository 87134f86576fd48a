/* SPDX-License-Identifier: MIT */
/* Guards of code that is compiled without PKEYGUARD_DEBUG. */
#include "test_debug.h"

void acquire_unchecked(struct pkeyguard_guard *ret_guard)
{
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, ret_guard), 0);
}

void release_unchecked(struct pkeyguard_guard *guard)
{
    pkeyguard_release(guard);
}
