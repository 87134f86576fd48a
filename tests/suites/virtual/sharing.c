/* SPDX-License-Identifier: MIT */
/* How keys share the pool of pkeys: eviction, and pins that prevent it. */
#include <errno.h>
#include <stdint.h>
#include <sys/mman.h>

#include "failing.h"
#include "test_virtual.h"

START_TEST(key_number_is_the_pkey_while_bound)
{
    for (int i = 0; i < KEYS; i++) {
        ck_assert_int_eq(pkeyguard_key_number(keys[i]), -1);
        ck_assert_int_eq(pkey_of_mapping(address_of(regions[i])), 0);
    }
    for (int i = 0; i < KEYS; i++) {
        open_and_close(i);
        ck_assert_int_ge(pkeyguard_key_number(keys[i]), 1);
        ck_assert_int_le(pkeyguard_key_number(keys[i]), 15);
        ck_assert_int_eq(pkey_of_mapping(address_of(regions[i])), pkeyguard_key_number(keys[i]));
    }
    for (int i = 0; i < KEYS; i++)
        ck_assert(is_bound(i) == (i >= KEYS - POOL));
    ck_assert_int_eq(pkey_of_mapping(address_of(regions[0])), 0);
}
END_TEST

/* The kernel needs it for an execute-only mapping, which would be readable without one. */
START_TEST(pool_leaves_one_pkey_to_the_kernel)
{
    struct pkeyguard_platform platform;
    char *code = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (int i = 0; i < KEYS; i++)
        open_and_close(i);
    ck_assert_int_eq(pkeyguard_platform_probe(&platform), 0);
    ck_assert_uint_eq(platform.hardware_keys_free, 1);
    if (_i) { /* a key that is not virtual may have it */
        destroy(NULL, new_key(PKEYGUARD_NO_ACCESS, 0));
        return;
    }
    ck_assert_int_eq(mprotect(code, PAGE_BYTES, PROT_EXEC), 0);
    ck_assert(try_access(READ_BYTE, code).happened);
    ck_assert_int_eq(munmap(code, PAGE_BYTES), 0);
}
END_TEST

START_TEST(least_recently_used_key_loses_its_pkey)
{
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    /* Keys 0, 2 and 3 were used again, 1 and 4 were not. */
    open_and_close(0);
    open_and_close(2);
    open_and_close(3);
    open_and_close(POOL);
    open_and_close(POOL + 1);
    for (int i = 0; i < POOL + 2; i++)
        ck_assert_msg(is_bound(i) == (i != 1 && i != 4), "key %d", i);
}
END_TEST

/*
 * An eviction unbinds some more keys, whose pkeys are to be taken next. A guard on such a key gives
 * it its pkey back, without a change of pages.
 */
START_TEST(evictable_key_used_again_keeps_its_pkey)
{
    for (int i = 0; i <= POOL; i++)
        open_and_close(i);
    ck_assert(!is_bound(0) && is_bound(1));
    fail_call(CALL_PKEY_MPROTECT, 0, ENOMEM, 1);
    for (int i = 1; i <= POOL; i++) {
        assert_closed(i);
        ck_assert_int_eq(acquire(i, PKEYGUARD_READ_WRITE), 0);
        for (int k = 0; k < KEYS; k++)
            ck_assert(try_access(READ_BYTE, address_of(regions[k])).happened == (k != i));
        pkeyguard_release(&guards[i]);
    }
    ck_assert(!stop_failing());
    open_and_close(0);
    ck_assert(is_bound(0) && !is_bound(POOL)); /* key POOL was used least often */
    assert_all_closed();
}
END_TEST

/* A key that is to lose its pkey next gets one region, loses another, and is destroyed. */
START_TEST(evictable_key_gains_and_loses_regions)
{
    struct pkeyguard_region *more;

    for (int i = 0; i <= POOL; i++)
        open_and_close(i);
    ck_assert(is_bound(1) && is_bound(2));
    more = new_region(keys[1]);
    assert_denied(READ_BYTE, address_of(more), keys[1]);
    ck_assert_int_eq(pkeyguard_region_associate(regions[1], keys[2]), 0);
    assert_denied(READ_BYTE, address_of(regions[1]), keys[2]);
    ck_assert_int_eq(acquire(2, PKEYGUARD_READ_WRITE), 0);
    assert_allowed(WRITE_BYTE, address_of(regions[1]));
    assert_denied(READ_BYTE, address_of(more), keys[1]);
    pkeyguard_release(&guards[2]);
    destroy(more, keys[1]);
    keys[1] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    ck_assert_int_eq(pkeyguard_region_associate(regions[1], keys[1]), 0);
    for (int i = 0; i < KEYS; i++)
        open_and_close(i);
    assert_all_closed();
}
END_TEST

START_TEST(pinned_key_keeps_its_pkey)
{
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    for (int round = 0; round < 5; round++) {
        for (int i = 1; i < KEYS; i++)
            open_and_close(i);
        ck_assert(is_bound(0));
        assert_allowed(WRITE_BYTE, address_of(regions[0]));
    }
    pkeyguard_release(&guards[0]);
    assert_all_closed();
}
END_TEST

START_TEST(acquire_is_busy_when_every_pkey_is_pinned)
{
    struct pkeyguard_guard guard, nested;
    enum pkeyguard_rights rights[] = {PKEYGUARD_READ_ONLY, PKEYGUARD_READ_ONLY};
    struct pkeyguard_region *both[] = {regions[0], regions[POOL]};
    struct pkeyguard_guard of_both[2];

    /* Written to, so that it must be opened and wiped before it is destroyed. */
    open_and_close(POOL);
    pin_pool();
    ck_assert_int_eq(pkeyguard_acquire(regions[POOL], PKEYGUARD_READ_ONLY, &guard), -EBUSY);
    ck_assert_uint_eq(guard.cleared | guard.undo, 0);
    ck_assert_int_eq(pkeyguard_key_acquire(keys[POOL], PKEYGUARD_READ_ONLY, &guard), -EBUSY);
    errno = 0;
    pkeyguard_try_scoped_read (int, number, regions[POOL]) {
        ck_abort_msg("opened");
    } else {
        ck_assert_int_eq(errno, EBUSY);
    }
    ck_assert_int_eq(pkeyguard_region_destroy(regions[POOL]), -EBUSY);
    ck_assert_int_eq(pkeyguard_acquire_all(2, both, rights, of_both), -EBUSY);
    ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_ONLY, &nested), 0);
    pkeyguard_release(&nested);
    assert_closed(POOL);
    pkeyguard_release(&guards[3]);
    open_and_close(POOL);
    ck_assert(!is_bound(3));
    unpin_pool();
    assert_all_closed();
}
END_TEST

/* Writing the content needs a pkey. The failed creation leaves nothing behind. */
START_TEST(create_with_is_busy_when_every_pkey_is_pinned)
{
    struct pkeyguard_region *none = NULL;
    struct resources before;
    int content = 1;

    pin_pool();
    before = count_resources();
    ck_assert_int_eq(
        pkeyguard_region_create_with(keys[POOL], &content, sizeof(content), PAGE_RW, 0, &none),
        -EBUSY);
    ck_assert_ptr_null(none);
    assert_resources(before);
    unpin_pool();
}
END_TEST

/* More keys than the pool has pkeys can never be open at once: that fails without waiting. */
START_TEST(acquire_all_of_too_many_keys_is_busy)
{
    enum pkeyguard_rights rights[KEYS];

    for (int i = 0; i < KEYS; i++)
        rights[i] = PKEYGUARD_READ_WRITE;
    ck_assert_int_eq(pkeyguard_acquire_all(KEYS, regions, rights, guards), -EBUSY);
    for (int i = 0; i < KEYS; i++)
        ck_assert_uint_eq(guards[i].cleared | guards[i].undo, 0);
    assert_all_closed();
    /* A guard that opens nothing needs no pkey. */
    for (int i = POOL; i < KEYS; i++)
        rights[i] = PKEYGUARD_NO_ACCESS;
    ck_assert_int_eq(pkeyguard_acquire_all(KEYS, regions, rights, guards), 0);
    for (int i = 0; i < POOL; i++)
        assert_allowed(WRITE_BYTE, address_of(regions[i]));
    unpin_pool();
    assert_all_closed();
}
END_TEST

/* Nothing stays of the guards before the one that is refused, whatever their keys. */
START_TEST(acquire_all_of_too_many_keys_opens_no_other_kind)
{
    struct pkeyguard_region *mixed[1 + KEYS] = {new_region(NULL)};
    enum pkeyguard_rights rights[1 + KEYS] = {PKEYGUARD_READ_WRITE};
    struct pkeyguard_guard of_mixed[1 + KEYS];

    for (int i = 0; i < KEYS; i++) {
        mixed[1 + i] = regions[i];
        rights[1 + i] = PKEYGUARD_READ_ONLY;
    }
    ck_assert_int_eq(pkeyguard_acquire_all(1 + KEYS, mixed, rights, of_mixed), -EBUSY);
    assert_denied(READ_BYTE, address_of(mixed[0]), NULL);
    assert_all_closed();
    evict_everything(-1);
    destroy(mixed[0], NULL);
}
END_TEST

/* No region of another key carries the pkey that the open key has. */
START_TEST(scope_opens_no_other_key)
{
    for (int i = 0; i < KEYS; i++) {
        ck_assert_int_eq(acquire(i, PKEYGUARD_READ_WRITE), 0);
        for (int k = 0; k < KEYS; k++)
            ck_assert(try_access(READ_BYTE, address_of(regions[k])).happened == (k != i));
        pkeyguard_release(&guards[i]);
    }
}
END_TEST

START_TEST(keys_regions_and_threads_leak_nothing)
{
    struct resources before;

    evict_everything(-1);
    before = count_resources();
    for (int round = 0; round < 50; round++) {
        struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
        struct pkeyguard_region *region = new_region(key);
        struct worker worker;

        start_worker(&worker);
        run_on(&worker, do_open_and_close, (void *)(intptr_t)(round % KEYS));
        end_worker(&worker);
        pkeyguard_scoped_write (int, number, region)
            *number = 1;
        destroy(region, key);
    }
    ck_assert_int_eq(count_resources().pkeys, before.pkeys);
    ck_assert_int_le(count_resources().mappings,
                     before.mappings + 4); /* stacks of the threads, which libc keeps */
}
END_TEST

static void do_reset(void *unused)
{
    (void)unused;
    pkeyguard_thread_reset();
}

/*
 * The pool keeps as many pkeys as there are virtual keys. Dedicated keys get the others, as those
 * of destroyed dedicated keys, when every thread has closed them.
 */
START_TEST(pkeys_of_destroyed_keys_go_to_dedicated_ones)
{
    enum { LEFT = 3, PKEYS_IN_ALL = 15, OTHERS = PKEYS_IN_ALL - LEFT };
    struct pkeyguard_region *of_dedicated[OTHERS];
    struct pkeyguard_key *dedicated[OTHERS], *none = NULL;
    struct worker worker;

    start_worker(&worker);
    run_on(&worker, do_register, NULL);
    for (int i = 0; i < KEYS; i++)
        open_and_close(i);
    for (int i = LEFT; i < KEYS; i++)
        destroy(regions[i], keys[i]);
    for (int i = 0; i < OTHERS; i++) {
        if (i == 1) { /* the first gets the pkey that is not in the pool */
            ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &none), -ENOSPC);
            run_on(&worker, do_reset, NULL);
        }
        dedicated[i] = new_key(PKEYGUARD_NO_ACCESS, 0);
        of_dedicated[i] = new_region(dedicated[i]);
        assert_denied(READ_BYTE, address_of(of_dedicated[i]), dedicated[i]);
        ck_assert(!can_read_on(&worker, address_of(of_dedicated[i])));
    }
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &none), -ENOSPC);
    for (int i = 0; i < LEFT; i++)
        ck_assert_int_eq(acquire(i, PKEYGUARD_READ_WRITE), 0);
    for (int i = 0; i < OTHERS; i++) {
        assert_denied(READ_BYTE, address_of(of_dedicated[i]), dedicated[i]);
        destroy(of_dedicated[i], dedicated[i]);
    }
    for (int i = 0; i < LEFT; i++)
        pkeyguard_release(&guards[i]);
    for (int i = LEFT; i < KEYS; i++) {
        keys[i] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
        regions[i] = new_region(keys[i]);
    }
    end_worker(&worker);
    evict_everything(-1);
    assert_all_closed();
}
END_TEST

void add_sharing(Suite *suite)
{
    TCase *tests = add_case(suite, "sharing", set_up_keys, tear_down_keys);

    add_pku_test(tests, key_number_is_the_pkey_while_bound);
    add_pku_loop_test(tests, pool_leaves_one_pkey_to_the_kernel, 0, 2);
    add_pku_test(tests, least_recently_used_key_loses_its_pkey);
    add_pku_test(tests, evictable_key_used_again_keeps_its_pkey);
    add_pku_test(tests, evictable_key_gains_and_loses_regions);
    add_pku_test(tests, pinned_key_keeps_its_pkey);
    add_pku_test(tests, scope_opens_no_other_key);
    add_pku_test(tests, acquire_is_busy_when_every_pkey_is_pinned);
    add_pku_test(tests, create_with_is_busy_when_every_pkey_is_pinned);
    add_pku_test(tests, acquire_all_of_too_many_keys_is_busy);
    add_pku_test(tests, acquire_all_of_too_many_keys_opens_no_other_kind);
    add_pku_test(tests, keys_regions_and_threads_leak_nothing);
    add_pku_test(tests, pkeys_of_destroyed_keys_go_to_dedicated_ones);
}
