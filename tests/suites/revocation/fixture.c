/* SPDX-License-Identifier: MIT */
/* Helpers for the files of this suite. */
#include <errno.h>
#include <signal.h>

#include "failing.h"
#include "test_revocation.h"

struct pkeyguard_key *keys[PKEYS];
struct worker workers[2];

void do_reset(void *unused)
{
    (void)unused;
    pkeyguard_thread_reset();
}

void do_register(void *unused)
{
    (void)unused;
    ck_assert_int_eq(pkeyguard_thread_register(), 0);
}

static struct fault fault_of_worker;

static void do_write(void *address)
{
    fault_of_worker = try_access(WRITE_BYTE, address);
}

bool can_write_on(struct worker *worker, const struct pkeyguard_region *region)
{
    run_on(worker, do_write, address_of(region));
    return !fault_of_worker.happened;
}

void assert_denied_on(struct worker *worker, const struct pkeyguard_region *region)
{
    ck_assert(!can_write_on(worker, region));
    ck_assert_int_eq(fault_of_worker.code, SEGV_PKUERR);
    ck_assert_ptr_eq(fault_of_worker.address, address_of(region));
    ck_assert_int_eq(fault_of_worker.pkey, pkeyguard_key_number(pkeyguard_region_key(region)));
}

static void take_every_pkey(void)
{
    struct pkeyguard_key *one_more;

    for (int i = 0; i < PKEYS; i++)
        keys[i] = new_key(PKEYGUARD_READ_WRITE, 0);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_READ_WRITE, 0, &one_more), -ENOSPC);
}

static void start_worker_with_keys_open(struct worker *worker)
{
    struct pkeyguard_region *region = new_region(keys[VICTIM]);

    start_worker(worker);
    run_on(worker, do_reset, NULL);
    ck_assert(can_write_on(worker, region));
    destroy(region, NULL);
}

void set_up_workers(void)
{
    take_every_pkey();
    for (int i = 0; i < 2; i++)
        start_worker_with_keys_open(&workers[i]);
    destroy(NULL, keys[VICTIM]);
    keys[VICTIM] = NULL;
}

void tear_down_workers(void)
{
    for (int i = 0; i < 2; i++)
        end_worker(&workers[i]);
    for (int i = 0; i < PKEYS; i++)
        destroy(NULL, keys[i]);
}

int create_key(void)
{
    return pkeyguard_key_create(PKEYGUARD_READ_WRITE, 0, &keys[VICTIM]);
}

void assert_pkey_waits(void)
{
    ck_assert_int_eq(create_key(), -ENOSPC);
    ck_assert_ptr_null(keys[VICTIM]);
    ck_assert_int_eq(count_resources().pkeys, 0);
}

void assert_pkey_reused(int count)
{
    struct pkeyguard_region *region;

    ck_assert_int_eq(create_key(), 0);
    region = new_region(keys[VICTIM]);
    assert_allowed(WRITE_BYTE, address_of(region));
    for (int i = 0; i < count; i++)
        assert_denied_on(&workers[i], region);
    assert_allowed(WRITE_BYTE, address_of(region));
    destroy(region, NULL);
}

void do_raise(void *unused)
{
    (void)unused;
    raise(SIGUSR1);
}

static void do_write_with_reporter(void *address)
{
    access_byte(WRITE_BYTE, address);
}

void assert_default_is_granted(void)
{
    struct pkeyguard_region *region;

    ck_assert_int_eq(pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_GRANT_DEFAULTS), 0);
    ck_assert_int_eq(create_key(), 0);
    region = new_region(keys[VICTIM]);
    for (int i = 0; i < 2; i++) {
        assert_denied_on(&workers[i], region);
        run_on(&workers[i], do_write_with_reporter, address_of(region));
        ck_assert(can_write_on(&workers[i], region));
    }
    destroy(region, NULL);
}

void set_up_signal(void)
{
    set_clock(0);
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGURG), 0);
    set_up_workers();
}

void assert_revocation_fails(void)
{
    set_clock(20); /* the library gives up when 500 have passed */
    ck_assert_int_eq(create_key(), -ENOSPC);
    ck_assert_ptr_null(keys[VICTIM]);
    set_clock(0);
}
