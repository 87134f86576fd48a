/* SPDX-License-Identifier: MIT */
/* Probing what the machine supports. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failing.h"
#include "test_platform.h"

static struct pkeyguard_platform probe(void)
{
    struct pkeyguard_platform platform;

    ck_assert_int_eq(pkeyguard_platform_probe(&platform), 0);
    return platform;
}

START_TEST(probe_tells_how_a_key_is_enforced)
{
    struct pkeyguard_platform platform = probe();
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    static const uint64_t zero[8];

    ck_assert_int_eq(platform.enforcement, pkeyguard_key_enforcement(key));
    if (platform.enforcement == PKEYGUARD_PKU)
        ck_assert_int_eq(platform.pku_error, 0);
    else
        ck_assert_int_ne(platform.pku_error, 0);
    ck_assert_mem_eq(platform.reserved, zero, sizeof(zero));
    destroy(NULL, key);
}
END_TEST

START_TEST(probe_tells_why_there_is_no_pku)
{
    const char *forced = getenv("PKEYGUARD_ENFORCEMENT");

    if (forced != NULL && strcmp(forced, "mprotect") == 0)
        ck_assert_int_eq(probe().pku_error, -ECANCELED);
    else if (!pkeyguard_pkru_supported())
        ck_assert_int_eq(probe().pku_error, -ENOTSUP);
    else
        ck_assert_int_eq(probe().pku_error, 0);
}
END_TEST

/* PKEYGUARD_ENFORCEMENT=mprotect turns PKU off; another value does nothing. */
START_TEST(environment_turns_pku_off)
{
    struct pkeyguard_key *key;

    setenv("PKEYGUARD_ENFORCEMENT", _i == 0 ? "mprotect" : "MPROTECT", 1);
    key = new_key(PKEYGUARD_NO_ACCESS, 0);
    if (_i == 0) {
        ck_assert_int_eq(pkeyguard_key_enforcement(key), PKEYGUARD_MPROTECT);
        ck_assert_int_eq(probe().pku_error, -ECANCELED);
        ck_assert_int_eq(pkeyguard_platform_self_test(), -ECANCELED);
    } else {
        ck_assert_int_eq(pkeyguard_key_enforcement(key),
                         pkeyguard_pkru_supported() ? PKEYGUARD_PKU : PKEYGUARD_MPROTECT);
    }
    destroy(NULL, key);
}
END_TEST

static volatile sig_atomic_t signals;

static void count_signal(int signal)
{
    (void)signal;
    signals++;
}

START_TEST(probe_and_self_test_change_nothing)
{
    static const int watched[] = {SIGCHLD, SIGSEGV, SIGUSR1};
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_ONLY, 0);
    struct resources before = count_resources();
    uint32_t pkru = pkeyguard_pkru_supported() ? pkeyguard_pkru_read() : 0;
    int answer;

    for (int i = 0; i < 3; i++)
        signal(watched[i], count_signal);
    probe();
    answer = pkeyguard_platform_self_test();
    ck_assert_int_eq(answer, pku() ? 0 : probe().pku_error);
    for (int i = 0; i < 3; i++)
        ck_assert(signal(watched[i], SIG_DFL) == count_signal);
    ck_assert_int_eq(signals, 0);
    ck_assert_int_eq(waitpid(-1, NULL, __WALL), -1);
    ck_assert_int_eq(errno, ECHILD);
    if (pkeyguard_pkru_supported())
        ck_assert_uint_eq(pkeyguard_pkru_read(), pkru);
    assert_resources(before);
    destroy(NULL, key);
}
END_TEST

START_TEST(probe_without_a_child_process_fails)
{
    static const struct {
        int from_kernel, expected;
    } errors[] = {{EAGAIN, -EAGAIN}, {ENOMEM, -ENOMEM}, {EPERM, -ENOMEM}};
    struct resources before = count_resources();
    struct pkeyguard_platform platform = {.pku_error = 77};

    fail_call(CALL_CLONE, 0, errors[_i].from_kernel, 1);
    ck_assert_int_eq(pkeyguard_platform_probe(&platform), errors[_i].expected);
    ck_assert(stop_failing());
    fail_call(CALL_MMAP, 0, ENOMEM, 1);
    ck_assert_int_eq(pkeyguard_platform_probe(&platform), -ENOMEM);
    ck_assert(stop_failing());
    ck_assert_int_eq(platform.pku_error, 77);
    if (pku()) {
        fail_call(CALL_CLONE, 0, errors[_i].from_kernel, 1);
        ck_assert_int_eq(pkeyguard_platform_self_test(), errors[_i].expected);
        ck_assert(stop_failing());
    }
    assert_resources(before);
}
END_TEST

/* A sandbox or an old kernel refuses pkey_alloc(2) although the CPU has PKU. */
START_TEST(refused_pkey_alloc_means_no_pku)
{
    static const int refusals[] = {EPERM, ENOSYS, EINVAL};
    struct pkeyguard_platform platform;
    struct pkeyguard_key *key = NULL;

    fail_call(CALL_PKEY_ALLOC, 0, refusals[_i], 1000);
    platform = probe();
    ck_assert_int_eq(platform.pku_error, -refusals[_i]);
    ck_assert_int_eq(platform.enforcement, PKEYGUARD_MPROTECT);
    ck_assert_uint_eq(platform.hardware_keys_free, 0);
    ck_assert_int_eq(pkeyguard_platform_self_test(), -refusals[_i]);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE, &key),
                     -ENOTSUP);
    ck_assert_ptr_null(key);
    key = new_key(PKEYGUARD_NO_ACCESS, 0);
    ck_assert_int_eq(pkeyguard_key_enforcement(key), PKEYGUARD_MPROTECT);
    destroy(NULL, key);
    key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_OPTIONAL);
    ck_assert_int_eq(pkeyguard_key_enforcement(key), PKEYGUARD_UNENFORCED);
    destroy(NULL, key);
}
END_TEST

START_TEST(free_pkeys_are_counted)
{
    struct pkeyguard_key *keys[16];
    unsigned free_keys = probe().hardware_keys_free;

    ck_assert_uint_gt(free_keys, 0);
    for (unsigned i = 0; i < free_keys; i++) {
        keys[i] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE);
        ck_assert_uint_eq(probe().hardware_keys_free, free_keys - i - 1);
    }
    ck_assert_int_eq(probe().enforcement, PKEYGUARD_PKU);
    ck_assert_int_eq(pkeyguard_platform_self_test(), -ENOSPC);
    for (unsigned i = 0; i < free_keys; i++) {
        destroy(NULL, keys[i]);
        ck_assert_uint_eq(probe().hardware_keys_free, i + 1);
    }
}
END_TEST

/*
 * Surprise: some machines and kernels have pkeys that do not protect. Here pkey_mprotect(2) does
 * nothing; the self-test must see that the page is not protected.
 */
START_TEST(self_test_finds_keys_that_do_not_protect)
{
    fail_call(CALL_PKEY_MPROTECT, 0, 0, 1);
    ck_assert_int_eq(pkeyguard_platform_self_test(), -EIO);
    stop_failing();
    ck_assert_int_eq(pkeyguard_platform_self_test(), 0);
}
END_TEST

/* Keys that the child cannot try are not known to work. */
START_TEST(self_test_without_a_page_fails)
{
    static const struct {
        enum call call;
        int skip;
    } refusals[] = {{CALL_MMAP, 1}, {CALL_PKEY_MPROTECT, 0}};

    for (int i = 0; i < 2; i++) {
        fail_call(refusals[i].call, refusals[i].skip, ENOMEM, 1);
        ck_assert_int_eq(pkeyguard_platform_self_test(), -EIO);
        stop_failing();
    }
    ck_assert_int_eq(pkeyguard_platform_self_test(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("platform");
    TCase *tests = add_case(suite, "platform", NULL, NULL);

    tcase_add_test(tests, probe_tells_how_a_key_is_enforced);
    tcase_add_test(tests, probe_tells_why_there_is_no_pku);
    tcase_add_loop_test(tests, environment_turns_pku_off, 0, 2);
    tcase_add_test(tests, probe_and_self_test_change_nothing);
    tcase_add_loop_test(tests, probe_without_a_child_process_fails, 0, 3);
    add_pku_loop_test(tests, refused_pkey_alloc_means_no_pku, 0, 3);
    add_pku_test(tests, free_pkeys_are_counted);
    add_pku_test(tests, self_test_finds_keys_that_do_not_protect);
    add_pku_test(tests, self_test_without_a_page_fails);
    add_sandbox(suite);
    return run_suite(suite);
}
