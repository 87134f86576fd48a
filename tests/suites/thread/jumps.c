/* SPDX-License-Identifier: MIT */
/* pkeyguard_thread_save() and _restore() around jumps. */
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include "place.h"
#include "test_thread.h"

static jmp_buf after_longjmp;
static sigjmp_buf after_handler;
static struct pkeyguard_guard skipped_guard;

static __attribute__((noreturn)) void jump_out_of_a_scope(void)
{
    open_key(key, &skipped_guard);
    longjmp(after_longjmp, 1);
}

/* Surprise: longjmp out of a scope leaks its rights. pkeyguard_thread_restore() takes them back. */
START_TEST(restore_undoes_guards_that_longjmp_skipped)
{
    struct pkeyguard_thread_rights rights;
    struct pkeyguard_guard outer;

    open_key(shared_key, &outer);
    pkeyguard_thread_save(&rights);
    if (setjmp(after_longjmp) == 0)
        jump_out_of_a_scope();
    /* The key stays open, under either enforcement. */
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_WRITE);
    pkeyguard_thread_restore(&rights);
    assert_rights(pku() ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_WRITE, PKEYGUARD_READ_WRITE);
    if (!pku())
        pkeyguard_release(&skipped_guard);
    pkeyguard_release(&outer);
    assert_defaults();
}
END_TEST

static void jump_out(int signal)
{
    (void)signal;
    siglongjmp(after_handler, 1);
}

/*
 * Surprise: siglongjmp out of a handler loses the rights of the interrupted code.
 * pkeyguard_thread_restore() gives them back.
 */
START_TEST(restore_gives_back_rights_that_siglongjmp_lost)
{
    struct pkeyguard_thread_rights rights;
    struct pkeyguard_guard outer;

    signal(SIGUSR1, jump_out);
    open_key(key, &outer);
    pkeyguard_thread_save(&rights);
    if (sigsetjmp(after_handler, 1) == 0)
        raise(SIGUSR1);
    /* Only the rights are left with which the kernel starts handlers: even the default is lost. */
    if (pku())
        assert_rights(PKEYGUARD_NO_ACCESS, PKEYGUARD_NO_ACCESS);
    pkeyguard_thread_restore(&rights);
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    assert_allowed(WRITE_BYTE, address_of(region));
    pkeyguard_release(&outer);
    assert_defaults();
}
END_TEST

/* A pkey that is not the library's, with each combination of its bits. */
START_TEST(pkeys_of_others_are_left_alone)
{
    struct pkeyguard_thread_rights closed, other;
    int pkey = pkey_alloc(0, PKEY_DISABLE_WRITE);
    struct pkeyguard_guard guard;

    ck_assert_int_gt(pkey, 0);
    pkeyguard_thread_save(&closed);
    open_key(key, &guard);
    for (int rights = 0; rights <= 3; rights++) {
        ck_assert_int_eq(pkey_set(pkey, (unsigned)rights), 0);
        pkeyguard_thread_restore(&closed);
        ck_assert_int_eq(pkey_get(pkey), rights);
        pkeyguard_thread_reset();
        ck_assert_int_eq(pkey_get(pkey), rights);
        ck_assert_int_eq(pkeyguard_thread_switch(&other, &closed), 0);
        ck_assert_int_eq(pkey_get(pkey), rights);
        ck_assert_int_eq(pkeyguard_thread_switch(&other, NULL), 0);
        ck_assert_int_eq(pkey_get(pkey), rights);
    }
    assert_defaults();
    pkey_free(pkey);
}
END_TEST

START_TEST(restore_leaves_newer_keys_alone)
{
    static const enum pkeyguard_rights every_right[] = {PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY,
                                                        PKEYGUARD_READ_WRITE};
    struct pkeyguard_thread_rights rights;
    struct pkeyguard_key *created;

    pkeyguard_thread_save(&rights);
    created = new_key(every_right[_i / 3], 0);
    ck_assert_int_eq(pkeyguard_key_set_rights(created, every_right[_i % 3]), 0);
    pkeyguard_thread_restore(&rights);
    ck_assert_int_eq(pkeyguard_key_rights(created), every_right[_i % 3]);
    assert_defaults();
    destroy(NULL, created);
}
END_TEST

/*
 * Surprise: a freed pkey comes back with old rights. Saved rights leave out a pkey that has a new
 * owner.
 */
START_TEST(restore_leaves_rebound_pkeys_alone)
{
    struct pkeyguard_key *old = new_key(PKEYGUARD_READ_WRITE, 0), *keys[16];
    int pkey = pkeyguard_key_number(old), count = 0, rebound = -1;
    struct pkeyguard_thread_rights rights, other;

    pkeyguard_thread_save(&rights);
    destroy(NULL, old);
    pkeyguard_thread_restore(&rights);
    ck_assert_int_ne(pkey_get(pkey), 0);
    while (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &keys[count]) == 0) {
        if (pkeyguard_key_number(keys[count]) == pkey)
            rebound = count;
        count++;
    }
    ck_assert_int_ge(rebound, 0);
    pkeyguard_thread_restore(&rights);
    ck_assert_int_eq(pkeyguard_key_rights(keys[rebound]), PKEYGUARD_NO_ACCESS);
    ck_assert_int_eq(pkeyguard_thread_switch(&other, &rights), 0);
    ck_assert_int_eq(pkeyguard_key_rights(keys[rebound]), PKEYGUARD_NO_ACCESS);
    while (count > 0)
        destroy(NULL, keys[--count]);
}
END_TEST

START_TEST(zeroed_rights_restore_nothing)
{
    static const struct pkeyguard_thread_rights zero;
    struct pkeyguard_guard guard;

    open_key(key, &guard);
    pkeyguard_thread_restore(&zero);
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    pkeyguard_release(&guard);
    assert_defaults();
}
END_TEST

static void add_jump_tests(TCase *tests)
{
    tcase_add_test(tests, restore_undoes_guards_that_longjmp_skipped);
    tcase_add_test(tests, restore_gives_back_rights_that_siglongjmp_lost);
}

void add_jumps(Suite *suite)
{
    TCase *tests = add_case(suite, "jumps", set_up_keys, tear_down_keys);
    TCase *of_virtual = add_case(suite, "jumps, virtual key", set_up_virtual_key, tear_down_keys);

    add_jump_tests(tests);
    add_jump_tests(of_virtual);
    add_pku_test(tests, pkeys_of_others_are_left_alone);
    tcase_add_loop_test(tests, restore_leaves_newer_keys_alone, 0, 9);
    add_pku_test(tests, restore_leaves_rebound_pkeys_alone);
    tcase_add_test(tests, zeroed_rights_restore_nothing);
}
