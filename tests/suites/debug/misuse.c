/* SPDX-License-Identifier: MIT */
/* What guards abort on, and the lines that they print. */
#define PKEYGUARD_DEBUG

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "failing.h"
#include "test_debug.h"

static struct pkeyguard_guard first, second;

static void set_up_vault(void)
{
    set_up();
    ck_assert_int_eq(pkeyguard_region_name(region, "vault"), 0);
}

/* ---- the exact places ---- */

static void *release_first(void *unused)
{
    pkeyguard_release(&first);
    return unused;
}
enum { RELEASED_AT = __LINE__ - 3 };

static void release_on_another_thread(void *unused)
{
    pthread_t thread;

    (void)unused;
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &first), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, release_first, NULL), 0);
    pthread_join(thread, NULL);
}
enum { ACQUIRED_AT = __LINE__ - 4 };

/* Both calls of a bare guard are named. */
START_TEST(release_by_another_thread_aborts)
{
    char line[1024];

    snprintf(line, sizeof(line),
             "libpkeyguard: %s:%d: a guard on region 'vault', acquired at %s:%d: released by a "
             "thread that did not acquire it\n",
             __FILE__, RELEASED_AT, __FILE__, ACQUIRED_AT);
    assert_aborts(release_on_another_thread, NULL, line);
}
END_TEST

static void end_scope_out_of_order(void *unused)
{
    (void)unused;
    pkeyguard_scoped_write (int, number, region) {
        *number = 1;
        ck_assert_int_eq(pkeyguard_key_set_rights(key, PKEYGUARD_READ_ONLY), 0);
    }
}
enum { SCOPE_AT = __LINE__ - 5 };

/* The end of a scope has no line of its own, so its begin is named. */
START_TEST(line_of_a_scope_is_named)
{
    char line[1024];

    snprintf(line, sizeof(line),
             "libpkeyguard: %s:%d: a guard on region 'vault': released out of order around a "
             "restrict guard or a change of rights\n",
             __FILE__, SCOPE_AT);
    assert_aborts(end_scope_out_of_order, NULL, line);
}
END_TEST

/* ---- releases ---- */

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
        "misuse.c:#: a guard on region 'vault', acquired at misuse.c:#: released out of order "
        "around a restrict guard or a change of rights";

    assert_misuse(release_inside_restrict, NULL, line);
    assert_misuse(release_inside_restrict, &key, line);
    assert_misuse(release_restrict_inside_acquire, NULL, line);
}
END_TEST

static void release_a_copy(void *of_key)
{
    struct pkeyguard_guard copy;

    if (of_key != NULL)
        ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &first), 0);
    else
        ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &first), 0);
    copy = first;
    pkeyguard_release(&first);
    /* With another guard open the kernel's page rights would not show it. */
    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &second), 0);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &second), 0);
    pkeyguard_release(&copy);
}

START_TEST(release_of_a_copy_aborts)
{
    remake_key(_i);
    assert_misuse(
        release_a_copy, NULL,
        "misuse.c:#: a guard on a region, acquired at misuse.c:#: released twice, through "
        "a copy of it");
    assert_misuse(release_a_copy, &key,
                  "misuse.c:#: a guard on a key, acquired at misuse.c:#: released twice, through a "
                  "copy of it");
}
END_TEST

static void destroy_key_under_its_guard(void *new_one)
{
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &first), 0);
    destroy(region, key);
    if (new_one != NULL)
        region = new_region(new_key(PKEYGUARD_NO_ACCESS, 0));
    pkeyguard_release(&first);
}

static void destroy_key_under_its_key_guard(void *unused)
{
    (void)unused;
    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &first), 0);
    destroy(region, key);
    pkeyguard_release(&first);
}

/* Also where another key has the record by now. */
START_TEST(release_after_the_key_was_destroyed_aborts)
{
    assert_misuse(destroy_key_under_its_guard, NULL,
                  "misuse.c:#: a guard on region 'vault', acquired at misuse.c:#: its key was "
                  "destroyed");
    assert_misuse(destroy_key_under_its_guard, &key,
                  "misuse.c:#: a guard on a region, acquired at misuse.c:#: its key was destroyed");
    assert_misuse(destroy_key_under_its_key_guard, NULL,
                  "misuse.c:#: a guard on a key, acquired at misuse.c:#: its key was destroyed");
}
END_TEST

/* ---- acquiring ---- */

static void use_destroyed_region(void *form)
{
    destroy(region, key);
    switch (*(int *)form) {
    case 0:
        (void)!pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &first);
        break;
    case 1:
        (void)!pkeyguard_restrict(region, PKEYGUARD_READ_ONLY, &first);
        break;
    case 2: {
        pkeyguard_scoped_write (int, number, region) {
            *number = 1;
        }
        break;
    }
    case 3: {
        pkeyguard_try_scoped_read (int, number, region) {
            ck_abort_msg("%d", *number);
        }
        break;
    }
    case 4: {
        pkeyguard_auto_read_at(int, number, region, address);

        ck_abort_msg("%d", *number);
    }
    case 5:
        (void)!pkeyguard_acquire_all(1, &region, &(enum pkeyguard_rights){PKEYGUARD_READ_ONLY},
                                     &first);
        break;
    case 6:
        (void)!pkeyguard_acquire_timed(region, PKEYGUARD_READ_ONLY, 0, &first);
        break;
    case 7:
        (void)!pkeyguard_acquire_all_timed(
            1, &region, &(enum pkeyguard_rights){PKEYGUARD_READ_ONLY}, 0, &first);
        break;
    }
}

START_TEST(guard_on_a_destroyed_region_aborts)
{
    assert_misuse(use_destroyed_region, &_i,
                  "misuse.c:#: a guard on region 'vault': the region was destroyed");
}
END_TEST

static void use_second_software(void *unused)
{
    struct pkeyguard_region *of_none = new_region(NULL);

    (void)unused;
    destroy(of_none, NULL);
    (void)!pkeyguard_acquire(of_none, PKEYGUARD_READ_ONLY, &first);
}

START_TEST(guard_on_a_destroyed_second_software_aborts)
{
    assert_misuse(use_second_software, NULL,
                  "misuse.c:#: a guard on a region: the region was destroyed");
}
END_TEST

/* How it is acquired. */
static char bare, timed, scope;

static void use_destroyed_key(void *how)
{
    destroy(region, key);
    if (how == &bare)
        (void)!pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &first);
    else if (how == &timed)
        (void)!pkeyguard_key_acquire_timed(key, PKEYGUARD_READ_ONLY, 0, &first);
    else
        pkeyguard_scoped_key_write (guard, key) {
        }
}

START_TEST(guard_on_a_destroyed_key_aborts)
{
    char *const ways[] = {&bare, &timed, &scope};

    remake_key(_i);
    for (size_t i = 0; i < sizeof(ways) / sizeof(*ways); i++)
        assert_misuse(use_destroyed_key, ways[i],
                      "misuse.c:#: a guard on a key: the key was destroyed");
}
END_TEST

static void use_region_that_was_not_forked(void *unused)
{
    struct pkeyguard_region *of_parent;

    (void)unused;
    ck_assert_int_eq(pkeyguard_region_create(key, 1, PAGE_RW, PKEYGUARD_REGION_NO_FORK, &of_parent),
                     0);
    if (fork() == 0) {
        (void)!pkeyguard_acquire(of_parent, PKEYGUARD_READ_ONLY, &first);
        _exit(0);
    }
}

START_TEST(guard_on_a_region_that_was_not_forked_aborts)
{
    char said[512];
    char *end;

    (void)run_in_child(use_region_that_was_not_forked, NULL, said, sizeof(said));
    end = strstr(said, ": a guard on a region: a fork child does not have the region\n");
    ck_assert_msg(end != NULL, "it said: %s", said);
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
    assert_misuse(create_thread_inside_a_scope, NULL,
                  "misuse.c:#: a guard on region 'vault': this thread was created inside a scope: "
                  "call pkeyguard_thread_reset() first in it");
}
END_TEST

/* ---- jumps out of the library ---- */

static struct pkeyguard_region *software, *second_software;
static sigjmp_buf away;

static void jump_away(int signal)
{
    (void)signal;
    siglongjmp(away, 1);
}

static void trap_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    raise(SIGTRAP);
}

static void lose_the_lock(void *call)
{
    signal(SIGTRAP, jump_away);
    before_call(CALL_MPROTECT, trap_inside_library);
    if (sigsetjmp(away, 1) == 0) {
        (void)!pkeyguard_acquire(software, PKEYGUARD_READ_WRITE, &first);
        ck_abort_msg("the handler did not run");
    }
    switch (*(int *)call) {
    case 0:
        (void)!pkeyguard_acquire(software, PKEYGUARD_READ_ONLY, &first);
        break;
    case 1: {
        pkeyguard_scoped_read (int, number, software) {
            ck_abort_msg("%d", *number);
        }
        break;
    }
    case 2:
        pkeyguard_release(&second);
        break;
    }
}

/* SIGTRAP cannot wait until the library is done. The lock that it had stays locked. */
START_TEST(guard_aborts_after_a_jump_that_lost_the_lock)
{
    software = new_region(NULL);
    ck_assert_int_eq(pkeyguard_acquire(software, PKEYGUARD_READ_ONLY, &second), 0);
    assert_misuse(lose_the_lock, &_i,
                  _i == 2 ? "misuse.c:#: a guard on a region, acquired at misuse.c:#: the library "
                            "is locked for good: siglongjmp left a signal handler that had "
                            "interrupted it"
                          : "misuse.c:#: a guard on a region: the library is locked for good: "
                            "siglongjmp left a signal handler that had interrupted it");
    pkeyguard_release(&second);
    destroy(software, NULL);
}
END_TEST

static void release_second(int unused)
{
    (void)unused;
    pkeyguard_release(&second);
}

static void release_inside_library(void *unused)
{
    (void)unused;
    signal(SIGTRAP, release_second);
    before_call(CALL_MPROTECT, trap_inside_library);
    (void)!pkeyguard_acquire(second_software, PKEYGUARD_READ_WRITE, &first);
}

START_TEST(release_in_a_handler_inside_the_library_aborts)
{
    software = new_region(NULL);
    second_software = new_region(NULL);
    ck_assert_int_eq(pkeyguard_acquire(software, PKEYGUARD_READ_ONLY, &second), 0);
    assert_aborts(release_inside_library, NULL,
                  "libpkeyguard: a guard cannot be released: this thread is inside the library "
                  "already: called from a fork handler, or from the handler of a signal that an "
                  "instruction raised\n");
    pkeyguard_release(&second);
    destroy(software, NULL);
    destroy(second_software, NULL);
}
END_TEST

void add_misuse(Suite *suite)
{
    TCase *tests = add_case(suite, "misuse", set_up_vault, NULL);

    tcase_add_test(tests, release_by_another_thread_aborts);
    add_pku_test(tests, line_of_a_scope_is_named);
    add_pku_test(tests, release_out_of_order_around_a_restrict_aborts);
    tcase_add_loop_test(tests, release_of_a_copy_aborts, 0, KINDS);
    add_pku_test(tests, release_after_the_key_was_destroyed_aborts);
    tcase_add_loop_test(tests, guard_on_a_destroyed_region_aborts, 0, 8);
    tcase_add_test(tests, guard_on_a_destroyed_second_software_aborts);
    tcase_add_loop_test(tests, guard_on_a_destroyed_key_aborts, 0, KINDS);
    tcase_add_test(tests, guard_on_a_region_that_was_not_forked_aborts);
    add_pku_test(tests, guard_in_a_thread_created_inside_a_scope_aborts);
    tcase_add_loop_test(tests, guard_aborts_after_a_jump_that_lost_the_lock, 0, 3);
    tcase_add_test(tests, release_in_a_handler_inside_the_library_aborts);
}
