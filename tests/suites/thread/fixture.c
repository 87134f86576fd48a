/* SPDX-License-Identifier: MIT */
/* Helpers for the files of this suite. */
#include <pthread.h>

#include "test_thread.h"

struct pkeyguard_key *shared_key;
struct pkeyguard_region *shared;

static void set_up_with(unsigned flags)
{
    key = new_key(PKEYGUARD_NO_ACCESS, flags);
    region = new_region(key);
    shared_key = new_key(PKEYGUARD_READ_ONLY, 0);
    shared = new_region(shared_key);
}

void set_up_keys(void)
{
    set_up_with(0);
}

void set_up_virtual_key(void)
{
    set_up_with(PKEYGUARD_KEY_VIRTUAL);
}

void tear_down_keys(void)
{
    destroy(region, key);
    destroy(shared, shared_key);
}

void assert_rights(enum pkeyguard_rights of_key, enum pkeyguard_rights of_shared_key)
{
    ck_assert_int_eq(pkeyguard_key_rights(key), of_key);
    ck_assert_int_eq(pkeyguard_key_rights(shared_key), of_shared_key);
}

void assert_defaults(void)
{
    assert_rights(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
    assert_denied(READ_BYTE, address_of(region), key);
    assert_denied(WRITE_BYTE, address_of(shared), shared_key);
    assert_allowed(READ_BYTE, address_of(shared));
}

void open_key(struct pkeyguard_key *to_open, struct pkeyguard_guard *ret_guard)
{
    ck_assert_int_eq(pkeyguard_key_acquire(to_open, PKEYGUARD_READ_WRITE, ret_guard), 0);
}

void run_in_thread(void *(*function)(void *), void *argument)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, function, argument), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
