/* SPDX-License-Identifier: MIT */
/* Forks, with fork handlers and without, while a thread is inside a heap function. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "test_heap.h"

/* ---- stops at each instruction of a heap call ---- */

static struct pkeyguard_heap *heap, *other_heap;
static struct pkeyguard_key *key;

/* Allocates and frees one object of this size, after which the trap flag is clear. */
static size_t stepped_size;

static void step_through_heap_calls(void)
{
    step_through_alloc_and_free(heap, stepped_size);
}

/* Not of a software key: opening one may be refused in a handler, whatever the heap does. */
static void set_up_heaps(void)
{
    key = key_of_kind(OPTIONAL);
    heap = new_heap(key, MIB);
    other_heap = new_heap(key, MIB);
    stepped_size = 32;
    /* So many that the stepped calls take their object from quarantine. */
    for (int i = 0; i < 20; i++)
        expect(pkeyguard_heap_free(heap, new_object(heap, stepped_size)) == 0);
}

static void tear_down_heaps(void)
{
    expect(pkeyguard_heap_destroy(other_heap) == 0);
    destroy_heap(heap, key);
}

/* ---- a handler that interrupted a heap call ---- */

static volatile int steps, refused, served;

/* Uses the heap that it may have interrupted, and another one. */
static void use_both_heaps(void)
{
    void *object;

    errno = 0;
    object = pkeyguard_heap_alloc(heap, stepped_size);
    if (object != NULL) {
        served++;
        expect(pkeyguard_heap_free(heap, object) == 0);
    } else {
        refused++;
        expect(errno == EDEADLK);
    }
    expect(pkeyguard_heap_free(other_heap, new_object(other_heap, 32)) == 0);
}

static void use_heaps_at_each_step(int signal)
{
    int saved_errno = errno;

    (void)signal;
    steps++;
    use_both_heaps();
    errno = saved_errno;
}

/* It is refused where it would wait for itself. Afterwards the heap works. */
START_TEST(handler_inside_a_heap_call_never_waits_for_itself)
{
    stepped_size = size_of_each_class[_i];
    catch_steps(use_heaps_at_each_step);
    pkeyguard_scoped_key_write (open, key) {
        step_through_heap_calls();
        use_both_heaps();
    }
    expect(steps > 50);
    expect(refused > 0 && served > 1);
    tear_down_heaps();
}
END_TEST

/* At every third; seldom at those that wipe or look at a large object. */
static void fork_at_many_steps(int signal)
{
    int saved_errno = errno;
    pid_t child;

    (void)signal;
    steps++;
    if (steps % (steps < 300 ? 3 : 64) != 0)
        return;
    child = fork();
    if (child == 0) {
        alarm(10);
        use_both_heaps();
        _exit(3);
    }
    assert_exits(child, 3);
    errno = saved_errno;
}

START_TEST(handler_inside_a_heap_call_gets_its_fork)
{
    stepped_size = size_of_each_class[_i];
    catch_steps(fork_at_many_steps);
    pkeyguard_scoped_key_write (open, key) {
        step_through_heap_calls();
        use_both_heaps();
    }
    expect(steps > 50);
    expect(refused == 0 && served == 1);
    tear_down_heaps();
}
END_TEST

static volatile pid_t first_child;
static volatile int fork_at_step;

static void fork_at_one_step(int signal)
{
    (void)signal;
    if (++steps == fork_at_step)
        first_child = fork();
}

/* The child of such a fork returns from the handler, and goes on with the interrupted call. */
START_TEST(child_of_a_handler_finishes_the_heap_call)
{
    catch_steps(fork_at_one_step);
    pkeyguard_scoped_key_write (open, key) {
        for (fork_at_step = 1, steps = 1; steps >= fork_at_step - 1; fork_at_step += 11) {
            steps = 0;
            step_through_heap_calls();
            if (steps < fork_at_step)
                break;
            if (first_child == 0) {
                alarm(10);
                use_both_heaps();
                _exit(served == 1 && refused == 0 ? 4 : 5);
            }
            assert_exits(first_child, 4);
        }
        use_both_heaps();
    }
    expect(fork_at_step > 50);
    tear_down_heaps();
}
END_TEST

/* ---- a fork that runs no handlers ---- */

static void *object_of_test;
static atomic_int stop_at_step; /* of the other thread; 0: it goes on */
static atomic_int stopped_at;

static void stop_at_one_step(int signal)
{
    (void)signal;
    if (++steps != stop_at_step)
        return;
    stopped_at = steps;
    while (stop_at_step != 0)
        usleep(100);
}

static void *step_in_other_thread(void *unused)
{
    (void)unused;
    pkeyguard_thread_reset();
    object_of_test = new_object(heap, 32);
    pkeyguard_scoped_key_write (open, key) {
        steps = 0;
        step_through_heap_calls();
    }
    stopped_at = -1;
    return NULL;
}

static pid_t fork_without_handlers(void)
{
    return (pid_t)syscall(SYS_clone, (long)SIGCHLD, 0L, 0L, 0L, 0L);
}

/* Nothing but destroying it works. */
static void assert_heap_is_lost(void)
{
    errno = 0;
    expect(pkeyguard_heap_alloc(heap, 32) == NULL && errno == EDEADLK);
    errno = 0;
    expect(pkeyguard_heap_alloc(heap, 5000) == NULL && errno == EDEADLK);
    expect(pkeyguard_heap_free(heap, object_of_test) == -EDEADLK);
    errno = 0;
    expect(pkeyguard_heap_realloc(heap, object_of_test, 100) == NULL && errno == EDEADLK);
    errno = 0;
    expect(pkeyguard_heap_usable_size(heap, object_of_test) == 0 && errno == EDEADLK);
}

/* In the child: every call returns. The heap works or is lost, other heaps work. */
static void use_heaps_in_child(void)
{
    int error, status = 6;
    void *large;

    alarm(10);
    error = pkeyguard_heap_free(heap, object_of_test);
    errno = 0;
    large = pkeyguard_heap_alloc(heap, 5000);
    if (error != 0 || large == NULL) {
        expect(error == 0 || error == -EDEADLK);
        expect(large != NULL || errno == EDEADLK);
        assert_heap_is_lost();
        status = 7;
    } else {
        use_both_heaps();
        expect(refused == 0);
    }
    expect(pkeyguard_heap_free(other_heap, new_object(other_heap, 32)) == 0);
    tear_down_heaps();
    heap = new_heap(NULL, MIB);
    new_object(heap, 32);
    _exit(status);
}

static int status_of(pid_t child)
{
    int status;

    expect(waitpid(child, &status, 0) == child);
    expect(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/*
 * The other thread is stopped at each instruction of its calls, one after the other. Where it has a
 * lock of the heap the child's heap is lost; elsewhere it works.
 */
START_TEST(forks_without_handlers_lose_a_heap_at_most)
{
    int worked = 0, lost = 0;

    stepped_size = size_of_each_class[_i];
    catch_steps(stop_at_one_step);
    /* More closely where the calls begin: most of the others wipe or look at the object. */
    for (int step = 1;; step += in_guest() ? 7 + step / 2 : 3 + step / 4) {
        pthread_t thread;
        pid_t child;
        int status;

        stopped_at = 0;
        stop_at_step = step;
        expect(pthread_create(&thread, NULL, step_in_other_thread, NULL) == 0);
        while (stopped_at == 0)
            usleep(100);
        if (stopped_at < 0) {
            expect(pthread_join(thread, NULL) == 0);
            break;
        }
        child = fork_without_handlers();
        if (child == 0)
            use_heaps_in_child();
        status = status_of(child);
        expect(status == 6 || status == 7);
        worked += status == 6;
        lost += status == 7;
        stop_at_step = 0;
        expect(pthread_join(thread, NULL) == 0);
    }
    expect(worked > 0 && lost > 0);
    use_both_heaps();
    expect(refused == 0);
    tear_down_heaps();
}
END_TEST

/* ---- fork handlers of the program ---- */

enum handler { NO_HANDLER, OLD_BEFORE, OLD_IN_PARENT, OLD_IN_CHILD, OLD_HANDLERS };
static enum handler acting;
static void (*volatile act)(void);
static atomic_int acted;

static void act_in(enum handler handler)
{
    if (acting != handler)
        return;
    acted++;
    act();
}

static void old_before(void)
{
    act_in(OLD_BEFORE);
}

static void old_in_parent(void)
{
    act_in(OLD_IN_PARENT);
}

static void old_in_child(void)
{
    act_in(OLD_IN_CHILD);
}

/* These are registered before the library's own: fork runs them while it holds the heaps' locks. */
__attribute__((constructor(101))) static void register_old_handlers(void)
{
    pthread_atfork(old_before, old_in_parent, old_in_child);
}

static void *large_object;

static void assert_heap_is_refused(void)
{
    struct pkeyguard_heap *created = NULL;

    errno = 0;
    expect(pkeyguard_heap_alloc(heap, 32) == NULL && errno == EDEADLK);
    errno = 0;
    expect(pkeyguard_heap_alloc(heap, 5000) == NULL && errno == EDEADLK);
    expect(pkeyguard_heap_free(heap, object_of_test) == -EDEADLK);
    expect(pkeyguard_heap_free(heap, large_object) == -EDEADLK);
    errno = 0;
    expect(pkeyguard_heap_usable_size(heap, large_object) == 0 && errno == EDEADLK);
    expect(pkeyguard_heap_destroy(heap) == -EDEADLK);
    expect(pkeyguard_heap_create(NULL, MIB, 0, &created) == -EDEADLK);
    expect(pkeyguard_heap_of(object_of_test) == heap);
}

START_TEST(fork_handlers_inside_fork_are_refused)
{
    pid_t child;

    object_of_test = new_object(heap, 32);
    large_object = new_object(heap, 5000);
    act = assert_heap_is_refused;
    acting = (enum handler)_i;
    child = fork();
    acting = NO_HANDLER;
    if (child == 0) {
        alarm(10);
        use_both_heaps();
        expect(pkeyguard_heap_free(heap, object_of_test) == 0);
        expect(pkeyguard_heap_free(heap, large_object) == 0);
        tear_down_heaps();
        _exit(acted);
    }
    assert_exits(child, _i == OLD_IN_PARENT ? 0 : 1);
    expect(acted == (_i == OLD_IN_CHILD ? 0 : 1));
    use_both_heaps();
    expect(refused == 0);
    expect(pkeyguard_heap_free(heap, object_of_test) == 0);
    expect(pkeyguard_heap_free(heap, large_object) == 0);
    tear_down_heaps();
}
END_TEST

static void fork_once_more(void)
{
    pid_t child;

    acting = NO_HANDLER;
    child = fork();
    if (child == 0) {
        alarm(10);
        _exit(9);
    }
    assert_exits(child, 9);
}

/* A fork inside a fork holds the locks already, and leaves them to the outer one. */
START_TEST(fork_handler_inside_fork_forks)
{
    pid_t child;

    act = fork_once_more;
    acting = (enum handler)_i;
    child = fork();
    if (child == 0) {
        alarm(10);
        use_both_heaps();
        _exit(refused == 0 ? 8 : 9);
    }
    assert_exits(child, 8);
    use_both_heaps();
    expect(refused == 0);
    tear_down_heaps();
}
END_TEST

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void lock_mutex(void)
{
    pthread_mutex_lock(&mutex);
}

static void unlock_mutex(void)
{
    pthread_mutex_unlock(&mutex);
}

static atomic_bool stop_calling;
static atomic_int calls;

static void *call_with_mutex_held(void *unused)
{
    (void)unused;
    while (!stop_calling) {
        lock_mutex();
        expect(pkeyguard_heap_free(heap, new_object(heap, 32)) == 0);
        calls++;
        unlock_mutex();
    }
    return NULL;
}

/* A program may hold a mutex around heap calls that its own fork handlers lock. */
START_TEST(fork_takes_the_heaps_locks_last)
{
    pthread_t thread;

    expect(pthread_atfork(lock_mutex, unlock_mutex, unlock_mutex) == 0);
    expect(pthread_create(&thread, NULL, call_with_mutex_held, NULL) == 0);
    for (int i = 0; i < 30; i++) {
        int before = calls;
        pid_t child;

        while (calls == before)
            usleep(10);
        child = fork();
        if (child == 0) {
            alarm(10);
            use_both_heaps();
            _exit(refused == 0 ? 2 : 1);
        }
        assert_exits(child, 2);
    }
    stop_calling = true;
    expect(pthread_join(thread, NULL) == 0);
    tear_down_heaps();
}
END_TEST

void add_fork(Suite *suite)
{
    TCase *tests = add_case(suite, "fork", set_up_heaps, NULL);
    bool can_step = can_step_here();
    static const char why_not[] = CANNOT_STEP;

    add_loop_test_if(can_step, why_not, tests, handler_inside_a_heap_call_never_waits_for_itself, 0,
                     SMALL_CLASSES + 1);
    add_loop_test_if(can_step, why_not, tests, handler_inside_a_heap_call_gets_its_fork, 1, 2);
    add_loop_test_if(can_step, why_not, tests, handler_inside_a_heap_call_gets_its_fork,
                     SMALL_CLASSES, SMALL_CLASSES + 1);
    add_test_if(can_step, why_not, tests, child_of_a_handler_finishes_the_heap_call);
    add_loop_test_if(can_step, why_not, tests, forks_without_handlers_lose_a_heap_at_most, 1, 2);
    add_loop_test_if(can_step, why_not, tests, forks_without_handlers_lose_a_heap_at_most,
                     SMALL_CLASSES, SMALL_CLASSES + 1);
    tcase_add_loop_test(tests, fork_handlers_inside_fork_are_refused, OLD_BEFORE, OLD_HANDLERS);
    tcase_add_loop_test(tests, fork_handler_inside_fork_forks, OLD_BEFORE, OLD_HANDLERS);
    /* Under valgrind a thread that never waits keeps the others from running. */
    if (!under_tool("valgrind"))
        tcase_add_test(tests, fork_takes_the_heaps_locks_last);
}
