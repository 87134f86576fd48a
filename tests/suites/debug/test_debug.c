/* SPDX-License-Identifier: MIT */
/* With PKEYGUARD_DEBUG defined, guards abort on misuse that they can see. */
#define PKEYGUARD_DEBUG

#include <pthread.h>

#include "one_region.h"

static struct pkeyguard_guard first, second;

static void *release_first(void *unused)
{
    (void)unused;
    pkeyguard_release(&first);
    return NULL;
}

static void release_on_another_thread(void *unused)
{
    pthread_t thread;

    (void)unused;
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &first), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, release_first, NULL), 0);
    pthread_join(thread, NULL);
}

START_TEST(release_by_another_thread_aborts)
{
    assert_aborts(release_on_another_thread, NULL,
                  "libpkeyguard: a guard released by a thread that did not acquire it\n");
}
END_TEST

static void release_inside_restrict(void *by_rights)
{
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &first), 0);
    if (by_rights != NULL)
        ck_assert_int_eq(pkeyguard_key_set_rights(key, PKEYGUARD_READ_ONLY), 0);
    else
        ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_READ_ONLY, &second), 0);
    pkeyguard_release(&first);
}

static void release_restrict_inside_acquire(void *unused)
{
    (void)unused;
    ck_assert_int_eq(pkeyguard_key_set_rights(key, PKEYGUARD_READ_WRITE), 0);
    ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_READ_ONLY, &first), 0);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &second), 0);
    pkeyguard_release(&first);
}

START_TEST(release_out_of_order_around_a_restrict_aborts)
{
    static const char line[] =
        "libpkeyguard: a guard released out of order around a restrict guard "
        "or a change of rights\n";

    assert_aborts(release_inside_restrict, NULL, line);
    assert_aborts(release_inside_restrict, &key, line);
    assert_aborts(release_restrict_inside_acquire, NULL, line);
}
END_TEST

static void *acquire_in_new_thread(void *reset)
{
    if (reset != NULL)
        pkeyguard_thread_reset();
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &second), 0);
    pkeyguard_release(&second);
    return NULL;
}

static void create_thread_inside_a_scope(void *reset)
{
    pthread_t thread;

    pkeyguard_scoped_write (int, number, region) {
        ck_assert_int_eq(pthread_create(&thread, NULL, acquire_in_new_thread, reset), 0);
        pthread_join(thread, NULL);
        *number = 1;
    }
}

/*
 * Surprise: a new thread inherits the scopes that are open when it is created. Debug builds abort,
 * unless it calls pkeyguard_thread_reset() first.
 */
START_TEST(guard_in_a_thread_created_inside_a_scope_aborts)
{
    create_thread_inside_a_scope(&key);
    assert_aborts(create_thread_inside_a_scope, NULL,
                  "libpkeyguard: thread created inside a scope: call pkeyguard_thread_reset() "
                  "first in it\n");
}
END_TEST

START_TEST(allowed_use_does_not_abort)
{
    struct pkeyguard_guard third;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &first), 0);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &second), 0);
    ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_NO_ACCESS, &third), 0);
    pkeyguard_release(&third);
    pkeyguard_release(&first);
    pkeyguard_release(&second);
    pkeyguard_release(&second);
    pkeyguard_scoped_write (int, number, region) {
        pkeyguard_scoped_restrict (narrow, region, PKEYGUARD_READ_ONLY) {
        }
        *number = 1;
    }
    assert_denied(READ_BYTE, address_of(region), key);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("debug");
    TCase *tests = add_case(suite, "debug", set_up, tear_down, DEFAULT_SECONDS);

    tcase_add_test(tests, release_by_another_thread_aborts);
    add_pku_test(tests, release_out_of_order_around_a_restrict_aborts);
    add_pku_test(tests, guard_in_a_thread_created_inside_a_scope_aborts);
    tcase_add_test(tests, allowed_use_does_not_abort);
    return run_suite(suite);
}
