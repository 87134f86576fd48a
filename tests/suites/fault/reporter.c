/* SPDX-License-Identifier: MIT */
/* The reporter: a line on stderr about the fault, then whatever would have happened without it. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failing.h"
#include "test_fault.h"

static void fault_after_install_over(void *handler)
{
    install_reporter_over(*(void (**)(int))handler, 0);
    access_byte(WRITE_BYTE, address);
    _exit(1);
}

/* SIGSEGV kills the process even if it is ignored, because a fault caused it. */
START_TEST(reporter_explains_the_fault_and_the_process_dies)
{
    void (*standard)(int) = SIG_DFL, (*ignored)(int) = SIG_IGN;

    assert_reports(fault_after_install_over, &standard, report_of(WRITE_BYTE), SIGSEGV);
    assert_reports(fault_after_install_over, &ignored, report_of(WRITE_BYTE), SIGSEGV);
}
END_TEST

static void raise_after_install_over(void *handler)
{
    install_reporter_over(*(void (**)(int))handler, 0);
    raise(SIGSEGV);
}

static void stray_access(void *target)
{
    install_reporter_over(SIG_DFL, 0);
    access_byte(WRITE_BYTE, target);
}

START_TEST(reporter_is_silent_about_other_faults)
{
    void (*standard)(int) = SIG_DFL, (*ignored)(int) = SIG_IGN;
    char *closed = mmap(NULL, PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_ends(raise_after_install_over, &standard, "", SIGSEGV);
    assert_ends(raise_after_install_over, &ignored, "", 0);
    assert_ends(stray_access, closed, "", SIGSEGV);
    munmap(closed, PAGE_BYTES);
}
END_TEST

static void fault_with_blocked_signal(void *unused)
{
    sigset_t segv;

    (void)unused;
    install_reporter_over(SIG_DFL, PKEYGUARD_REPORTER_GRANT_DEFAULTS | PKEYGUARD_REPORTER_RECOVER);
    sigemptyset(&segv);
    sigaddset(&segv, SIGSEGV);
    pthread_sigmask(SIG_BLOCK, &segv, NULL);
    access_byte(WRITE_BYTE, address);
}

START_TEST(reporter_cannot_help_a_thread_that_blocks_the_signal)
{
    assert_ends(fault_with_blocked_signal, NULL, "", SIGSEGV);
}
END_TEST

/*
 * A debugger, here this process, sees the same fault twice: before the reporter runs, and when it
 * has returned.
 */
START_TEST(reporter_lets_the_fault_happen_again)
{
    siginfo_t seen[2];
    pid_t child = fork();
    int status;

    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        close(STDERR_FILENO);
        install_reporter_over(SIG_DFL, 0);
        access_byte(WRITE_BYTE, address);
        _exit(1);
    }
    ck_assert_int_gt(child, 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert(WIFSTOPPED(status));
        ck_assert_int_eq(WSTOPSIG(status), SIGSEGV);
        ck_assert_int_eq(ptrace(PTRACE_GETSIGINFO, child, NULL, &seen[i]), 0);
        ck_assert_int_eq(seen[i].si_code, denial_code(key));
        ck_assert_ptr_eq(seen[i].si_addr, address);
        if (pku())
            ck_assert_int_eq((int)seen[i].si_pkey, pkeyguard_key_number(key));
        ck_assert_int_eq(ptrace(PTRACE_CONT, child, NULL, (void *)SIGSEGV), 0);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status));
}
END_TEST

/* The state that a handler of SIGSEGV finds when it is called, by the reporter or by the kernel. */
struct view {
    int calls, signal, code, error;
    void *address;
    bool with_context, segv_blocked, usr1_blocked, usr2_blocked, on_alternate_stack;
};
static struct view *view;

static void note_state(int signal)
{
    sigset_t blocked;
    stack_t stack;

    view->calls++;
    view->signal = signal;
    view->error = errno;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    view->segv_blocked = sigismember(&blocked, SIGSEGV);
    view->usr1_blocked = sigismember(&blocked, SIGUSR1);
    view->usr2_blocked = sigismember(&blocked, SIGUSR2);
    sigaltstack(NULL, &stack);
    view->on_alternate_stack = stack.ss_flags & SS_ONSTACK;
    errno = 0;
    /* The access is made again, and must succeed then. */
    if (mprotect(address, LENGTH, PAGE_RW) != 0)
        _exit(2);
}

static void note_state_and_context(int signal, siginfo_t *info, void *ucontext)
{
    struct pkeyguard_fault again;

    note_state(signal);
    view->code = info->si_code;
    view->address = info->si_addr;
    view->with_context = pkeyguard_fault_decode(info, ucontext, &again) == 0;
}

/* Faults by page rights, which the handler can change under any enforcement. */
static void fault_with_handler(int flags, bool reporter, struct view *ret_view)
{
    struct sigaction action = {.sa_flags = flags};
    struct pkeyguard_guard guard;
    sigset_t usr1;

    if (flags & SA_SIGINFO)
        action.sa_sigaction = note_state_and_context;
    else
        action.sa_handler = note_state;
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGSEGV, &action, NULL);
    if (reporter && pkeyguard_fault_reporter_install(0) != 0)
        _exit(1);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, NULL);
    view = ret_view;
    if (pkeyguard_key_acquire(key, PKEYGUARD_READ_WRITE, &guard) != 0 ||
        pkeyguard_region_protect(region, PROT_READ) != 0)
        _exit(1);
    errno = 4321;
    access_byte(WRITE_BYTE, address);
    _exit(view->calls == 1 && address[0] == 'w' ? 0 : 3);
}

static const int handler_flags[] = {0, SA_SIGINFO, SA_SIGINFO | SA_NODEFER,
                                    SA_SIGINFO | SA_RESTART};

/*
 * The reporter calls the previous handler as the kernel would: with the same signal mask, arguments
 * and errno.
 */
START_TEST(previous_handler_is_called_as_without_the_reporter)
{
    struct view *views = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    for (int reporter = 0; reporter < 2; reporter++) {
        pid_t child = fork();

        if (child == 0) {
            close(STDERR_FILENO);
            fault_with_handler(handler_flags[_i], reporter, &views[reporter]);
        }
        assert_exits(child, 0);
    }
    ck_assert(views[1].on_alternate_stack);
    views[1].on_alternate_stack = views[0].on_alternate_stack;
    ck_assert_mem_eq(&views[1], &views[0], sizeof(views[0]));
    munmap(views, PAGE_BYTES);
}
END_TEST

static void fault_twice_with_one_shot_handler(void *unused)
{
    static struct view seen;
    struct sigaction action = {.sa_handler = note_state, .sa_flags = (int)SA_RESETHAND};
    struct pkeyguard_guard guard;

    (void)unused;
    view = &seen;
    sigaction(SIGSEGV, &action, NULL);
    if (pkeyguard_fault_reporter_install(0) != 0 ||
        pkeyguard_key_acquire(key, PKEYGUARD_READ_WRITE, &guard) != 0)
        _exit(1);
    mprotect(address, LENGTH, PROT_READ);
    access_byte(WRITE_BYTE, address);
    mprotect(address, LENGTH, PROT_READ);
    access_byte(WRITE_BYTE, address);
}

static const char *reports_of_page_faults(int times)
{
    static char lines[2 * PKEYGUARD_FAULT_TEXT_SIZE];
    int length = 0;
    char number[16] = "";

    if (pku())
        snprintf(number, sizeof(number), "pkey %d, ", pkeyguard_key_number(key));
    for (int i = 0; i < times; i++)
        length += snprintf(lines + length, sizeof(lines) - (size_t)length,
                           "libpkeyguard: write to region 'session keys' + 0x0: its page rights "
                           "forbid it; see pkeyguard_region_protect() (%saddress %p)\n",
                           number, (void *)address);
    return lines;
}

START_TEST(previous_one_shot_handler_is_called_once)
{
    assert_reports(fault_twice_with_one_shot_handler, NULL, reports_of_page_faults(2), SIGSEGV);
}
END_TEST

static sigjmp_buf after_fault;

static void jump_out_of_handler(int signal)
{
    (void)signal;
    siglongjmp(after_fault, 1);
}

static void jump_out_twice(void *unused)
{
    struct pkeyguard_thread_rights rights;

    (void)unused;
    install_reporter_over(jump_out_of_handler, 0);
    pkeyguard_thread_save(&rights);
    for (volatile int i = 0; i < 2; i++) {
        if (sigsetjmp(after_fault, 1) == 0) {
            access_byte(WRITE_BYTE, address);
            _exit(1);
        }
        pkeyguard_thread_restore(&rights);
    }
}

START_TEST(previous_handler_may_jump_out)
{
    char lines[2 * PKEYGUARD_FAULT_TEXT_SIZE + 32];

    snprintf(lines, sizeof(lines), "%s%s", report_of(WRITE_BYTE), report_of(WRITE_BYTE));
    assert_reports(jump_out_twice, NULL, lines, 0);
}
END_TEST

static int result_in_handler;

static void install_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    result_in_handler = pkeyguard_fault_reporter_install(0);
}

static void fail_to_install(void *unused)
{
    stack_t none = {.ss_flags = SS_DISABLE};
    struct sigaction now;

    (void)unused;
    signal(SIGSEGV, SIG_DFL);
    sigaltstack(&none, NULL);
    before_call(CALL_MMAP, install_inside_library);
    destroy(new_region(NULL), NULL);
    fail_call(CALL_MMAP, 0, ENOMEM, 1);
    if (pkeyguard_fault_reporter_install(4) != -EINVAL ||
        pkeyguard_fault_reporter_install(~0u) != -EINVAL || result_in_handler != -EDEADLK ||
        pkeyguard_fault_reporter_install(0) != -ENOMEM || !stop_failing())
        _exit(1);
    sigaction(SIGSEGV, NULL, &now);
    sigaltstack(NULL, &none);
    _exit(now.sa_handler == SIG_DFL && none.ss_flags == SS_DISABLE ? 0 : 1);
}

START_TEST(failed_installation_changes_nothing)
{
    assert_ends(fail_to_install, NULL, "", 0);
}
END_TEST

static void install_twice(void *unused)
{
    static char own[1 << 16];
    stack_t stack = {.ss_sp = own, .ss_size = sizeof(own)}, now;

    (void)unused;
    sigaltstack(&stack, NULL);
    install_reporter_over(SIG_DFL, 0);
    sigaltstack(NULL, &now);
    if (pkeyguard_fault_reporter_install(0) != 0 || now.ss_sp != own)
        _exit(1);
    access_byte(WRITE_BYTE, address);
}

START_TEST(reporter_installed_twice_reports_once)
{
    assert_reports(install_twice, NULL, report_of(WRITE_BYTE), SIGSEGV);
}
END_TEST

void add_reporter(Suite *suite)
{
    TCase *tests = add_case(suite, "reporter", set_up_named_region, tear_down);

    tcase_add_test(tests, reporter_explains_the_fault_and_the_process_dies);
    tcase_add_test(tests, reporter_is_silent_about_other_faults);
    tcase_add_test(tests, reporter_cannot_help_a_thread_that_blocks_the_signal);
    /* A process under valgrind cannot be traced. */
    if (!under_tool("valgrind"))
        tcase_add_test(tests, reporter_lets_the_fault_happen_again);
    tcase_add_loop_test(tests, previous_handler_is_called_as_without_the_reporter, 0,
                        (int)(sizeof(handler_flags) / sizeof(*handler_flags)));
    tcase_add_test(tests, previous_one_shot_handler_is_called_once);
    tcase_add_test(tests, previous_handler_may_jump_out);
    tcase_add_test(tests, failed_installation_changes_nothing);
    tcase_add_test(tests, reporter_installed_twice_reports_once);
}
