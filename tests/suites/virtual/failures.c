/* SPDX-License-Identifier: MIT */
/* The kernel refuses what virtual keys need. */
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "failing.h"
#include "test_virtual.h"

START_TEST(key_create_is_refused_without_membarrier)
{
    struct pkeyguard_key *none = NULL;

    fail_call(CALL_MEMBARRIER, 0, ENOSYS, 1);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL, &none),
                     -ENOTSUP);
    ck_assert(stop_failing());
    ck_assert_ptr_null(none);
    set_up_keys();
    evict_everything(-1);
    tear_down_keys();
}
END_TEST

START_TEST(key_falls_back_when_pkey_alloc_is_missing)
{
    fail_call(CALL_PKEY_ALLOC, 0, ENOSYS, 1);
    keys[0] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    ck_assert(stop_failing());
    ck_assert_int_eq(pkeyguard_key_enforcement(keys[0]), PKEYGUARD_MPROTECT);
    ck_assert_int_eq(pkeyguard_key_destroy(keys[0]), 0);
}
END_TEST

START_TEST(key_create_without_memory_for_its_record_fails)
{
    struct pkeyguard_key *none = NULL;

    fail_call(CALL_MMAP, 0, ENOMEM, 1);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL, &none),
                     -ENOMEM);
    ck_assert(stop_failing());
    ck_assert_ptr_null(none);
    set_up_keys();
    tear_down_keys();
}
END_TEST

START_TEST(acquire_without_a_pkey_in_the_pool_fails)
{
    struct pkeyguard_key *dedicated[16], *key;
    struct pkeyguard_guard guard;
    int count = 0;

    while (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &dedicated[count]) == 0)
        count++;
    key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &guard), -ENOSPC);
    /* With a single thread the pool can take the pkey of a destroyed key at once. */
    ck_assert_int_eq(pkeyguard_key_destroy(dedicated[0]), 0);
    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &guard), 0);
    pkeyguard_release(&guard);
    ck_assert_int_eq(pkeyguard_key_destroy(key), 0);
    while (--count > 0)
        ck_assert_int_eq(pkeyguard_key_destroy(dedicated[count]), 0);
}
END_TEST

/*
 * With a second thread, because for a single one the library neither counts threads nor needs a
 * barrier.
 */
static void start_registered(struct worker *worker)
{
    start_worker(worker);
    run_on(worker, do_register, NULL);
}

START_TEST(eviction_works_after_every_file_is_closed)
{
    struct worker worker, second;
    int files[8];

    start_registered(&second);
    evict_everything(-1);
    ck_assert_int_eq(syscall(SYS_close_range, 3, ~0u, 0), 0);
    evict_everything(-1);
    ck_assert_int_eq(syscall(SYS_close_range, 3, ~0u, 0), 0);
    for (int i = 0; i < 8; i++)
        ck_assert_int_ge(files[i] = open(i % 2 ? "/proc/self" : "/dev/null", O_RDONLY), 3);
    evict_everything(-1);
    start_worker(&worker);
    assert_blocks_eviction(&worker);
    end_worker(&worker);
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(close(files[i]), 0);
    evict_everything(-1);
    end_worker(&second);
}
END_TEST

START_TEST(eviction_fails_when_threads_cannot_be_counted)
{
    struct worker worker;

    start_registered(&worker);
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    ck_assert_int_eq(syscall(SYS_close_range, 3, ~0u, 0), 0);
    fail_call(CALL_OPENAT, 0, ENOENT, 1);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    ck_assert(stop_failing());
    assert_all_closed();
    open_and_close(0);
    evict_everything(-1);
    end_worker(&worker);
}
END_TEST

START_TEST(eviction_fails_when_the_barrier_fails)
{
    struct worker worker;

    start_registered(&worker);
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    fail_call(CALL_MEMBARRIER, 0, ENOMEM, 1);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    ck_assert(stop_failing());
    ck_assert(is_bound(0));
    assert_all_closed();
    evict_everything(-1);
    /* Without the barrier another thread's pin may be missed, so the key is not destroyed. */
    ck_assert_int_eq(pkeyguard_region_destroy(regions[KEYS - 1]), 0);
    ck_assert(is_bound(KEYS - 1));
    fail_call(CALL_MEMBARRIER, 0, ENOMEM, 1);
    ck_assert_int_eq(pkeyguard_key_destroy(keys[KEYS - 1]), -EBUSY);
    ck_assert(stop_failing());
    ck_assert(is_bound(KEYS - 1));
    regions[KEYS - 1] = new_region(keys[KEYS - 1]);
    end_worker(&worker);
}
END_TEST

/*
 * Two keys of three regions each, the first evicted for the second. The kernel refuses one of the
 * page changes, or all from then on.
 */
enum { EACH = 3 };

START_TEST(page_changes_refused_half_way_leave_regions_closed)
{
    struct pkeyguard_region *old[EACH] = {regions[0]}, *new[EACH] = {regions[POOL]};
    int refused_at = _i % (2 * EACH), times = _i / (2 * EACH) % 2 ? 1000 : 1;
    int error = _i / (4 * EACH) ? EACCES : ENOMEM;

    for (int k = 1; k < EACH; k++) {
        old[k] = new_region(keys[0]);
        new[k] = new_region(keys[POOL]);
    }
    for (int k = 0; k < EACH; k++) {
        pkeyguard_scoped_write (int, number, new[k])
            *number = 20 + k;
    }
    for (int k = 0; k < EACH; k++) {
        pkeyguard_scoped_write (int, number, old[k])
            *number = 10 + k;
    }
    for (int i = 1; i < POOL; i++)
        open_and_close(i);
    ck_assert(is_bound(0) && !is_bound(POOL));

    fail_call(CALL_PKEY_MPROTECT, refused_at, error, times);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_WRITE), -error);
    ck_assert(stop_failing());
    /* If a sandbox refuses every change, the old key loses nothing. */
    ck_assert(is_bound(0) == (refused_at == 0 && times > 1 && error == EACCES));
    ck_assert(!is_bound(POOL));
    for (int k = 0; k < EACH; k++) {
        ck_assert(try_access(READ_BYTE, address_of(old[k])).happened);
        ck_assert(try_access(WRITE_BYTE, address_of(new[k])).happened);
    }
    for (int i = 1; i < KEYS; i++) {
        if (i != POOL)
            open_and_close(i);
        for (int k = 0; k < EACH; k++) {
            ck_assert(try_access(READ_BYTE, address_of(old[k])).happened);
            ck_assert(try_access(READ_BYTE, address_of(new[k])).happened);
        }
    }
    for (int k = 0; k < EACH; k++) {
        pkeyguard_scoped_read (int, number, old[k]) {
            ck_assert_int_eq(*number, 10 + k);
            ck_assert(try_access(READ_BYTE, address_of(new[k])).happened);
        }
        pkeyguard_scoped_read (int, number, new[k]) {
            ck_assert_int_eq(*number, 20 + k);
            ck_assert(try_access(READ_BYTE, address_of(old[k])).happened);
        }
    }
    for (int k = 1; k < EACH; k++) {
        ck_assert_int_eq(pkeyguard_region_destroy(old[k]), 0);
        ck_assert_int_eq(pkeyguard_region_destroy(new[k]), 0);
    }
    assert_all_closed();
}
END_TEST

/* A sandbox is entered when some keys have pkeys. These keys work on, whatever is refused. */
START_TEST(refused_page_changes_unbind_no_key)
{
    struct worker worker;

    start_registered(&worker);
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    refuse_call(CALL_PKEY_MPROTECT, EPERM);
    for (int round = 0; round < 3; round++) {
        for (int i = POOL; i < KEYS; i++)
            ck_assert_int_eq(acquire(i, PKEYGUARD_READ_WRITE), -EACCES);
        for (int i = 0; i < POOL; i++)
            open_and_close(i);
        run_on(&worker, do_open_and_close, (void *)1);
    }
    assert_all_closed();
    refuse_call(CALL_PKEY_MPROTECT, 0);
    evict_everything(-1);
    end_worker(&worker);
}
END_TEST

/* With a single thread nothing needs the barrier. */
START_TEST(keys_are_destroyed_without_a_barrier)
{
    make_keys(KEYS);
    for (int i = 0; i < KEYS; i++)
        open_and_close(i);
    refuse_call(CALL_MEMBARRIER, EPERM);
    for (int i = 0; i < KEYS; i++)
        open_and_close(i);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_ONLY), 0);
    ck_assert_int_eq(pkeyguard_region_destroy(regions[0]), 0);
    ck_assert_int_eq(pkeyguard_key_destroy(keys[0]), -EBUSY);
    pkeyguard_release(&guards[0]);
    ck_assert_int_eq(pkeyguard_key_destroy(keys[0]), 0);
    for (int i = 1; i < KEYS; i++)
        destroy(regions[i], keys[i]);
}
END_TEST

void add_failures(Suite *suite)
{
    TCase *tests = add_case(suite, "failures", set_up_keys, tear_down_keys);
    TCase *bare = add_case(suite, "failures at the first key", NULL, NULL);

    add_pku_test(tests, eviction_works_after_every_file_is_closed);
    add_pku_test(tests, eviction_fails_when_threads_cannot_be_counted);
    add_pku_test(tests, eviction_fails_when_the_barrier_fails);
    add_pku_loop_test(tests, page_changes_refused_half_way_leave_regions_closed, 0, 8 * EACH);
    add_pku_test(tests, refused_page_changes_unbind_no_key);
    add_pku_test(bare, keys_are_destroyed_without_a_barrier);
    add_pku_test(bare, key_create_is_refused_without_membarrier);
    add_pku_test(bare, key_falls_back_when_pkey_alloc_is_missing);
    add_pku_test(bare, key_create_without_memory_for_its_record_fails);
    add_pku_test(bare, acquire_without_a_pkey_in_the_pool_fails);
}
