/* SPDX-License-Identifier: MIT */
/* Threads that own their part of a heap, and others that need it. */
#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "failing.h"
#include "test_heap.h"
#include "worker.h"

enum { OBJECT_BYTES = 32 };

static struct pkeyguard_heap *heap;
static struct pkeyguard_key *key;
static struct worker other;
static void *objects[2];
static int results[2];

/* This thread owns its part of a new heap when it has allocated from it. */
static void make_owned_heap(void)
{
    heap = new_heap(key, MIB);
    for (int i = 0; i < 20; i++)
        expect(pkeyguard_heap_free(heap, new_object(heap, OBJECT_BYTES)) == 0);
    for (int i = 0; i < 2; i++)
        objects[i] = new_object(heap, OBJECT_BYTES);
}

/* All of the heap can be one object: none was lost. */
static void assert_no_object_is_left(void)
{
    expect(pkeyguard_heap_free(heap, new_object(heap, MIB)) == 0);
}

static void free_object_number(void *number)
{
    int i = (int)(intptr_t)number;

    results[i] = pkeyguard_heap_free(heap, objects[i]);
}

static void free_both_objects(void *unused)
{
    (void)unused;
    free_object_number((void *)(intptr_t)0);
    free_object_number((void *)(intptr_t)1);
}

/* ---- another thread frees an object while its owner is stopped inside a heap call ---- */

static volatile int steps, stop_at;
static volatile bool forks, is_child;
static volatile pid_t child;

/* The other thread frees the objects, or waits for this one. */
static void let_other_thread_free(int signal)
{
    (void)signal;
    if (++steps != stop_at)
        return;
    begin_on(&other, free_both_objects, NULL);
    wait_until_blocked(&other);
    if (!forks)
        return;
    child = fork();
    is_child = child == 0;
    if (is_child)
        alarm(20);
}

/* Steps through two calls, with the other thread at one step. Returns false if there is no such. */
static bool step_with_other_thread(int at)
{
    make_owned_heap();
    steps = 0;
    stop_at = at;
    pkeyguard_scoped_key_write (open, key)
        step_through_alloc_and_free(heap, OBJECT_BYTES);
    return steps >= at;
}

static void assert_both_were_freed(void)
{
    wait_for(&other);
    for (int i = 0; i < 2; i++) {
        expect(results[i] == 0);
        expect(pkeyguard_heap_free(heap, objects[i]) == -EINVAL);
    }
    assert_no_object_is_left();
}

static void set_up_owner(void)
{
    key = key_of_kind(OPTIONAL);
    start_worker(&other);
    catch_steps(let_other_thread_free);
}

static void tear_down_owner(void)
{
    end_worker(&other);
    destroy_heap(NULL, key);
}

START_TEST(owner_and_another_thread_are_never_inside_together)
{
    int at = 1;

    set_up_owner();
    for (; step_with_other_thread(at); at += in_guest() ? 17 : 5) {
        assert_both_were_freed();
        expect(pkeyguard_heap_destroy(heap) == 0);
    }
    expect(at > 50);
    expect(pkeyguard_heap_destroy(heap) == 0);
    tear_down_owner();
}
END_TEST

/* The child's copy of the heap works, and goes on with the interrupted call. */
START_TEST(child_has_a_working_heap_whose_owner_was_waited_for)
{
    int at = 1;

    set_up_owner();
    forks = true;
    for (; step_with_other_thread(at); at += in_guest() ? 35 : 11) {
        if (is_child) {
            for (int i = 0; i < 20; i++)
                expect(pkeyguard_heap_free(heap, new_object(heap, OBJECT_BYTES)) == 0);
            expect(pkeyguard_heap_free(heap, new_object(heap, 5000)) == 0);
            _exit(7);
        }
        assert_exits(child, 7);
        assert_both_were_freed();
        expect(pkeyguard_heap_destroy(heap) == 0);
    }
    expect(at > 50);
    expect(pkeyguard_heap_destroy(heap) == 0);
    tear_down_owner();
}
END_TEST

/* ---- a thread that owns, and one that comes after it ---- */

static void allocate_both_objects(void *unused)
{
    (void)unused;
    pkeyguard_thread_reset();
    for (int i = 0; i < 2; i++)
        objects[i] = new_object(heap, OBJECT_BYTES);
}

static void use_own_objects(void *unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++)
        expect(pkeyguard_heap_free(heap, new_object(heap, OBJECT_BYTES)) == 0);
}

static void assert_refused_with_eagain(void)
{
    expect(pkeyguard_heap_free(heap, objects[0]) == -EAGAIN);
    errno = 0;
    expect(pkeyguard_heap_usable_size(heap, objects[0]) == 0 && errno == EAGAIN);
    errno = 0;
    expect(pkeyguard_heap_realloc(heap, objects[0], 1000) == NULL && errno == EAGAIN);
}

/* Without membarrier(2) only the owner can use its part. */
START_TEST(owner_stays_where_the_barrier_is_refused)
{
    key = key_of_kind(_i);
    heap = new_heap(key, MIB);
    new_object(heap, OBJECT_BYTES);
    start_worker(&other);
    run_on(&other, allocate_both_objects, NULL);
    refuse_call(CALL_MEMBARRIER, EPERM);
    assert_refused_with_eagain();
    run_on(&other, use_own_objects, NULL);
    assert_refused_with_eagain();
    refuse_call(CALL_MEMBARRIER, 0);
    free_both_objects(NULL);
    expect(results[0] == 0 && results[1] == 0);
    run_on(&other, use_own_objects, NULL);
    end_worker(&other);
    destroy_heap(heap, key);
}
END_TEST

/* It needs no barrier for what the ended thread owned. */
START_TEST(new_thread_owns_what_an_ended_thread_owned)
{
    key = key_of_kind(_i);
    heap = new_heap(key, MIB);
    new_object(heap, OBJECT_BYTES);
    start_worker(&other);
    run_on(&other, allocate_both_objects, NULL);
    end_worker(&other);
    refuse_call(CALL_MEMBARRIER, EPERM);
    assert_refused_with_eagain();
    start_worker(&other);
    run_on(&other, use_own_objects, NULL);
    run_on(&other, free_both_objects, NULL);
    expect(results[0] == 0 && results[1] == 0);
    refuse_call(CALL_MEMBARRIER, 0);
    end_worker(&other);
    destroy_heap(heap, key);
}
END_TEST

/* A thread that was expelled owns its part again after many turns: then it needs no barrier. */
START_TEST(owner_comes_back_after_many_turns)
{
    key = key_of_kind(OPTIONAL);
    heap = new_heap(key, MIB);
    new_object(heap, OBJECT_BYTES);
    start_worker(&other);
    run_on(&other, allocate_both_objects, NULL);
    free_object_number((void *)(intptr_t)0);
    expect(results[0] == 0);
    refuse_call(CALL_MEMBARRIER, EPERM);
    expect(pkeyguard_heap_usable_size(heap, objects[1]) >= OBJECT_BYTES);
    for (int i = 0; i < 30; i++)
        run_on(&other, use_own_objects, NULL);
    objects[0] = objects[1];
    assert_refused_with_eagain();
    refuse_call(CALL_MEMBARRIER, 0);
    end_worker(&other);
    destroy_heap(heap, key);
}
END_TEST

static bool has_membarrier(void)
{
    enum { QUERY = 0, PRIVATE_EXPEDITED = 8 };
    long commands = syscall(SYS_membarrier, QUERY, 0, 0);

    return commands >= 0 && commands & PRIVATE_EXPEDITED;
}

void add_owners(Suite *suite)
{
    TCase *tests = add_case(suite, "owners", NULL, NULL);
    bool owns = has_membarrier() && !under_tool("valgrind");
    static const char why_not[] = "not here: no membarrier(2)";

    add_test_if(can_step_here(), CANNOT_STEP, tests,
                owner_and_another_thread_are_never_inside_together);
    add_test_if(can_step_here(), CANNOT_STEP, tests,
                child_has_a_working_heap_whose_owner_was_waited_for);
    add_loop_test_if(owns, why_not, tests, owner_stays_where_the_barrier_is_refused, 0, KINDS);
    add_loop_test_if(owns, why_not, tests, new_thread_owns_what_an_ended_thread_owned, 0, KINDS);
    add_test_if(owns, why_not, tests, owner_comes_back_after_many_turns);
}
