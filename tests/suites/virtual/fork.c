/* SPDX-License-Identifier: MIT */
/* Pins and threads in a fork child. */
#include <sys/mman.h>
#include <unistd.h>

#include "children.h"
#include "test_virtual.h"

START_TEST(fork_child_keeps_the_pins_of_the_forking_thread)
{
    struct worker worker, another;
    pid_t child;

    start_worker(&worker);
    start_worker(&another);
    run_on(&another, do_register, NULL);
    run_on(&worker, do_acquire, (void *)1);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    evict_everything(0); /* has the library count the parent's threads */
    child = fork();
    if (child == 0) {
        struct worker stranger;

        evict_everything(0);
        ck_assert(is_bound(0));
        assert_allowed(WRITE_BYTE, address_of(regions[0]));
        pkeyguard_release(&guards[0]);
        evict_everything(0);
        ck_assert(!is_bound(0));
        start_worker(&stranger);
        assert_blocks_eviction(&stranger);
        run_on(&stranger, do_register, NULL);
        evict_everything(-1);
        run_on(&stranger, do_acquire, (void *)0);
        evict_everything(0);
        ck_assert(is_bound(0));
        _exit(0);
    }
    assert_exits(child, 0);
    evict_everything(0);
    ck_assert(is_bound(1));
    run_on(&worker, do_release, (void *)1);
    pkeyguard_release(&guards[0]);
    end_worker(&worker);
    end_worker(&another);
    evict_everything(-1);
}
END_TEST

static void fork_and_open_every_key(void *unused)
{
    pid_t child = fork();

    (void)unused;
    if (child == 0) {
        for (int i = 0; i < KEYS; i++)
            open_and_close(i);
        _exit(is_bound(0) ? 1 : 0);
    }
    assert_exits(child, 0);
}

START_TEST(fork_child_drops_the_pins_of_other_threads)
{
    struct worker worker;

    evict_everything(-1);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    start_worker(&worker);
    if (_i)
        run_on(&worker, do_register, NULL);
    run_on(&worker, fork_and_open_every_key, NULL);
    pkeyguard_release(&guards[0]);
    end_worker(&worker);
}
END_TEST

/* Opens some keys. Returns the set of all keys that have a pkey after that. */
static int bound_after_use(void)
{
    int bound = 0;

    for (int i = POOL; i < KEYS; i++)
        open_and_close(i);
    for (int i = 0; i < KEYS; i++)
        bound |= is_bound(i) << i;
    return bound;
}

static int use_in_child(void *ret_bound)
{
    *(int *)ret_bound = bound_after_use();
    return 0;
}

/*
 * One key is used far more than the others, and of these some lately. The child evicts the keys
 * that its parent would have evicted.
 */
START_TEST(fork_child_keeps_the_order_of_eviction)
{
    int *bound_in_child = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    for (int i = 1; i < KEYS; i++) {
        open_and_close(0);
        open_and_close(i);
    }
    for (int i = 1; i < POOL; i++)
        open_and_close(i);
    ck_assert_int_eq(run_as_child((enum way)_i, use_in_child, bound_in_child), 0);
    ck_assert_int_eq(*bound_in_child, bound_after_use());
    munmap(bound_in_child, PAGE_BYTES);
}
END_TEST

/*
 * Until it exits, a child of vfork(2) shares this process's memory and has the calling thread's
 * rights.
 */
START_TEST(vfork_inside_a_scope_keeps_the_pin)
{
    pid_t child;

    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    child = vfork();
    if (child == 0)
        _exit(address_of(regions[0])[0]);
    assert_exits(child, 0);
    evict_everything(0);
    pkeyguard_release(&guards[0]);
    evict_everything(-1);
}
END_TEST

void add_fork(Suite *suite)
{
    TCase *tests = add_case(suite, "fork", set_up_keys, tear_down_keys);

    add_pku_test(tests, fork_child_keeps_the_pins_of_the_forking_thread);
    add_pku_loop_test(tests, fork_child_drops_the_pins_of_other_threads, 0, 2);
    add_pku_loop_test(tests, fork_child_keeps_the_order_of_eviction, BY_FORK, BY_VFORK);
    add_pku_test(tests, vfork_inside_a_scope_keeps_the_pin);
}
