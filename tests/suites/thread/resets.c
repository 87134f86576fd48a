/* SPDX-License-Identifier: MIT */
/* pkeyguard_thread_reset(). */
#include <pthread.h>

#include "test_thread.h"

START_TEST(reset_sets_the_defaults)
{
    struct pkeyguard_guard guard, narrowed;

    open_key(key, &guard);
    ck_assert_int_eq(pkeyguard_restrict(shared, PKEYGUARD_NO_ACCESS, &narrowed), 0);
    pkeyguard_thread_reset();
    assert_defaults();
}
END_TEST

static void *reset_inherited_scope(void *unused)
{
    (void)unused;
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    pkeyguard_thread_reset();
    if (pku())
        assert_defaults();
    else
        assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    return NULL;
}

/*
 * Surprise: a new thread inherits the scopes that are open when it is created.
 * pkeyguard_thread_reset() closes them.
 */
START_TEST(reset_closes_inherited_scopes)
{
    pkeyguard_scoped_key_write (guard, key) {
        run_in_thread(reset_inherited_scope, NULL);
        assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    }
    assert_defaults();
}
END_TEST

static pthread_barrier_t created;
static struct pkeyguard_key *newer;

static void *reset_in_older_thread(void *unused)
{
    (void)unused;
    pthread_barrier_wait(&created);
    pthread_barrier_wait(&created);
    ck_assert_int_eq(pkeyguard_key_rights(newer),
                     pku() ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_ONLY);
    pkeyguard_thread_reset();
    ck_assert_int_eq(pkeyguard_key_rights(newer), PKEYGUARD_READ_ONLY);
    return NULL;
}

/*
 * Surprise: threads older than a key fault, whatever the key's default. pkeyguard_thread_reset()
 * sets the default.
 */
START_TEST(reset_gives_an_older_thread_the_default)
{
    pthread_t thread;

    pthread_barrier_init(&created, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, reset_in_older_thread, NULL), 0);
    pthread_barrier_wait(&created);
    newer = new_key(PKEYGUARD_READ_ONLY, 0);
    pthread_barrier_wait(&created);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    destroy(NULL, newer);
}
END_TEST

static void add_reset_tests(TCase *tests)
{
    add_pku_test(tests, reset_sets_the_defaults);
    tcase_add_test(tests, reset_closes_inherited_scopes);
}

void add_resets(Suite *suite)
{
    TCase *tests = add_case(suite, "resets", set_up_keys, tear_down_keys);
    TCase *of_virtual = add_case(suite, "resets, virtual key", set_up_virtual_key, tear_down_keys);

    add_reset_tests(tests);
    add_reset_tests(of_virtual);
    tcase_add_test(tests, reset_gives_an_older_thread_the_default);
}
