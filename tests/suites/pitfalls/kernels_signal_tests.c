/* SPDX-License-Identifier: MIT */
/*
 * What Linux tests of signals and pkeys, in tools/testing/selftests/mm/pkey_sighandler_tests.c,
 * through this library. The comments name the functions there. They close pkey 0, that of all other
 * memory: this library never does so, and so its programs get their signals before Linux 6.12, too.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "place.h"
#include "test_pitfalls.h"

#ifdef __x86_64__

enum { STACK_BYTES = 1 << 16, CLOSED = 0x55555555 /* every pkey, and 0 */ };

/* Set by the code that faults: what its handler expects, and the address. */
static int expected_code;
static void *volatile expected_address;

/* Ends the process: with status 0 if the fault is the expected one, and scopes work here. */
static void check_fault(int signal, siginfo_t *info, void *ucontext)
{
    struct pkeyguard_fault fault;

    (void)signal;
    if (info->si_code != expected_code || info->si_addr != expected_address)
        _exit(1);
    if (expected_code == SEGV_PKUERR && info->si_pkey != 0)
        _exit(2);
    if (pkeyguard_fault_decode(info, ucontext, &fault) != -ENOENT)
        _exit(3);
    pkeyguard_scoped_write (char, byte, region) {
        *byte = 'h';
    }
    _exit(0);
}

extern const ptrdiff_t __rseq_offset __attribute__((weak)); /* glibc's, since 2.35 */

/*
 * The kernel writes to the C library's rseq area, which has pkey 0, when it preempts a thread. It
 * kills a thread that has closed that.
 */
static void leave_rseq(void)
{
    enum { AREA_BYTES = 32, UNREGISTER = 1, SIGNATURE = 0x53053053 };
    char *thread;

    if (&__rseq_offset == NULL)
        return;
    __asm__("movq %%fs:0, %0" : "=r"(thread));
    syscall(SYS_rseq, thread + __rseq_offset, AREA_BYTES, UNREGISTER, SIGNATURE);
}

/* The handler runs on an alternate stack. The thread may close pkey 0 from here on. */
static void handle(int signal, void (*handler)(int, siginfo_t *, void *))
{
    static char memory[STACK_BYTES];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof(memory)};
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    leave_rseq();
    sigaltstack(&stack, NULL);
    sigaction(signal, &action, NULL);
}

static void write_to_null(uint32_t pkru)
{
    expected_code = SEGV_MAPERR;
    expected_address = NULL;
    __asm__ volatile("wrpkru\n\t"
                     "movl $1, 0"
                     :
                     : "a"(pkru), "c"(0), "d"(0)
                     : "memory");
}

static void fault_with_pkey_0_closed(void *unused)
{
    (void)unused;
    handle(SIGSEGV, check_fault);
    write_to_null(CLOSED);
}

/*
 * test_sigsegv_handler_with_pkey0_disabled: the handler runs, with the kernel's rights, in which
 * pkey 0 is open. Scopes work in it.
 */
START_TEST(handler_runs_when_pkey_0_is_closed)
{
    assert_ends(fault_with_pkey_0_closed, NULL, "", kernel_writes_to_closed_stacks() ? 0 : SIGSEGV);
}
END_TEST

static void fault_on_the_stack(void *unused)
{
    (void)unused;
    handle(SIGSEGV, check_fault);
    expected_code = SEGV_PKUERR;
    __asm__ volatile("movq %%rsp, %0\n\t"
                     "wrpkru\n\t"
                     "movl (%%rsp), %%eax"
                     : "=m"(expected_address)
                     : "a"(CLOSED), "c"(0), "d"(0)
                     : "memory");
}

/* test_sigsegv_handler_cannot_access_stack: the thread's own stack has pkey 0. */
START_TEST(stack_faults_when_pkey_0_is_closed)
{
    assert_ends(fault_on_the_stack, NULL, "", kernel_writes_to_closed_stacks() ? 0 : SIGSEGV);
}
END_TEST

/* ---- stacks in regions ---- */

static struct pkeyguard_region *stack_region;

/* PKRU of a thread that has its stack open, and pkey 0 or not. */
static uint32_t pkru_for_stack(bool pkey_0_open)
{
    return CLOSED & ~(3u << (2 * pkeyguard_key_number(key))) & ~(pkey_0_open ? 3u : 0);
}

/* Runs the function in a child process whose stack is in a region, open when it begins. */
static void assert_ends_on_region(int (*function)(void *), bool pkey_0_open, int signal)
{
    int status;
    pid_t child;

    ck_assert_int_eq(pkeyguard_region_create(key, STACK_BYTES, PAGE_RW, 0, &stack_region), 0);
    pkeyguard_scoped_write (char[STACK_BYTES], stack, stack_region) {
        child = clone(function, *stack + STACK_BYTES, SIGCHLD, &pkey_0_open);
        ck_assert_int_gt(child, 0);
        ck_assert_int_eq(waitpid(child, &status, 0), child);
    }
    ck_assert_int_eq(WIFSIGNALED(status) ? WTERMSIG(status) : 0, signal);
    ck_assert(signal != 0 || WEXITSTATUS(status) == 0);
    destroy(stack_region, NULL);
}

static int fault_beside_open_stack(void *pkey_0_open)
{
    handle(SIGSEGV, check_fault);
    write_to_null(pkru_for_stack(*(bool *)pkey_0_open));
    return 1;
}

/*
 * test_sigsegv_handler_with_different_pkey_for_stack: with its own stack in a region, a thread gets
 * signals on an alternate stack outside. With pkey 0 closed (_i 0) since Linux 6.12.
 */
START_TEST(handler_runs_beside_a_stack_in_a_region)
{
    bool delivered = _i == 1 || kernel_writes_to_closed_stacks();

    assert_ends_on_region(fault_beside_open_stack, _i == 1, delivered ? 0 : SIGSEGV);
}
END_TEST

static void return_from_handler(int signal, siginfo_t *info, void *ucontext)
{
    (void)signal, (void)info, (void)ucontext;
}

/* Ends the process with status 0 if PKRU and the stack are as before the signal. */
static int raise_beside_open_stack(void *pkey_0_open)
{
    uint32_t pkru = pkru_for_stack(*(bool *)pkey_0_open);

    handle(SIGUSR2, return_from_handler);
    __asm__ volatile("movl %%eax, %%r12d\n\t"
                     "wrpkru\n\t"
                     "movl %[gettid], %%eax\n\t"
                     "syscall\n\t"
                     "movl %%eax, %%edi\n\t"
                     "movl %[usr2], %%esi\n\t"
                     "movl %[tkill], %%eax\n\t"
                     "syscall\n\t"
                     "pushq %%r12\n\t" /* the stack is open */
                     "popq %%r12\n\t"
                     "xorl %%ecx, %%ecx\n\t"
                     "rdpkru\n\t"
                     "xorl %%edi, %%edi\n\t"
                     "cmpl %%r12d, %%eax\n\t"
                     "setne %%dil\n\t"
                     "movl %[exit], %%eax\n\t"
                     "syscall"
                     :
                     : "a"(pkru), "c"(0), "d"(0), [gettid] "i"(SYS_gettid), [tkill] "i"(SYS_tkill),
                       [usr2] "i"(SIGUSR2), [exit] "i"(SYS_exit_group)
                     : "rdi", "rsi", "r11", "r12", "cc", "memory");
    return 1;
}

/* test_pkru_sigreturn: the return from the handler brings PKRU back, also with pkey 0 closed. */
START_TEST(sigreturn_works_beside_a_stack_in_a_region)
{
    bool delivered = _i == 1 || kernel_writes_to_closed_stacks();

    assert_ends_on_region(raise_beside_open_stack, _i == 1, delivered ? 0 : SIGSEGV);
}
END_TEST

/* Ends the process with status 0 if the fault is that of the region that has the stack. */
static void check_stack_fault(int signal, siginfo_t *info, void *ucontext)
{
    struct pkeyguard_fault fault;

    (void)signal;
    if (info->si_code != SEGV_PKUERR || (int)info->si_pkey != pkeyguard_key_number(key) ||
        pkeyguard_fault_decode(info, ucontext, &fault) != 0)
        _exit(1);
    _exit(fault.kind == PKEYGUARD_FAULT_BY_KEY && fault.offset > 0 && fault.offset < STACK_BYTES &&
                  fault.address == info->si_addr
              ? 0
              : 2);
}

static int close_own_stack(void *unused)
{
    (void)unused;
    handle(SIGSEGV, check_stack_fault);
    pkeyguard_thread_reset();
    return 1;
}

/*
 * The same with the stack's own key: a thread that closes it faults at once, and the fault is told
 * on the alternate stack. Before Linux 6.12, too: that stack has pkey 0.
 */
START_TEST(thread_that_closes_its_stack_faults)
{
    assert_ends_on_region(close_own_stack, true, 0);
}
END_TEST

/* ---- PKRU after a handler ---- */

static void count_nothing(int signal)
{
    (void)signal;
    pkeyguard_thread_reset();
}

/* test_pkru_preserved_after_sigusr1: of this library's keys, and of the pkeys of others. */
START_TEST(pkru_is_the_same_after_a_handler)
{
    int others = pkey_alloc(0, 0);
    uint32_t before;

    ck_assert_int_gt(others, 0);
    signal(SIGUSR1, count_nothing);
    pkeyguard_scoped_write (char, byte, region) {
        before = pkeyguard_pkru_read();
        ck_assert_uint_eq(before >> (2 * others) & 3, 0);
        raise(SIGUSR1);
        ck_assert_uint_eq(pkeyguard_pkru_read(), before);
        *byte = 'p';
    }
    assert_denied(READ_BYTE, address, key);
    pkey_free(others);
}
END_TEST

void add_kernels_signal_tests(Suite *suite)
{
    TCase *tests = add_case(suite, "the kernel's tests of signals", set_up, tear_down);

    add_pku_test(tests, handler_runs_when_pkey_0_is_closed);
    add_pku_test(tests, stack_faults_when_pkey_0_is_closed);
    add_pku_loop_test(tests, handler_runs_beside_a_stack_in_a_region, 0, 2);
    add_pku_loop_test(tests, sigreturn_works_beside_a_stack_in_a_region, 0, 2);
    add_pku_test(tests, thread_that_closes_its_stack_faults);
    add_pku_test(tests, pkru_is_the_same_after_a_handler);
}

#else

START_TEST(every_test_here_writes_pkru_in_machine_code)
{
    ck_abort();
}
END_TEST

void add_kernels_signal_tests(Suite *suite)
{
    TCase *tests = add_case(suite, "the kernel's tests of signals", NULL, NULL);

    add_pkeys_test(tests, every_test_here_writes_pkru_in_machine_code, 8);
}

#endif
