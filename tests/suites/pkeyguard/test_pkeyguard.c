/* SPDX-License-Identifier: MIT */
/* The version, and the words for errors. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

START_TEST(version_is_that_of_the_header)
{
    char version[32];

    snprintf(version, sizeof(version), "%d.%d.%d", PKEYGUARD_VERSION_MAJOR, PKEYGUARD_VERSION_MINOR,
             PKEYGUARD_VERSION_PATCH);
    ck_assert_str_eq(pkeyguard_version(), version);
}
END_TEST

/* Every errno that a header names. */
START_TEST(each_error_has_its_own_words)
{
    static const int errors[] = {0,          -EINVAL, -ENOMEM,  -EACCES, -ENOSPC,
                                 -ENOTSUP,   -EBUSY,  -EDEADLK, -EAGAIN, -EIO,
                                 -ECANCELED, -ENOSYS, -EPERM,   -ENOENT, -ERANGE};
    const size_t count = sizeof(errors) / sizeof(*errors);

    for (size_t i = 0; i < count; i++) {
        ck_assert_str_ne(pkeyguard_strerror(errors[i]), pkeyguard_strerror(-ENOTTY));
        for (size_t j = 0; j < i; j++)
            ck_assert_str_ne(pkeyguard_strerror(errors[i]), pkeyguard_strerror(errors[j]));
    }
}
END_TEST

START_TEST(other_numbers_are_unknown_errors)
{
    ck_assert_str_eq(pkeyguard_strerror(-ENOTTY), "unknown error");
    ck_assert_str_eq(pkeyguard_strerror(EINVAL), "unknown error");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pkeyguard");
    TCase *words = add_case(suite, "words", NULL, NULL, DEFAULT_SECONDS);

    tcase_add_test(words, version_is_that_of_the_header);
    tcase_add_test(words, each_error_has_its_own_words);
    tcase_add_test(words, other_numbers_are_unknown_errors);
    return run_suite(suite);
}
