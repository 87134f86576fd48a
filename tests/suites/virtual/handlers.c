/* SPDX-License-Identifier: MIT */
/* Guards and resets in signal handlers. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>

#include "failing.h"
#include "test_virtual.h"

static volatile int problem_in_handler; /* 0: none */

static void open_and_evict_keys(int unused)
{
    (void)unused;
    problem_in_handler = 0;
    if (pkeyguard_key_rights(keys[0]) != PKEYGUARD_NO_ACCESS)
        problem_in_handler = 1;
    for (int i = 1; i < KEYS; i++) { /* more keys than can be bound beside key 0 */
        if (acquire(i, i % 2 ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY) != 0)
            problem_in_handler = 2;
        if (pkeyguard_key_rights(keys[i]) != (i % 2 ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY))
            problem_in_handler = 3;
        pkeyguard_release(&guards[i]);
        if (pkeyguard_key_rights(keys[i]) != PKEYGUARD_NO_ACCESS)
            problem_in_handler = 4;
    }
    if (acquire(0, PKEYGUARD_READ_ONLY) != 0)
        problem_in_handler = 5;
    if (pkeyguard_key_rights(keys[0]) != PKEYGUARD_READ_ONLY)
        problem_in_handler = 6;
    pkeyguard_release(&guards[0]);
}

START_TEST(handler_opens_and_evicts_keys)
{
    uint32_t before;

    signal(SIGUSR1, open_and_evict_keys);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    guards[KEYS] = guards[0];
    before = pkeyguard_pkru_read();
    for (int round = 0; round < 3; round++) {
        raise(SIGUSR1);
        ck_assert_int_eq(problem_in_handler, 0);
        ck_assert_uint_eq(pkeyguard_pkru_read(), before);
        assert_allowed(WRITE_BYTE, address_of(regions[0]));
    }
    pkeyguard_release(&guards[KEYS]);
    assert_all_closed();
}
END_TEST

/* The first one takes access-disable away, the second one write-disable. */
static void release_in_the_order_of_opening(int unused)
{
    uint32_t ad = 1u << (2 * pkeyguard_key_number(keys[0]));
    struct pkeyguard_guard reads, writes;

    (void)unused;
    problem_in_handler = 0;
    if (pkeyguard_acquire(regions[0], PKEYGUARD_READ_ONLY, &reads) != 0 ||
        pkeyguard_acquire(regions[0], PKEYGUARD_READ_WRITE, &writes) != 0)
        problem_in_handler = 1;
    pkeyguard_release(&reads);
    pkeyguard_release(&writes);
    if ((pkeyguard_pkru_read() & 3 * ad) != ad)
        problem_in_handler = 2;
}

/* Both bits of a pkey would say that this is no handler. */
START_TEST(handler_closes_by_access_disable_alone)
{
    signal(SIGUSR1, release_in_the_order_of_opening);
    open_and_close(0);
    raise(SIGUSR1);
    ck_assert_int_eq(problem_in_handler, 0);
}
END_TEST

static int result_in_handler;

static void acquire_in_handler(int unused)
{
    (void)unused;
    result_in_handler = acquire(1, PKEYGUARD_READ_WRITE);
    if (result_in_handler == 0)
        pkeyguard_release(&guards[1]);
}

static void raise_acquire_in_handler(void *alternate)
{
    static char stack[65536];
    struct sigaction action = {.sa_handler = acquire_in_handler};

    if (alternate != NULL) {
        stack_t other = {.ss_sp = stack, .ss_size = sizeof(stack)};

        ck_assert_int_eq(sigaltstack(&other, NULL), 0);
        action.sa_flags = SA_ONSTACK;
    }
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
}

/* The worker is created with keys[0] open, which the creator closes then. */
static void start_worker_with_key_open(struct worker *worker)
{
    open_and_close(1);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    start_worker(worker);
    pkeyguard_release(&guards[0]);
    result_in_handler = 0;
}

/*
 * The first guard of a thread registers it and closes the keys that it was created with. In a
 * handler that would not last: the return opens them again.
 */
START_TEST(first_guard_of_a_thread_is_refused_in_a_handler)
{
    struct worker worker;

    start_worker_with_key_open(&worker);
    run_on(&worker, raise_acquire_in_handler, _i ? "" : NULL);
    ck_assert_int_eq(result_in_handler, -EAGAIN);
    ck_assert(can_read_on(&worker, address_of(regions[0])));
    for (int i = 1; i < POOL; i++)
        open_and_close(i);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    run_on(&worker, do_open_and_close, (void *)1);
    ck_assert(!can_read_on(&worker, address_of(regions[0])));
    run_on(&worker, raise_acquire_in_handler, _i ? "" : NULL);
    ck_assert_int_eq(result_in_handler, 0);
    evict_everything(-1);
    end_worker(&worker);
}
END_TEST

static void handle_on_alternate_stack(int signal)
{
    (void)signal;
    raise(SIGUSR1);
}

static __attribute__((noinline)) void raise_below(void)
{
    raise(SIGUSR2);
}

/* The second handler's stack is part of the thread's own, above the frame of the first one. */
static void raise_nested(void *unused)
{
    char stack[65536];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof(stack)};
    stack_t none = {.ss_flags = SS_DISABLE};
    struct sigaction action = {.sa_handler = acquire_in_handler, .sa_flags = SA_ONSTACK};

    (void)unused;
    ck_assert_int_eq(sigaltstack(&other, NULL), 0);
    sigaction(SIGUSR1, &action, NULL);
    signal(SIGUSR2, handle_on_alternate_stack);
    raise_below();
    ck_assert_int_eq(sigaltstack(&none, NULL), 0);
}

/* The return from the outer handler opens the key again with which the thread was created. */
START_TEST(first_guard_of_a_thread_is_refused_in_a_nested_handler)
{
    struct worker worker;

    start_worker_with_key_open(&worker);
    run_on(&worker, raise_nested, NULL);
    ck_assert_int_eq(result_in_handler, -EAGAIN);
    ck_assert(can_read_on(&worker, address_of(regions[0])));
    for (int i = 1; i < POOL; i++)
        open_and_close(i);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    end_worker(&worker);
}
END_TEST

/* A thread that is older than the pool has nothing open, in whatever frames. */
START_TEST(thread_older_than_the_pool_registers_in_a_nested_handler)
{
    struct worker worker;

    start_worker(&worker);
    make_keys(KEYS);
    result_in_handler = 1;
    run_on(&worker, raise_nested, NULL);
    ck_assert_int_eq(result_in_handler, 0);
    evict_everything(-1);
    end_worker(&worker);
}
END_TEST

static int unbound_result, bound_result;

static void acquire_inside_library(void *address, unsigned long length)
{
    (void)address, (void)length;
    unbound_result = acquire(2, PKEYGUARD_READ_ONLY); /* key 2 is not bound */
    bound_result = acquire(0, PKEYGUARD_READ_ONLY);
    if (bound_result == 0)
        pkeyguard_release(&guards[0]);
}

START_TEST(handler_inside_the_library_opens_bound_keys_only)
{
    open_and_close(0);
    unbound_result = bound_result = 1;
    before_call(CALL_PKEY_MPROTECT, acquire_inside_library);
    open_and_close(1);
    ck_assert_int_eq(unbound_result, -EDEADLK);
    ck_assert_int_eq(bound_result, 0);
    assert_all_closed();
}
END_TEST

static sigjmp_buf out_of_handler;

static void leave_by_jump(int unused)
{
    (void)unused;
    (void)!acquire(1, PKEYGUARD_READ_WRITE);
    siglongjmp(out_of_handler, 1);
}

/* The keys of the guards that were open are closed and stay pinned. Everything else works on. */
START_TEST(siglongjmp_out_of_a_handler_keeps_the_pins)
{
    make_keys(KEYS);
    signal(SIGUSR1, leave_by_jump);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    if (sigsetjmp(out_of_handler, 1) == 0)
        raise(SIGUSR1);
    assert_closed(0);
    for (int round = 0; round < 2; round++) {
        for (int i = 2; i < KEYS; i++)
            open_and_close(i);
    }
    ck_assert(is_bound(0));
    ck_assert(is_bound(1));
    open_and_close(0);
    open_and_close(1);
}
END_TEST

static volatile bool reset_closed;

static void reset_in_handler(int unused)
{
    (void)unused;
    if (acquire(1, PKEYGUARD_READ_ONLY) != 0)
        return;
    pkeyguard_thread_reset();
    reset_closed = pkeyguard_key_rights(keys[1]) == PKEYGUARD_NO_ACCESS;
}

/* The return from the handler opens the key again, so it must stay pinned. */
START_TEST(reset_in_a_handler_unpins_nothing)
{
    make_keys(KEYS);
    signal(SIGUSR1, reset_in_handler);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    raise(SIGUSR1);
    ck_assert(reset_closed);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    for (int round = 0; round < 2; round++) {
        for (int i = 2; i < KEYS; i++)
            open_and_close(i);
    }
    ck_assert(is_bound(0));
    pkeyguard_release(&guards[0]);
    assert_all_closed();
}
END_TEST

/*
 * A thread that is older than the pool has every pkey of it closed, and so has the code that its
 * handler has interrupted: it can register in the handler. On an alternate stack (_i 1) the frames
 * of the thread's own stack are not found.
 */
START_TEST(thread_older_than_the_pool_registers_in_a_handler)
{
    struct worker worker;

    start_worker(&worker);
    make_keys(KEYS);
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    result_in_handler = 1;
    run_on(&worker, raise_acquire_in_handler, _i ? "" : NULL);
    ck_assert_int_eq(result_in_handler, _i ? -EAGAIN : 0);
    for (int i = 0; i < KEYS; i++) {
        run_on(&worker, do_open_and_close, (void *)(intptr_t)i);
        ck_assert(!can_read_on(&worker, address_of(regions[i])));
    }
    evict_everything(-1);
    open_and_close(0);
    evict_everything(-1);
    end_worker(&worker);
}
END_TEST

static struct worker older;
static atomic_int handler_has_registered, handler_may_reset;

static void register_and_reset(int unused)
{
    (void)unused;
    if (acquire(0, PKEYGUARD_READ_ONLY) == 0)
        pkeyguard_release(&guards[0]);
    handler_has_registered = 1;
    while (!handler_may_reset)
        sched_yield();
    pkeyguard_thread_reset();
}

static void reset_twice(int unused)
{
    (void)unused;
    pkeyguard_thread_reset();
    register_and_reset(0);
}

static void do_register_in_handler(void *by_reset)
{
    signal(SIGUSR1, by_reset != NULL ? reset_twice : register_and_reset);
    raise(SIGUSR1);
}

/* No key that can be made now is open in the older thread. */
static void assert_no_new_key_is_open_there(void)
{
    struct pkeyguard_key *made[POOL + 1];
    int count = 0;

    while (pkeyguard_key_create(PKEYGUARD_READ_WRITE, 0, &made[count]) == 0) {
        struct pkeyguard_region *region = new_region(made[count++]);

        ck_assert(!can_read_on(&older, address_of(region)));
        destroy(region, NULL);
    }
    while (count > 0)
        destroy(NULL, made[--count]);
}

/*
 * A thread registers in a handler. Then a key that the interrupted code has open is destroyed. What
 * the handler closes after that, its return opens again.
 */
START_TEST(registering_in_a_handler_does_not_look_like_outside)
{
    struct pkeyguard_key *dedicated = new_key(PKEYGUARD_READ_WRITE, 0);
    struct pkeyguard_region *region = new_region(dedicated);

    start_worker(&older);
    ck_assert(can_read_on(&older, address_of(region)));
    make_keys(2);
    open_and_close(0);
    open_and_close(1);
    begin_on(&older, do_register_in_handler, _i ? "" : NULL);
    while (!handler_has_registered)
        sched_yield();
    destroy(region, dedicated);
    handler_may_reset = 1;
    wait_for(&older);
    assert_no_new_key_is_open_there();
    end_worker(&older);
}
END_TEST

void add_handlers(Suite *suite)
{
    TCase *tests = add_case(suite, "handlers", set_up_keys, tear_down_keys);
    TCase *bare = add_case(suite, "handlers, keys made later", NULL, NULL);

    add_pku_test(tests, handler_opens_and_evicts_keys);
    add_pku_test(tests, handler_closes_by_access_disable_alone);
    add_pku_loop_test(tests, first_guard_of_a_thread_is_refused_in_a_handler, 0, 2);
    add_pku_test(tests, first_guard_of_a_thread_is_refused_in_a_nested_handler);
    add_pku_test(tests, handler_inside_the_library_opens_bound_keys_only);
    add_pku_test(bare, siglongjmp_out_of_a_handler_keeps_the_pins);
    add_pku_test(bare, reset_in_a_handler_unpins_nothing);
    add_pku_loop_test(bare, thread_older_than_the_pool_registers_in_a_handler, 0, 2);
    add_pku_test(bare, thread_older_than_the_pool_registers_in_a_nested_handler);
    add_pku_loop_test(bare, registering_in_a_handler_does_not_look_like_outside, 0, 2);
}
