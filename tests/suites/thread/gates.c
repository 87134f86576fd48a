/* SPDX-License-Identifier: MIT */
/* The call gate: code runs while nothing of its caller's is open. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

#include "place.h"
#include "test_thread.h"

/* The library finds signal frames on this CPU. */
#ifdef __x86_64__
enum { FINDS_FRAMES = true };
#else
enum { FINDS_FRAMES = false };
#endif
#define NO_FRAMES "not here: the library cannot read signal frames of this CPU"

/* A key without flags, a software key and a virtual key (_i). */
static struct pkeyguard_key *caller_key;
static struct pkeyguard_region *caller;

static void make_caller(int kind)
{
    static const unsigned flags[] = {0, PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_VIRTUAL};

    caller_key = new_key(PKEYGUARD_NO_ACCESS, flags[kind]);
    caller = new_region(caller_key);
}

START_TEST(gate_closes_what_its_caller_has_open)
{
    make_caller(_i);
    pkeyguard_scoped_write (int, number, caller) {
        *number = 1;
        pkeyguard_scoped_closed (gate) {
            assert_denied(READ_BYTE, address_of(caller), caller_key);
            assert_denied(WRITE_BYTE, address_of(caller), caller_key);
            if (pku()) /* its default lets threads read */
                assert_denied(READ_BYTE, address_of(shared), shared_key);
        }
        *number += 1;
        assert_allowed(WRITE_BYTE, address_of(caller));
    }
    assert_denied(READ_BYTE, address_of(caller), caller_key);
    assert_defaults();
    destroy(caller, caller_key);
}
END_TEST

/* Inside the gate a scope on the same key opens it, and its end closes it. */
START_TEST(scopes_inside_a_gate_work)
{
    make_caller(_i);
    pkeyguard_scoped_read (int, outside, caller) {
        ck_assert_int_eq(*outside, 0);
        pkeyguard_scoped_closed (gate) {
            pkeyguard_scoped_write (int, number, caller) {
                *number = 7;
            }
            assert_denied(READ_BYTE, address_of(caller), caller_key);
        }
        ck_assert_int_eq(*outside, 7);
        assert_denied(WRITE_BYTE, address_of(caller), caller_key);
    }
    assert_denied(READ_BYTE, address_of(caller), caller_key);
    destroy(caller, caller_key);
}
END_TEST

/* It then belongs to the caller. */
START_TEST(guard_kept_beyond_a_gate_stays_open)
{
    struct pkeyguard_guard kept;

    make_caller(1);
    pkeyguard_scoped_read (int, outside, caller) {
        pkeyguard_scoped_closed (gate) {
            ck_assert_int_eq(pkeyguard_acquire(caller, PKEYGUARD_READ_WRITE, &kept), 0);
        }
        assert_allowed(WRITE_BYTE, address_of(caller));
        pkeyguard_scoped_closed (gate)
            assert_denied(READ_BYTE, address_of(caller), caller_key);
        pkeyguard_release(&kept);
        assert_denied(WRITE_BYTE, address_of(caller), caller_key);
        (void)*outside;
    }
    assert_denied(READ_BYTE, address_of(caller), caller_key);
    destroy(caller, caller_key);
}
END_TEST

/* A suspended guard keeps its region and key. */
START_TEST(region_cannot_be_destroyed_inside_a_gate)
{
    make_caller(1);
    pkeyguard_scoped_write (int, number, caller) {
        pkeyguard_scoped_closed (gate) {
            ck_assert_int_eq(pkeyguard_region_destroy(caller), -EBUSY);
        }
        *number = 1;
    }
    destroy(caller, caller_key);
}
END_TEST

static pthread_barrier_t meeting;

static void *hold_shared_guard(void *unused)
{
    pkeyguard_scoped_write (int, number, caller) {
        pthread_barrier_wait(&meeting);
        pthread_barrier_wait(&meeting);
        *number = 2;
    }
    return unused;
}

/* Under mprotect another thread's guard keeps the region open. */
START_TEST(guards_of_other_threads_stay_open)
{
    pthread_t thread;

    make_caller(1);
    pthread_barrier_init(&meeting, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, hold_shared_guard, NULL), 0);
    pthread_barrier_wait(&meeting);
    pkeyguard_scoped_write (int, number, caller) {
        *number = 1;
        pkeyguard_scoped_closed (gate) {
            assert_allowed(WRITE_BYTE, address_of(caller));
            /* A scope here is not nested in the caller's, which counts for nothing. */
            pkeyguard_scoped_write (int, inside, caller) {
                pthread_barrier_wait(&meeting);
                ck_assert_int_eq(pthread_join(thread, NULL), 0);
                *inside += 1;
            }
            assert_denied(READ_BYTE, address_of(caller), caller_key);
        }
        ck_assert_int_eq(*number, 3);
    }
    assert_denied(READ_BYTE, address_of(caller), caller_key);
    destroy(caller, caller_key);
}
END_TEST

enum { PLUGINS = 30 };
static struct pkeyguard_region *plugins[PLUGINS];

/* Each plugin opens its own key, and calls the next through the host's gate. */
static void call_plugin(int i)
{
    if (i == PLUGINS)
        return;
    pkeyguard_scoped_write (int, number, plugins[i]) {
        *number = i;
        pkeyguard_scoped_closed (gate) {
            for (int other = 0; other < PLUGINS; other++)
                ck_assert(try_access(READ_BYTE, address_of(plugins[other])).happened);
            call_plugin(i + 1);
        }
        ck_assert_int_eq(*number, i);
        *number = -1;
    }
}

/* More at a time than there are pkeys. */
START_TEST(gates_nest_through_thirty_plugins)
{
    for (int i = 0; i < PLUGINS; i++)
        plugins[i] = new_region(new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL));
    call_plugin(0);
    for (int i = 0; i < PLUGINS; i++) {
        pkeyguard_scoped_read (int, number, plugins[i]) {
            ck_assert_int_eq(*number, -1);
        }
        destroy(plugins[i], pkeyguard_region_key(plugins[i]));
    }
}
END_TEST

static int return_through_a_gate(void)
{
    pkeyguard_scoped_closed (gate) {
        return 1;
    }
    return 0;
}

static void *end_thread_in_a_gate(void *unused)
{
    pkeyguard_scoped_write (int, number, caller) {
        *number = 1;
        pkeyguard_scoped_closed (gate) {
            pthread_exit(unused);
        }
    }
    return unused;
}

START_TEST(every_way_out_of_a_gate_leaves_it)
{
    pthread_t thread;

    make_caller(_i);
    pkeyguard_scoped_write (int, number, caller) {
        ck_assert_int_eq(return_through_a_gate(), 1);
        *number = 3;
        for (int i = 0; i < 2; i++) {
            pkeyguard_scoped_closed (gate) {
                if (i == 0)
                    break;
            }
            *number = 4;
        }
    }
    ck_assert_int_eq(pthread_create(&thread, NULL, end_thread_in_a_gate, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    assert_denied(READ_BYTE, address_of(caller), caller_key);
    destroy(caller, caller_key);
}
END_TEST

/*
 * A mistake, which under mprotect does no harm: the guard is gone, and another thread's on the same
 * region stays.
 */
START_TEST(guard_released_inside_a_gate_stays_closed)
{
    struct pkeyguard_guard guard;
    pthread_t thread;

    make_caller(1);
    pthread_barrier_init(&meeting, NULL, 2);
    ck_assert_int_eq(pkeyguard_acquire(caller, PKEYGUARD_READ_WRITE, &guard), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, hold_shared_guard, NULL), 0);
    pthread_barrier_wait(&meeting);
    pkeyguard_scoped_closed (gate) {
        pkeyguard_release(&guard);
        assert_allowed(WRITE_BYTE, address_of(caller));
    }
    pthread_barrier_wait(&meeting);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    assert_denied(READ_BYTE, address_of(caller), caller_key);
    destroy(caller, caller_key);
}
END_TEST

static sigjmp_buf before_gates;

static __attribute__((noreturn)) void jump_out_of_two_gates(void)
{
    pkeyguard_scoped_closed (outer) {
        pkeyguard_scoped_closed (inner) {
            siglongjmp(before_gates, 1);
        }
    }
    ck_abort();
}

/* As after any other jump, pkeyguard_thread_restore() gives the caller its rights back. */
START_TEST(restore_ends_gates_that_a_jump_left)
{
    struct pkeyguard_thread_rights rights;
    struct pkeyguard_guard guard;

    make_caller(_i);
    ck_assert_int_eq(pkeyguard_acquire(caller, PKEYGUARD_READ_WRITE, &guard), 0);
    pkeyguard_thread_save(&rights);
    if (sigsetjmp(before_gates, 1) == 0)
        jump_out_of_two_gates();
    assert_denied(WRITE_BYTE, address_of(caller), caller_key);
    pkeyguard_thread_restore(&rights);
    assert_allowed(WRITE_BYTE, address_of(caller));
    pkeyguard_release(&guard);
    assert_denied(READ_BYTE, address_of(caller), caller_key);
    destroy(caller, caller_key);
}
END_TEST

static struct pkeyguard_thread_rights saved_outside;

static void restore_in_handler(int unused)
{
    (void)unused;
    pkeyguard_thread_restore(&saved_outside);
}

/* A handler has not left the gate, so the gate stays closed. */
START_TEST(restore_in_a_handler_leaves_the_interrupted_gate_closed)
{
    make_caller(_i);
    signal(SIGUSR1, restore_in_handler);
    pkeyguard_scoped_write (int, number, caller) {
        pkeyguard_thread_save(&saved_outside);
        pkeyguard_scoped_closed (gate) {
            raise(SIGUSR1);
            assert_denied(READ_BYTE, address_of(caller), caller_key);
        }
        *number = 1;
    }
    assert_denied(READ_BYTE, address_of(caller), caller_key);
    destroy(caller, caller_key);
}
END_TEST

static volatile bool handler_ran;

static void use_gate_in_handler(int unused)
{
    (void)unused;
    pkeyguard_scoped_write (int, number, caller) {
        *number = 5;
        pkeyguard_scoped_closed (gate) {
            assert_denied(READ_BYTE, address_of(caller), caller_key);
        }
        *number = 6;
    }
    handler_ran = true;
}

/* The interrupted scope is as it was when the handler returns. */
START_TEST(gate_in_a_handler_leaves_the_interrupted_scope_alone)
{
    make_caller(_i);
    signal(SIGUSR1, use_gate_in_handler);
    pkeyguard_scoped_write (int, number, caller) {
        *number = 1;
        raise(SIGUSR1);
        ck_assert(handler_ran);
        ck_assert_int_eq(*number, 6);
    }
    assert_denied(READ_BYTE, address_of(caller), caller_key);
    destroy(caller, caller_key);
}
END_TEST

/* For bindings: a second call of leave does nothing, and errno stays. */
START_TEST(gate_functions_can_be_called_by_hand)
{
    struct pkeyguard_closed gate;

    make_caller(_i);
    pkeyguard_scoped_write (int, number, caller) {
        pkeyguard_closed_enter(&gate);
        assert_denied(READ_BYTE, address_of(caller), caller_key);
        errno = 123;
        pkeyguard_closed_leave(&gate);
        ck_assert_int_eq(errno, 123);
        pkeyguard_closed_leave(&gate);
        *number = 1;
    }
    destroy(caller, caller_key);
}
END_TEST

/* The child is inside the gate, too, and has its caller's guard when it leaves. */
START_TEST(fork_child_inside_a_gate_leaves_it)
{
    pid_t child;

    make_caller(_i);
    pkeyguard_scoped_write (int, number, caller) {
        pkeyguard_scoped_closed (gate) {
            child = fork();
            assert_denied(READ_BYTE, address_of(caller), caller_key);
            if (pkeyguard_key_enforcement(caller_key) == PKEYGUARD_MPROTECT)
                ck_assert_int_eq(pkeyguard_region_destroy(caller), -EBUSY);
        }
        *number = 1;
    }
    assert_denied(READ_BYTE, address_of(caller), caller_key);
    destroy(caller, caller_key);
    if (child == 0)
        _exit(42);
    assert_exits(child, 42);
}
END_TEST

void add_gates(Suite *suite)
{
    TCase *tests = add_case(suite, "gates", set_up_keys, tear_down_keys);

    tcase_add_loop_test(tests, gate_closes_what_its_caller_has_open, 0, 3);
    tcase_add_loop_test(tests, scopes_inside_a_gate_work, 0, 3);
    tcase_add_test(tests, guard_kept_beyond_a_gate_stays_open);
    tcase_add_test(tests, region_cannot_be_destroyed_inside_a_gate);
    tcase_add_test(tests, guards_of_other_threads_stay_open);
    tcase_add_loop_test(tests, fork_child_inside_a_gate_leaves_it, 0, 3);
    tcase_add_test(tests, guard_released_inside_a_gate_stays_closed);
    tcase_add_test(tests, gates_nest_through_thirty_plugins);
    add_loop_test_if(HAS_UNWINDING, NO_UNWINDING, tests, every_way_out_of_a_gate_leaves_it, 0, 3);
    /* ThreadSanitizer fails when a jump ends a fault inside a handler. */
    if (!under_tool("tsan"))
        tcase_add_loop_test(tests, gate_in_a_handler_leaves_the_interrupted_scope_alone, 0, 3);
    tcase_add_loop_test(tests, gate_functions_can_be_called_by_hand, 0, 3);
    add_loop_test_if(FINDS_FRAMES, NO_FRAMES, tests, restore_ends_gates_that_a_jump_left, 0, 3);
    /* The library does not know valgrind's signal frames, and takes the handler for none. */
    if (!under_tool("valgrind"))
        tcase_add_loop_test(tests, restore_in_a_handler_leaves_the_interrupted_gate_closed, 0, 3);
}
