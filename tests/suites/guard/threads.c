/* SPDX-License-Identifier: MIT */
/* Guards of several threads, and of threads that end. */
#include <pthread.h>
#include <string.h>

#include "place.h"
#include "test_guard.h"

static void *read_while_main_has_it_open(void *unused)
{
    (void)unused;
    if (pku()) {
        assert_denied(READ_BYTE, address, key);
        assert_denied(WRITE_BYTE, address, key);
        pkeyguard_scoped_read (int, number, region) {
            ck_assert_int_eq(*number, 11);
        }
    } else {
        /* As guard.h says of mprotect: an open region is open for every thread. */
        assert_allowed(READ_BYTE, address);
    }
    return NULL;
}

static pthread_barrier_t region_opened;

static void *wait_then_read(void *unused)
{
    pthread_barrier_wait(&region_opened);
    return read_while_main_has_it_open(unused);
}

START_TEST(other_thread_cannot_read)
{
    pthread_t thread;

    pthread_barrier_init(&region_opened, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_then_read, NULL), 0);
    pkeyguard_scoped_write (int, number, region) {
        *number = 11;
        pthread_barrier_wait(&region_opened);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        ck_assert_int_eq(*number, 11);
    }
}
END_TEST

static pthread_mutex_t content_lock = PTHREAD_MUTEX_INITIALIZER;

enum { THREADS = 8 };
static int rounds;

static void *open_and_close(void *unused)
{
    (void)unused;
    for (int i = 0; i < rounds; i++) {
        pkeyguard_scoped_read (int, number, region) {
            ck_assert_int_ge(__atomic_load_n(number, __ATOMIC_RELAXED), 0);
        }
        pkeyguard_scoped_write (int, number, region) {
            pthread_mutex_lock(&content_lock);
            __atomic_store_n(number, *number + 1, __ATOMIC_RELAXED);
            pthread_mutex_unlock(&content_lock);
        }
    }
    return NULL;
}

START_TEST(eight_threads_use_one_region)
{
    pthread_t threads[THREADS];

    rounds = under_tool("valgrind") ? 50 : 2000; /* it runs one thread at a time */
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, open_and_close, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    pkeyguard_scoped_read (int, number, region) {
        ck_assert_int_eq(*number, THREADS * rounds);
    }
}
END_TEST

static struct fault fault_in_cleanup_handler;

static void read_in_cleanup_handler(void *unused)
{
    (void)unused;
    fault_in_cleanup_handler = try_access(READ_BYTE, address);
}

static void *end_inside_a_scope(void *by_exit)
{
    pthread_cleanup_push(read_in_cleanup_handler, NULL);
    pkeyguard_scoped_write (int, number, region) {
        *number = 1;
        if (by_exit != NULL)
            pthread_exit(NULL);
        pthread_cancel(pthread_self());
        pthread_testcancel();
    }
    pthread_cleanup_pop(0);
    return NULL;
}

/*
 * Surprise: pthread_exit and cancellation skip C's cleanups. They do not when the code is compiled
 * with -fexceptions, as the CMake target and this suite are.
 */
START_TEST(ending_thread_closes_its_scope)
{
    pthread_t thread;
    void *result;

    ck_assert_int_eq(pthread_create(&thread, NULL, end_inside_a_scope, _i == 0 ? NULL : &thread),
                     0);
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert_ptr_eq(result, _i == 0 ? PTHREAD_CANCELED : NULL);
    /* The cleanup handler around the scope, which runs in that thread, found the region closed. */
    ck_assert(fault_in_cleanup_handler.happened);
    ck_assert_int_eq(fault_in_cleanup_handler.code, denial_code(key));
    ck_assert_int_eq(fault_in_cleanup_handler.pkey, denial_pkey(key));
    ck_assert_ptr_eq(fault_in_cleanup_handler.address, address);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

static struct pkeyguard_key *end_thread(void)
{
    pthread_exit(NULL);
}

/* Fills the stack where the next call's frame will be. */
__attribute__((noinline)) static void fill_stack_with_garbage(void)
{
    char spoiled[PAGE_BYTES];

    memset(spoiled, 0x5a, sizeof(spoiled));
    __asm__ volatile("" : : "r"(spoiled) : "memory");
}

__attribute__((noinline)) static void end_while_a_region_scope_opens(void)
{
    pkeyguard_scoped_write (int, number, (end_thread(), region)) {
        ck_abort();
    }
}

__attribute__((noinline)) static void end_while_a_key_scope_opens(void)
{
    pkeyguard_scoped_key_write (guard, end_thread()) {
        ck_abort();
    }
}

static void *end_while_a_scope_opens(void *of_key)
{
    fill_stack_with_garbage();
    if (of_key != NULL)
        end_while_a_key_scope_opens();
    else
        end_while_a_region_scope_opens();
    return of_key;
}

/*
 * The thread ends before the scope's guard is acquired. That guard is not released, whatever its
 * memory held before.
 */
START_TEST(thread_that_ends_while_a_scope_opens_releases_nothing)
{
    pthread_t thread;
    void *result;

    ck_assert_int_eq(pthread_create(&thread, NULL, end_while_a_scope_opens, _i ? key : NULL), 0);
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert_ptr_null(result);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

void add_threads(Suite *suite)
{
    TCase *tests = add_case(suite, "threads", set_up, tear_down);

    tcase_add_test(tests, other_thread_cannot_read);
    tcase_add_test(tests, eight_threads_use_one_region);
    add_loop_test_if(HAS_UNWINDING, NO_UNWINDING, tests, ending_thread_closes_its_scope, 0, 2);
    tcase_add_loop_test(tests, thread_that_ends_while_a_scope_opens_releases_nothing, 0, 2);
}
