/* SPDX-License-Identifier: MIT */
/* A signal arrives at every instruction of a scope, and its handler uses the library, too. */
#include "stepping.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_steps.h"

static bool is_child; /* of a handler that forked */
static volatile bool has_jumped;

/* ---- what the handler does ---- */

static bool write_in_scope(int i)
{
    bool written = false;

    pkeyguard_try_scoped_write (char, byte, regions[i]) {
        *byte = 1;
        written = true;
    }
    return written || errno == EDEADLK;
}

static void open_keys(void)
{
    int error = pkeyguard_key_set_rights(keys[1], PKEYGUARD_READ_WRITE);

    if (error == 0)
        EXPECT(pkeyguard_key_set_rights(keys[1], PKEYGUARD_NO_ACCESS) == 0);
    else
        EXPECT(error == -EDEADLK || (error == -EINVAL && key_count == KEYS));
    EXPECT(write_in_scope(0));
    EXPECT(write_in_scope(1));
}

static void release_first_in_first_out(void)
{
    struct pkeyguard_guard reading, writing;
    int error;

    if (pkeyguard_acquire(regions[0], PKEYGUARD_READ_ONLY, &reading) != 0)
        return;
    error = pkeyguard_acquire(regions[0], PKEYGUARD_READ_WRITE, &writing);
    /* A guard that reads may need no lock where one that writes does. */
    EXPECT(error == 0 || error == -EDEADLK);
    pkeyguard_release(&reading);
    pkeyguard_release(&writing);
}

static void restore_rights(void)
{
    struct pkeyguard_thread_rights rights;

    pkeyguard_thread_save(&rights);
    release_first_in_first_out();
    pkeyguard_thread_restore(&rights);
    pkeyguard_thread_reset();
}

static void let_neighbour_evict(void)
{
    run_on(&neighbour, evict_first_key, NULL);
}

static sigjmp_buf before_operation;

/* What the child of a handler does: it goes on with the operation, or jumps out of the handler. */
static void go_on_as_child(bool jumps)
{
    is_child = true;
    not_as_expected = 0;
    stop_stepping();
    EXPECT(write_in_scope(1));
    if (jumps)
        siglongjmp(before_operation, 1);
}

static void wait_for_child(pid_t child)
{
    int status;

    EXPECT(child > 0);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (not_as_expected == 0 && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        not_as_expected = WIFEXITED(status) ? 1000 + WEXITSTATUS(status) : 2000 + WTERMSIG(status);
}

static const struct operation *operation;
static bool in_trap_handler;

/*
 * A jump is made in a child process, because under mprotect a guard that is jumped over stays open
 * for good. There may be none out of heap functions, nor while the library has its lock.
 */
static void make_children(void)
{
    for (int way = operation->is_of_heap ? 1 : 0; way < 3; way++) {
        pid_t child;

        if (way == 2 && (in_trap_handler || operation->is_of_heap))
            return;
        child = way == 0 ? fork() : _Fork();
        if (child == 0) {
            go_on_as_child(way == 2);
            return;
        }
        wait_for_child(child);
    }
}

struct action {
    const char *name;
    void (*run)(void);
    bool waits; /* for another thread, which may need the lock that this one has */
};
static const struct action actions[] = {
    {.name = "scopes", .run = open_keys},
    {.name = "rights restored and reset", .run = restore_rights},
    {.name = "eviction by another thread", .run = let_neighbour_evict, .waits = true},
    {.name = "child processes", .run = make_children},
};
enum { ACTIONS = sizeof(actions) / sizeof(*actions) };

/* ---- when it does it ---- */

static const struct action *action;
static volatile bool signal_is_pending;
static unsigned stride, new_instructions;

static void on_signal(int signal)
{
    int saved_errno = errno;

    (void)signal;
    signal_is_pending = false;
    action->run();
    errno = saved_errno;
}

static bool is_time(void)
{
    return is_new_instruction() && new_instructions++ % stride == 0;
}

/* The signal arrives before the instruction, or when the thread unblocks its signals. */
static void send_signal(void)
{
    if (!is_time() || signal_is_pending)
        return;
    signal_is_pending = true;
    syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
}

/* In the handler of the instruction's own signal. */
static void act_at_once(void)
{
    int saved_errno = errno;

    if (is_time())
        action->run();
    errno = saved_errno;
}

/* A jump comes back here, in a child. */
static void run_or_go_on(void (*stop)(void))
{
    struct pkeyguard_thread_rights rights;

    pkeyguard_thread_save(&rights);
    has_jumped = false;
    if (sigsetjmp(before_operation, 1) == 0) {
        step_through(operation->run, NULL, stop);
        return;
    }
    has_jumped = true;
    pkeyguard_thread_restore(&rights);
    operation->run(NULL);
}

static void *open_key_in_thread(void *unused)
{
    EXPECT(write_in_scope(1));
    return unused;
}

/* There are many children, so each looks at few keys. */
static _Noreturn void check_child_and_exit(enum kind kind)
{
    int difference = has_jumped && kind == SOFTWARE ? 0 : find_difference(2);
    pthread_t thread;

    if (pthread_create(&thread, NULL, open_key_in_thread, NULL) != 0 ||
        pthread_join(thread, NULL) != 0)
        _exit(1);
    _exit((difference != 0 ? difference : not_as_expected) & 0xff);
}

/* Each instruction has its turn in the first operation that comes to it. */
static void step_through_operations(enum kind kind, void (*stop)(void))
{
    for (operation = operations; operation < operations + OPERATIONS; operation++) {
        int difference;

        if (operation->needs_virtual && kind != VIRTUAL)
            continue;
        get_ready(operation);
        run_or_go_on(stop);
        if (is_child)
            check_child_and_exit(kind);
        run_on(&neighbour, open_other_keys, NULL);
        difference = find_difference(key_count);
        ck_assert_msg(difference == 0, "%s at each instruction of %s: %d", action->name,
                      operation->name, difference);
    }
}

static void run_action(int number, void (*stop)(void))
{
    /* Making a child takes long. */
    enum { SELDOM = 7, SELDOM_IN_GUEST = 31 };
    struct sigaction handled = {.sa_handler = on_signal};
    enum kind kind = number / ACTIONS;

    action = &actions[number % ACTIONS];
    in_trap_handler = stop == act_at_once;
    if (action->waits && in_trap_handler)
        return;
    stride = action->run != make_children ? 1 : in_guest() ? SELDOM_IN_GUEST : SELDOM;
    set_up_kind(kind);
    sigaction(SIGUSR1, &handled, NULL);
    step_through_operations(kind, stop);
    ck_assert_uint_gt(new_instructions, 500);
    tear_down_kind();
}

START_TEST(handler_at_every_instruction_changes_nothing)
{
    run_action(_i, send_signal);
}
END_TEST

/* While the library has its lock the handler is refused: -EDEADLK. */
START_TEST(trap_handler_at_every_instruction_changes_nothing)
{
    run_action(_i, act_at_once);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("steps");
    TCase *tests = add_case(suite, "steps", NULL, NULL);

    /* A software key is the same in the emulated machine, and faster here. */
    for (enum kind kind = SOFTWARE; HAS_STEPS && kind < KINDS; kind++) {
        int first = (int)kind * ACTIONS, after = first + ACTIONS;

        if (kind == SOFTWARE && !pku()) {
            tcase_add_loop_test(tests, handler_at_every_instruction_changes_nothing, first, after);
            tcase_add_loop_test(tests, trap_handler_at_every_instruction_changes_nothing, first,
                                after);
        } else if (kind != SOFTWARE) {
            add_pku_loop_test(tests, handler_at_every_instruction_changes_nothing, first, after);
            add_pku_loop_test(tests, trap_handler_at_every_instruction_changes_nothing, first,
                              after);
        }
    }
    if (HAS_STEPS) {
        add_eviction_tests(suite);
        add_nesting_tests(suite);
        add_unwinding_tests(suite);
    }
    return run_suite(suite);
}
