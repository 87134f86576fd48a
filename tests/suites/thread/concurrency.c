/* SPDX-License-Identifier: MIT */
/* Signal handlers and other threads. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "failing.h"
#include "test_thread.h"

static void save_reset_switch_and_restore(int signal)
{
    struct pkeyguard_thread_rights rights, other;

    (void)signal;
    pkeyguard_thread_save(&rights);
    pkeyguard_thread_reset();
    if (pkeyguard_key_rights(shared_key) != PKEYGUARD_READ_ONLY)
        _exit(1);
    if (pkeyguard_thread_switch(&other, &rights) != 0)
        _exit(1);
    pkeyguard_thread_restore(&other);
    if (pkeyguard_key_rights(shared_key) != PKEYGUARD_READ_ONLY)
        _exit(1);
}

static void raise_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    raise(SIGUSR1);
}

/* The first handler runs while the interrupted code is inside the library and holds its lock. */
START_TEST(handler_may_save_reset_switch_and_restore)
{
    struct pkeyguard_guard guard;

    signal(SIGUSR1, save_reset_switch_and_restore);
    before_call(CALL_MPROTECT, raise_inside_library);
    destroy(new_region(NULL), NULL);
    open_key(key, &guard);
    raise(SIGUSR1);
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    pkeyguard_release(&guard);
    assert_defaults();
}
END_TEST

static atomic_int making_keys;

static void *make_and_destroy_keys(void *unused)
{
    int rounds = under_tool("valgrind") ? 10 : 300; /* it runs one thread at a time */

    (void)unused;
    for (int i = 0; i < rounds; i++)
        destroy(NULL, new_key(PKEYGUARD_READ_WRITE, i % 2 ? PKEYGUARD_KEY_SOFTWARE : 0));
    making_keys = 0;
    return NULL;
}

/*
 * Under PKU the pkey of a destroyed key is kept back while there are two threads, so only a few
 * keys can be made.
 */
static void *make_and_destroy_few_keys(void *unused)
{
    struct pkeyguard_key *keys[8];

    (void)unused;
    for (int i = 0; i < 8; i++)
        keys[i] = new_key(PKEYGUARD_READ_WRITE, 0);
    for (int i = 0; i < 8; i++)
        destroy(NULL, keys[i]);
    making_keys = 0;
    return NULL;
}

START_TEST(rights_hold_while_another_thread_makes_keys)
{
    struct pkeyguard_thread_rights rights, other;
    struct pkeyguard_guard guard;
    pthread_t thread;

    making_keys = 1;
    ck_assert_int_eq(pthread_create(&thread, NULL,
                                    pku() ? make_and_destroy_few_keys : make_and_destroy_keys,
                                    NULL),
                     0);
    while (making_keys) {
        pkeyguard_thread_save(&rights);
        open_key(key, &guard);
        if (pku()) {
            pkeyguard_thread_restore(&rights);
            assert_rights(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
            ck_assert_int_eq(pkeyguard_thread_switch(&other, NULL), 0);
            ck_assert_int_eq(pkeyguard_thread_switch(&rights, &other), 0);
        } else {
            pkeyguard_release(&guard);
        }
        pkeyguard_thread_reset();
        assert_rights(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

static void add_concurrency_tests(TCase *tests)
{
    tcase_add_test(tests, handler_may_save_reset_switch_and_restore);
    tcase_add_test(tests, rights_hold_while_another_thread_makes_keys);
}

void add_concurrency(Suite *suite)
{
    add_concurrency_tests(add_case(suite, "concurrency", set_up_keys, tear_down_keys));
    add_concurrency_tests(
        add_case(suite, "concurrency, virtual key", set_up_virtual_key, tear_down_keys));
}
