/* SPDX-License-Identifier: MIT */
/* pkeyguard_thread_switch() between coroutines. */
#include <errno.h>
#include <ucontext.h>
#include <unistd.h>

#include "failing.h"
#include "place.h"
#include "test_thread.h"

/*
 * Rights and context of a coroutine. The rights are all that this library adds to a coroutine
 * library.
 */
struct coroutine {
    struct pkeyguard_thread_rights rights;
    ucontext_t context;
    coroutine_t of_pcl;
    int steps;
    bool ended;
};
static struct coroutine scheduler, coroutines[2];
static bool stop_steps;

static void assert_rights_under_pku(enum pkeyguard_rights of_key,
                                    enum pkeyguard_rights of_shared_key)
{
    if (pku())
        assert_rights(of_key, of_shared_key);
}

static void switch_to(struct coroutine *from, struct coroutine *to)
{
    ck_assert_int_eq(pkeyguard_thread_switch(&from->rights, &to->rights), 0);
    if (to->of_pcl != NULL)
        co_call(to->of_pcl);
    else if (from->of_pcl != NULL)
        co_resume();
    else
        ck_assert_int_eq(swapcontext(&from->context, &to->context), 0);
}

/*
 * Runs in each coroutine: switches to the scheduler with guards open. The first coroutine writes,
 * the second reads.
 */
static void run_steps(struct coroutine *self)
{
    bool writes = self == &coroutines[0];

    while (!stop_steps) {
        assert_rights_under_pku(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
        switch_to(self, &scheduler);
        assert_rights_under_pku(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
        if (writes) {
            pkeyguard_scoped_write (int, number, region) {
                *number = ++self->steps;
                switch_to(self, &scheduler);
                assert_rights_under_pku(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
                ck_assert_int_eq(*number, self->steps);
            }
        } else {
            pkeyguard_scoped_read (int, number, region) {
                pkeyguard_scoped_write (int, of_shared, shared) {
                    int seen = *of_shared = *number;

                    switch_to(self, &scheduler);
                    assert_rights_under_pku(PKEYGUARD_READ_ONLY, PKEYGUARD_READ_WRITE);
                    ck_assert_int_eq(*of_shared, seen);
                }
                assert_rights_under_pku(PKEYGUARD_READ_ONLY, PKEYGUARD_READ_ONLY);
            }
            self->steps++;
        }
    }
    self->ended = true;
    switch_to(self, &scheduler);
}

static void start_of_ucontext(int number)
{
    run_steps(&coroutines[number]);
}

static void make_context(int number)
{
    static char stacks[2][64 << 10];
    ucontext_t *context = &coroutines[number].context;

    ck_assert_int_eq(getcontext(context), 0);
    context->uc_stack = (stack_t){.ss_sp = stacks[number], .ss_size = sizeof(stacks[number])};
    makecontext(context, (void (*)(void))start_of_ucontext, 1, number);
}

static void start_of_pcl(void *self)
{
    run_steps(self);
}

static void run_coroutines(void)
{
    /* The scheduler has a key open, too. */
    pkeyguard_scoped_write (int, of_shared, shared) {
        for (int i = 0; i < 60; i++) {
            switch_to(&scheduler, &coroutines[i % 3 == 0]);
            assert_rights_under_pku(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_WRITE);
        }
        of_shared[1]++;
    }
    stop_steps = true;
    for (int i = 0; i < 2; i++) {
        while (!coroutines[i].ended)
            switch_to(&scheduler, &coroutines[i]);
    }
    assert_rights_under_pku(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
    ck_assert_int_ge(coroutines[0].steps, 10);
    ck_assert_int_ge(coroutines[1].steps, 9);
}

/*
 * Surprise: a coroutine switch leaks rights both ways. pkeyguard_thread_switch() keeps them with
 * their coroutine.
 */
START_TEST(guards_stay_with_their_coroutine_across_swapcontext)
{
    make_context(0);
    make_context(1);
    run_coroutines();
}
END_TEST

/* The same surprise with the Portable Coroutine Library. */
START_TEST(guards_stay_with_their_coroutine_across_pcl_switches)
{
    ck_assert_int_eq(co_thread_init(), 0);
    for (int i = 0; i < 2; i++) {
        coroutines[i].of_pcl = co_create(start_of_pcl, &coroutines[i], NULL, 64 << 10);
        ck_assert_ptr_nonnull(coroutines[i].of_pcl);
    }
    run_coroutines();
    for (int i = 0; i < 2; i++)
        co_delete(coroutines[i].of_pcl);
    co_thread_cleanup();
}
END_TEST

START_TEST(new_coroutine_starts_with_the_defaults)
{
    static const struct pkeyguard_thread_rights zero;
    struct pkeyguard_thread_rights left, also_left;
    struct pkeyguard_guard guard;

    open_key(key, &guard);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    assert_defaults();
    ck_assert_int_eq(pkeyguard_thread_switch(&also_left, &left), 0);
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, &zero), 0);
    assert_defaults();
    /* Given the same rights on both sides, a switch exchanges them. */
    ck_assert_int_eq(pkeyguard_thread_switch(&left, &left), 0);
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, &left), 0);
    assert_defaults();
}
END_TEST

/*
 * One coroutine creates a key and opens it. The other one, which was left before that, must have
 * only the key's default rights.
 */
START_TEST(switch_closes_newer_keys)
{
    struct pkeyguard_thread_rights left, creator;
    struct pkeyguard_key *created_key;
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    created_key = new_key(PKEYGUARD_READ_ONLY, 0);
    open_key(created_key, &guard);
    ck_assert_int_eq(pkeyguard_thread_switch(&creator, &left), 0);
    ck_assert_int_eq(pkeyguard_key_rights(created_key), PKEYGUARD_READ_ONLY);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, &creator), 0);
    ck_assert_int_eq(pkeyguard_key_rights(created_key), PKEYGUARD_READ_WRITE);
    pkeyguard_release(&guard);
    destroy(NULL, created_key);
}
END_TEST

static struct pkeyguard_thread_rights of_coroutine;
static struct pkeyguard_guard of_coroutine_guard;

static void *continue_coroutine(void *unused)
{
    struct pkeyguard_thread_rights of_thread;

    (void)unused;
    assert_defaults();
    ck_assert_int_eq(pkeyguard_thread_switch(&of_thread, &of_coroutine), 0);
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    pkeyguard_release(&of_coroutine_guard);
    assert_defaults();
    return NULL;
}

START_TEST(coroutine_continues_in_another_thread)
{
    open_key(key, &of_coroutine_guard);
    ck_assert_int_eq(pkeyguard_thread_switch(&of_coroutine, NULL), 0);
    run_in_thread(continue_coroutine, NULL);
    assert_defaults();
}
END_TEST

/* ---- software guards, which belong to the process but count for their coroutine ---- */

static struct pkeyguard_key *software_key;
static struct pkeyguard_region *software;

/* The coroutine stops with the guard open. */
static void open_software_and_stop(void)
{
    software_key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software = new_region(software_key);
    ck_assert_int_eq(pkeyguard_acquire(software, PKEYGUARD_READ_WRITE, &of_coroutine_guard), 0);
    ck_assert_int_eq(pkeyguard_thread_switch(&of_coroutine, NULL), 0);
}

static void release_software(void)
{
    assert_allowed(WRITE_BYTE, address_of(software));
    pkeyguard_release(&of_coroutine_guard);
    assert_denied(READ_BYTE, address_of(software), software_key);
}

static void *gate_and_release_software(void *unused)
{
    struct pkeyguard_thread_rights of_thread;

    (void)unused;
    ck_assert_int_eq(pkeyguard_thread_switch(&of_thread, &of_coroutine), 0);
    pkeyguard_scoped_closed (gate) {
        assert_denied(READ_BYTE, address_of(software), software_key);
    }
    release_software();
    return NULL;
}

/* Afterwards the first thread has no guard, and its gate touches no region. */
START_TEST(software_guard_moves_to_another_thread)
{
    struct pkeyguard_region *next;

    open_software_and_stop();
    run_in_thread(gate_and_release_software, NULL);
    destroy(software, NULL);
    next = new_region(software_key);
    pkeyguard_scoped_closed (gate) {
        assert_denied(READ_BYTE, address_of(next), software_key);
    }
    assert_denied(READ_BYTE, address_of(next), software_key);
    destroy(next, software_key);
}
END_TEST

/* More guards than the thread's own memory has room for. */
START_TEST(many_software_guards_wait_with_their_coroutine)
{
    enum { MANY = 12 };
    struct pkeyguard_guard guards[MANY];
    struct pkeyguard_region *regions[MANY];
    struct pkeyguard_thread_rights scheduler_rights;

    open_software_and_stop();
    for (int i = 0; i < MANY; i++) {
        regions[i] = new_region(software_key);
        ck_assert_int_eq(pkeyguard_acquire(regions[i], PKEYGUARD_READ_WRITE, &guards[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(pkeyguard_thread_switch(&scheduler_rights, &of_coroutine), 0);
        assert_allowed(WRITE_BYTE, address_of(software));
        pkeyguard_scoped_closed (gate) {
            assert_denied(READ_BYTE, address_of(software), software_key);
            assert_allowed(WRITE_BYTE, address_of(regions[i])); /* of the one that waits */
        }
        ck_assert_int_eq(pkeyguard_thread_switch(&of_coroutine, &scheduler_rights), 0);
        pkeyguard_scoped_closed (gate) {
            assert_allowed(WRITE_BYTE, address_of(software));
            assert_denied(READ_BYTE, address_of(regions[i]), software_key);
        }
    }
    for (int i = 0; i < MANY; i++) {
        pkeyguard_release(&guards[i]);
        destroy(regions[i], NULL);
    }
    ck_assert_int_eq(pkeyguard_thread_switch(&scheduler_rights, &of_coroutine), 0);
    release_software();
    destroy(software, software_key);
}
END_TEST

/* It needs memory for the software guards of the coroutine that it leaves. */
START_TEST(switch_without_memory_changes_nothing)
{
    struct pkeyguard_thread_rights next;

    open_software_and_stop();
    ck_assert_int_eq(pkeyguard_thread_switch(&next, &of_coroutine), 0);
    fail_call(CALL_MMAP, 0, ENOMEM, 1);
    ck_assert_int_eq(pkeyguard_thread_switch(&of_coroutine, NULL), -ENOMEM);
    ck_assert(stop_failing());
    release_software();
    destroy(software, software_key);
}
END_TEST

/* In a fork child: the coroutine goes on, with its guard or without. */
static void assert_in_fork_child(bool open)
{
    int child = fork();

    if (child == 0) {
        struct pkeyguard_thread_rights rights;
        bool denied = try_access(WRITE_BYTE, address_of(software)).happened;

        if (pkeyguard_thread_switch(&rights, &of_coroutine) != 0 || denied == open)
            _exit(1);
        pkeyguard_closed_enter(&(struct pkeyguard_closed){0});
        if (!try_access(READ_BYTE, address_of(software)).happened)
            _exit(2);
        _exit(0);
    }
    assert_exits(child, 0);
}

static void *fork_beside_coroutine(void *unused)
{
    assert_in_fork_child(false);
    return unused;
}

/* It is the forking thread's if it ran there last. */
START_TEST(fork_child_has_the_guards_of_its_threads_coroutines)
{
    struct pkeyguard_thread_rights rights;

    open_software_and_stop();
    assert_in_fork_child(true);
    run_in_thread(fork_beside_coroutine, NULL);
    ck_assert_int_eq(pkeyguard_thread_switch(&rights, &of_coroutine), 0);
    release_software();
    destroy(software, software_key);
}
END_TEST

static void add_switch_tests(TCase *tests)
{
    add_test_if(HAS_SWAPCONTEXT, NO_SWAPCONTEXT, tests,
                guards_stay_with_their_coroutine_across_swapcontext);
    add_test_if(HAS_PCL, NO_PCL, tests, guards_stay_with_their_coroutine_across_pcl_switches);
    add_pku_test(tests, new_coroutine_starts_with_the_defaults);
    add_pku_test(tests, coroutine_continues_in_another_thread);
}

void add_coroutines(Suite *suite)
{
    TCase *tests = add_case(suite, "coroutines", set_up_keys, tear_down_keys);
    TCase *of_virtual =
        add_case(suite, "coroutines, virtual key", set_up_virtual_key, tear_down_keys);

    add_switch_tests(tests);
    add_switch_tests(of_virtual);
    add_pku_test(tests, switch_closes_newer_keys);
    tcase_add_test(tests, software_guard_moves_to_another_thread);
    tcase_add_test(tests, many_software_guards_wait_with_their_coroutine);
    tcase_add_test(tests, switch_without_memory_changes_nothing);
    tcase_add_test(tests, fork_child_has_the_guards_of_its_threads_coroutines);
}
