/* SPDX-License-Identifier: MIT */
/* pkeyguard_try_call(): a forbidden access ends the call, and the program goes on. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "failing.h"
#include "place.h"
#include "test_fault.h"

static struct pkeyguard_key *other_key;
static struct pkeyguard_region *other;

/* A key without flags, a software key and a virtual key (_i). */
static void make_other(int kind)
{
    static const unsigned flags[] = {0, PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_VIRTUAL};

    other_key = new_key(PKEYGUARD_NO_ACCESS, flags[kind]);
    other = new_region(other_key);
}

static void set_up_recovery(void)
{
    set_up_named_region();
    ck_assert_int_eq(pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_RECOVER), 0);
}

static int return_number(void *number)
{
    return (int)(intptr_t)number;
}

static int write_to(void *byte)
{
    access_byte(WRITE_BYTE, byte);
    return 1;
}

START_TEST(call_without_a_fault_returns_its_result)
{
    struct pkeyguard_fault fault;
    int result = 0;

    ck_assert_int_eq(pkeyguard_try_call(return_number, (void *)42, &result, &fault), 0);
    ck_assert_int_eq(result, 42);
    pkeyguard_scoped_write (char, byte, region) {
        ck_assert_int_eq(pkeyguard_try_call(write_to, byte, &result, &fault), 0);
        ck_assert_int_eq(result, 1);
    }
}
END_TEST

START_TEST(forbidden_access_ends_the_call)
{
    struct pkeyguard_fault fault;
    int result = 5;

    for (int again = 0; again < 3; again++) {
        memset(&fault, 0, sizeof(fault));
        ck_assert_int_eq(pkeyguard_try_call(write_to, address_of(region) + 16, &result, &fault),
                         -EFAULT);
        ck_assert_int_eq(result, 5);
        ck_assert_int_eq(fault.access, PKEYGUARD_WRITE_ACCESS);
        ck_assert_int_eq(fault.offset, 16);
        ck_assert_int_eq(fault.kind, kind_of_guard_fault());
        ck_assert_str_eq(fault.region_name, "session keys");
    }
    /* A guard page, too. */
    ck_assert_int_eq(pkeyguard_try_call(write_to, address_of(region) + LENGTH, &result, &fault),
                     -EFAULT);
    ck_assert_int_eq(fault.kind, PKEYGUARD_FAULT_GUARD_PAGE);
    pkeyguard_scoped_write (char, byte, region) {
        *byte = 1;
    }
}
END_TEST

static int open_and_fault(void *unused)
{
    struct pkeyguard_guard leaked;

    (void)unused;
    if (pkeyguard_acquire(other, PKEYGUARD_READ_WRITE, &leaked) != 0)
        return 1;
    pkeyguard_scoped_read (char, byte, other) {
        (void)*(volatile const char *)byte;
        write_to(address_of(region));
    }
    return 2;
}

/* Scopes and bare guards: both are released, whatever the key. */
START_TEST(guards_opened_inside_are_released)
{
    struct pkeyguard_fault fault;
    int result;

    make_other(_i);
    for (int again = 0; again < 3; again++) {
        ck_assert_int_eq(pkeyguard_try_call(open_and_fault, NULL, &result, &fault), -EFAULT);
        assert_denied(READ_BYTE, address_of(other), other_key);
    }
    pkeyguard_scoped_write (char, byte, other) {
        *byte = 1;
    }
    assert_denied(READ_BYTE, address_of(other), other_key);
    destroy(other, other_key);
}
END_TEST

static int release_first_and_fault(void *another)
{
    struct pkeyguard_guard guards[2];

    if (pkeyguard_acquire(other, PKEYGUARD_READ_WRITE, &guards[0]) != 0 ||
        pkeyguard_acquire(another, PKEYGUARD_READ_WRITE, &guards[1]) != 0)
        return 1;
    pkeyguard_release(&guards[0]);
    return write_to(address_of(region));
}

/* One that was released inside, before another one, is not released again. */
START_TEST(guard_released_inside_stays_released)
{
    struct pkeyguard_region *another;
    struct pkeyguard_fault fault;
    int result;

    make_other(_i);
    another = new_region(other_key);
    ck_assert_int_eq(pkeyguard_try_call(release_first_and_fault, another, &result, &fault),
                     -EFAULT);
    assert_denied(READ_BYTE, address_of(other), other_key);
    assert_denied(READ_BYTE, address_of(another), other_key);
    destroy(another, NULL);
    destroy(other, other_key);
}
END_TEST

START_TEST(guards_of_the_caller_stay_open)
{
    struct pkeyguard_fault fault;
    int result;

    make_other(_i);
    pkeyguard_scoped_write (char, byte, other) {
        ck_assert_int_eq(pkeyguard_try_call(open_and_fault, NULL, &result, &fault), -EFAULT);
        *byte = 1;
        assert_allowed(WRITE_BYTE, address_of(other));
    }
    assert_denied(READ_BYTE, address_of(other), other_key);
    destroy(other, other_key);
}
END_TEST

static int fault_in_a_gate(void *unused)
{
    (void)unused;
    pkeyguard_scoped_closed (gate) {
        write_to(address_of(other));
    }
    return 1;
}

/* The plugin misbehaves inside the gate: the caller's scope is open again afterwards. */
START_TEST(gate_entered_inside_is_left)
{
    struct pkeyguard_fault fault;
    int result;

    make_other(_i);
    pkeyguard_scoped_write (char, byte, other) {
        *byte = 1;
        ck_assert_int_eq(pkeyguard_try_call(fault_in_a_gate, NULL, &result, &fault), -EFAULT);
        *byte = 2;
    }
    assert_denied(READ_BYTE, address_of(other), other_key);
    destroy(other, other_key);
}
END_TEST

static int keep_guard(void *ret_guard)
{
    return pkeyguard_acquire(other, PKEYGUARD_READ_WRITE, ret_guard);
}

/* The call returns: what it opened is its caller's. */
START_TEST(guard_kept_beyond_a_call_stays_open)
{
    struct pkeyguard_guard kept;
    struct pkeyguard_fault fault;
    int result;

    make_other(_i);
    ck_assert_int_eq(pkeyguard_try_call(keep_guard, &kept, &result, &fault), 0);
    ck_assert_int_eq(result, 0);
    assert_allowed(WRITE_BYTE, address_of(other));
    ck_assert_int_eq(pkeyguard_try_call(fault_in_a_gate, NULL, &result, &fault), -EFAULT);
    assert_allowed(WRITE_BYTE, address_of(other));
    pkeyguard_release(&kept);
    assert_denied(READ_BYTE, address_of(other), other_key);
    destroy(other, other_key);
}
END_TEST

/* A guard opened in a gate, and kept, is not one that the call opened. */
START_TEST(guard_kept_beyond_a_gate_survives_a_call)
{
    struct pkeyguard_guard kept;
    struct pkeyguard_fault fault;
    int result;

    make_other(1);
    pkeyguard_scoped_closed (gate) {
        ck_assert_int_eq(pkeyguard_acquire(other, PKEYGUARD_READ_WRITE, &kept), 0);
    }
    ck_assert_int_eq(pkeyguard_try_call(fault_in_a_gate, NULL, &result, &fault), -EFAULT);
    assert_allowed(WRITE_BYTE, address_of(other));
    pkeyguard_release(&kept);
    destroy(other, other_key);
}
END_TEST

static int fault_in_a_gate_in_a_scope(void *unused)
{
    struct pkeyguard_guard released, leaked;

    (void)unused;
    if (pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &released) != 0 ||
        pkeyguard_acquire(other, PKEYGUARD_READ_WRITE, &leaked) != 0)
        return 1;
    pkeyguard_release(&released);
    return fault_in_a_gate(unused);
}

/* The guard that the gate suspended was opened inside the call, too: it ends with it. */
START_TEST(guard_and_gate_of_the_call_end)
{
    struct pkeyguard_fault fault;
    int result;

    make_other(_i);
    ck_assert_int_eq(pkeyguard_try_call(fault_in_a_gate_in_a_scope, NULL, &result, &fault),
                     -EFAULT);
    assert_denied(READ_BYTE, address_of(other), other_key);
    destroy(other, other_key);
}
END_TEST

static int try_inside(void *unused)
{
    struct pkeyguard_fault fault;
    int result;

    (void)unused;
    ck_assert_int_eq(pkeyguard_try_call(write_to, address_of(region), &result, &fault), -EFAULT);
    write_to(address_of(region) + 1);
    return 1;
}

START_TEST(tried_calls_nest)
{
    struct pkeyguard_fault fault;
    int result;

    ck_assert_int_eq(pkeyguard_try_call(try_inside, NULL, &result, &fault), -EFAULT);
    ck_assert_int_eq(fault.offset, 1);
}
END_TEST

static sigjmp_buf before_the_call;
static bool left_call_ended;

static int jump_back(void *unused)
{
    (void)unused;
    siglongjmp(before_the_call, 1);
}

static __attribute__((noinline)) void try_and_jump_out(void)
{
    struct pkeyguard_thread_rights rights;
    struct pkeyguard_fault fault;
    int result;

    pkeyguard_thread_save(&rights);
    if (sigsetjmp(before_the_call, 1) == 0) {
        (void)!pkeyguard_try_call(jump_back, NULL, &result, &fault);
        left_call_ended = true;
    }
    pkeyguard_thread_restore(&rights);
}

static int fault_after_a_jump(void *unused)
{
    (void)unused;
    try_and_jump_out();
    write_to(address_of(region) + 3);
    return 1;
}

/* The call is not there any more: a fault ends the one around it. */
START_TEST(call_that_a_jump_left_is_forgotten)
{
    struct pkeyguard_fault fault;
    int result;

    ck_assert_int_eq(pkeyguard_try_call(fault_after_a_jump, NULL, &result, &fault), -EFAULT);
    ck_assert(!left_call_ended);
    ck_assert_int_eq(fault.offset, 3);
}
END_TEST

static int try_and_jump_out_unrestored(void *unused)
{
    struct pkeyguard_fault fault;
    int result;

    (void)unused;
    if (sigsetjmp(before_the_call, 1) == 0)
        (void)!pkeyguard_try_call(jump_back, NULL, &result, &fault);
    return 1;
}

static int pages_freed;

static void note_freed_pages(void *pages, unsigned long length)
{
    (void)pages, (void)length;
    pages_freed++;
    before_call(CALL_MUNMAP, note_freed_pages);
}

/* Each call has memory of its own, also one that a jump has left. */
START_TEST(calls_leave_no_memory)
{
    struct pkeyguard_fault fault;
    int result;

    before_call(CALL_MUNMAP, note_freed_pages);
    ck_assert_int_eq(pkeyguard_try_call(return_number, NULL, &result, &fault), 0);
    ck_assert_int_eq(pages_freed, 1);
    ck_assert_int_eq(pkeyguard_try_call(write_to, address_of(region), &result, &fault), -EFAULT);
    ck_assert_int_eq(pages_freed, 2);
    ck_assert_int_eq(pkeyguard_try_call(try_and_jump_out_unrestored, NULL, &result, &fault), 0);
    ck_assert_int_eq(pages_freed, 4);
}
END_TEST

/* It closes the gate's own guards again. */
START_TEST(gate_around_a_call_that_a_jump_left_ends)
{
    make_other(_i);
    pkeyguard_scoped_write (char, byte, other) {
        pkeyguard_scoped_closed (gate) {
            try_and_jump_out();
        }
        *byte = 1;
    }
    assert_denied(READ_BYTE, address_of(other), other_key);
    destroy(other, other_key);
}
END_TEST

static int end_thread(void *unused)
{
    pthread_exit(unused);
}

static void write_in_scope_and_fault(int **number)
{
    **number = 1; /* the scope is open again */
    write_to(address_of(region));
}

static void *end_thread_in_a_call(void *unused)
{
    struct pkeyguard_fault fault;
    int result;

    pkeyguard_scoped_write (int, number, other) {
        int *after __attribute__((cleanup(write_in_scope_and_fault), unused)) = number;

        pkeyguard_scoped_closed (gate) {
            (void)!pkeyguard_try_call(end_thread, NULL, &result, &fault);
        }
    }
    return unused;
}

static void unwind_through_a_call(void *unused)
{
    pthread_t thread;

    (void)unused;
    ck_assert_int_eq(pthread_create(&thread, NULL, end_thread_in_a_call, NULL), 0);
    pthread_join(thread, NULL);
}

/* What is around the call goes on, and a fault there is no fault of the call. */
START_TEST(unwinding_passes_through_a_call)
{
    make_other(_i);
    assert_reports(unwind_through_a_call, NULL, report_of(WRITE_BYTE), SIGSEGV);
    destroy(other, other_key);
}
END_TEST

static struct pkeyguard_closed gate_by_hand;

static int enter_gate(void *unused)
{
    (void)unused;
    pkeyguard_closed_enter(&gate_by_hand);
    return 1;
}

static int leave_gate(void *unused)
{
    (void)unused;
    pkeyguard_closed_leave(&gate_by_hand);
    return 1;
}

/* A gate may begin or end inside the call. */
START_TEST(gate_and_call_overlap)
{
    struct pkeyguard_fault fault;
    int result;

    make_other(_i);
    pkeyguard_scoped_write (char, byte, other) {
        ck_assert_int_eq(pkeyguard_try_call(enter_gate, NULL, &result, &fault), 0);
        assert_denied(WRITE_BYTE, byte, other_key);
        leave_gate(NULL);
        *byte = 1;
        enter_gate(NULL);
        ck_assert_int_eq(pkeyguard_try_call(leave_gate, NULL, &result, &fault), 0);
        *byte = 2;
        pkeyguard_scoped_closed (gate) {
            assert_denied(WRITE_BYTE, byte, other_key);
        }
        *byte = 3;
    }
    assert_denied(READ_BYTE, address_of(other), other_key);
    destroy(other, other_key);
}
END_TEST

/* The call's coroutine stops, another one runs, and the first goes on if asked. */
static int stop_and_fault(void *goes_on)
{
    struct pkeyguard_thread_rights coroutine, scheduler;

    ck_assert_int_eq(pkeyguard_thread_switch(&coroutine, NULL), 0);
    if (goes_on != NULL)
        ck_assert_int_eq(pkeyguard_thread_switch(&scheduler, &coroutine), 0);
    return write_to(address_of(region));
}

static void fault_in_another_coroutine(void *unused)
{
    struct pkeyguard_fault fault;
    int result;

    (void)unused;
    (void)!pkeyguard_try_call(stop_and_fault, NULL, &result, &fault);
}

/* A fault of another coroutine does not end the call. */
START_TEST(call_belongs_to_its_coroutine)
{
    struct pkeyguard_fault fault;
    int result;

    assert_reports(fault_in_another_coroutine, NULL, report_of(WRITE_BYTE), SIGSEGV);
    ck_assert_int_eq(pkeyguard_try_call(stop_and_fault, &result, &result, &fault), -EFAULT);
}
END_TEST

static void *try_in_thread(void *unused)
{
    struct pkeyguard_fault fault;
    int result;

    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(pkeyguard_try_call(write_to, address_of(region) + i, &result, &fault),
                         -EFAULT);
        ck_assert_int_eq(fault.offset, i);
    }
    return unused;
}

START_TEST(every_thread_can_try)
{
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, try_in_thread, NULL), 0);
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

static int adopt_into_closed_memory(void *page)
{
    void *closed = address_of(region);

    return pkeyguard_region_adopt(other_key, page, PAGE_BYTES, PROT_READ, 0, closed);
}

/* The library was about to store its result, and does not have its lock then. */
START_TEST(library_works_after_a_fault_in_it)
{
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct pkeyguard_fault fault;
    int result;

    make_other(_i);
    ck_assert_ptr_ne(page, MAP_FAILED);
    ck_assert_int_eq(pkeyguard_try_call(adopt_into_closed_memory, page, &result, &fault), -EFAULT);
    destroy(pkeyguard_region_of(page), NULL);
    destroy(other, other_key);
    munmap(page, PAGE_BYTES);
}
END_TEST

START_TEST(signal_mask_is_as_before)
{
    struct pkeyguard_fault fault;
    sigset_t before, after;
    int result;

    sigemptyset(&before);
    sigaddset(&before, SIGUSR2);
    sigprocmask(SIG_SETMASK, &before, NULL);
    ck_assert_int_eq(pkeyguard_try_call(write_to, address_of(region), &result, &fault), -EFAULT);
    sigprocmask(SIG_SETMASK, NULL, &after);
    ck_assert(sigismember(&after, SIGUSR2) == 1 && sigismember(&after, SIGSEGV) == 0);
}
END_TEST

START_TEST(trying_needs_the_flag_and_arguments)
{
    struct pkeyguard_fault fault;
    int result;

    ck_assert_int_eq(pkeyguard_try_call(NULL, NULL, &result, &fault), -EINVAL);
    ck_assert_int_eq(pkeyguard_try_call(return_number, NULL, NULL, &fault), -EINVAL);
    ck_assert_int_eq(pkeyguard_try_call(return_number, NULL, &result, NULL), -EINVAL);
    ck_assert_int_eq(pkeyguard_fault_reporter_install(0), 0);
    ck_assert_int_eq(pkeyguard_try_call(return_number, NULL, &result, &fault), -EINVAL);
}
END_TEST

START_TEST(trying_needs_the_reporter)
{
    struct pkeyguard_fault fault;
    int result;

    ck_assert_int_eq(pkeyguard_try_call(return_number, NULL, &result, &fault), -EINVAL);
}
END_TEST

static void try_to_write_nowhere(void *unused)
{
    struct pkeyguard_fault fault;
    int result;

    (void)unused;
    install_reporter_over(SIG_DFL, PKEYGUARD_REPORTER_RECOVER);
    (void)!pkeyguard_try_call(write_to, (void *)8, &result, &fault);
}

START_TEST(other_faults_go_where_they_went)
{
    assert_ends(try_to_write_nowhere, NULL, "", SIGSEGV);
}
END_TEST

void add_tried_calls(Suite *suite)
{
    TCase *tests = add_case(suite, "tried calls", set_up_recovery, NULL);

    tcase_add_test(tests, call_without_a_fault_returns_its_result);
    tcase_add_test(tests, trying_needs_the_flag_and_arguments);
    tcase_add_test(add_case(suite, "without the reporter", NULL, NULL), trying_needs_the_reporter);
    /* ThreadSanitizer does not follow a jump out of a handler. */
    if (under_tool("tsan"))
        return;
    tcase_add_test(tests, forbidden_access_ends_the_call);
    tcase_add_loop_test(tests, guards_opened_inside_are_released, 0, 3);
    tcase_add_loop_test(tests, guard_released_inside_stays_released, 0, 3);
    tcase_add_loop_test(tests, guards_of_the_caller_stay_open, 0, 3);
    tcase_add_loop_test(tests, guard_kept_beyond_a_call_stays_open, 0, 3);
    tcase_add_test(tests, guard_kept_beyond_a_gate_survives_a_call);
    tcase_add_loop_test(tests, guard_and_gate_of_the_call_end, 0, 3);
    tcase_add_loop_test(tests, gate_entered_inside_is_left, 0, 3);
    tcase_add_test(tests, tried_calls_nest);
    tcase_add_test(tests, call_that_a_jump_left_is_forgotten);
    tcase_add_test(tests, calls_leave_no_memory);
    tcase_add_loop_test(tests, gate_around_a_call_that_a_jump_left_ends, 0, 3);
    /* AddressSanitizer says more about a fault than the reporter. */
    if (!under_tool("asan")) {
        add_loop_test_if(HAS_UNWINDING, NO_UNWINDING, tests, unwinding_passes_through_a_call, 0, 3);
        tcase_add_test(tests, call_belongs_to_its_coroutine);
    }
    tcase_add_loop_test(tests, gate_and_call_overlap, 0, 3);
    tcase_add_test(tests, every_thread_can_try);
    tcase_add_loop_test(tests, library_works_after_a_fault_in_it, 0, 3);
    tcase_add_test(tests, signal_mask_is_as_before);
    tcase_add_test(tests, other_faults_go_where_they_went);
}
