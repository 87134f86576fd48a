/* SPDX-License-Identifier: MIT */
/* The C++ headers. */
#include "test_cplusplus.hpp"

void assert_open_for(pkeyguard_rights rights, const void *address, const pkeyguard_key *key)
{
    /* A virtual key that has no pkey is closed by page rights. */
    if (denial_code(key) == SEGV_PKUERR && denial_pkey(key) == -1) {
        ck_assert_int_eq(rights, PKEYGUARD_NO_ACCESS);
        assert_page_denied(READ_BYTE, address);
        assert_page_denied(WRITE_BYTE, address);
        return;
    }
    if (rights == PKEYGUARD_NO_ACCESS)
        assert_denied(READ_BYTE, address, key);
    else
        assert_allowed(READ_BYTE, address);
    if (rights == PKEYGUARD_READ_WRITE)
        assert_allowed(WRITE_BYTE, address);
    else
        assert_denied(WRITE_BYTE, address, key);
}

void assert_open_for(pkeyguard_rights rights, const pkeyguard_region *region)
{
    assert_open_for(rights, address_of(region), pkeyguard_region_key(region));
}

int main()
{
    Suite *suite = suite_create("cplusplus");

    add_errors(suite);
    add_handles(suite);
    add_guards(suite);
    add_scopes(suite);
    add_containers(suite);
    add_coroutines(suite);
    add_no_exceptions(suite);
    return run_suite(suite);
}
