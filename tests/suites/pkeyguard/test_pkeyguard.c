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
    static const int errors[] = {0,          -EINVAL,    -ENOMEM,  -EACCES, -ENOSPC,
                                 -ENOTSUP,   -EBUSY,     -EDEADLK, -EAGAIN, -EIO,
                                 -ECANCELED, -ENOSYS,    -EPERM,   -ENOENT, -ERANGE,
                                 -ESTALE,    -ETIMEDOUT, -EFAULT,  -EUCLEAN};
    const size_t count = sizeof(errors) / sizeof(*errors);

    for (size_t i = 0; i < count; i++) {
        ck_assert_str_ne(pkeyguard_strerror(errors[i]), pkeyguard_strerror(-ENOTTY));
        for (size_t j = 0; j < i; j++)
            ck_assert_str_ne(pkeyguard_strerror(errors[i]), pkeyguard_strerror(errors[j]));
    }
}
END_TEST

/* Whoever meets an error finds its cause among those that its words name. */
START_TEST(words_name_each_cause)
{
    static const struct {
        int error;
        const char *cause;
    } causes[] = {
        {-EINVAL, "no key or region"},
        {-EINVAL, "unknown"},
        {-EINVAL, "contradictory flags"},
        {-EINVAL, "size that does not fit"},
        {-EINVAL, "not aligned"},
        {-EINVAL, "different page rights"},
        {-EINVAL, "virtual key"},
        {-ENOMEM, "memory"},
        {-ENOMEM, "mappings"},
        {-ENOMEM, "file descriptors"},
        {-ENOMEM, "not mapped"},
        {-ENOMEM, "locked"},
        {-EACCES, "security policy"},
        {-EACCES, "sandbox"},
        {-EACCES, "backs the memory"},
        {-ENOSPC, "no protection key is left"},
        {-ENOSPC, "pkeyguard_thread_use_signal()"},
        {-ENOTSUP, "machine"},
        {-ENOTSUP, "kind of key"},
        {-ENOTSUP, "plugin"},
        {-EBUSY, "region"},
        {-EBUSY, "guard"},
        {-EDEADLK, "fork handler"},
        {-EDEADLK, "signal"},
        {-EAGAIN, "pkeyguard_thread_register()"},
        {-EAGAIN, "signal"},
        {-EAGAIN, "process"},
        {-ESTALE, "unmapped"},
        {-EUCLEAN, "overwritten"},
    };

    for (size_t i = 0; i < sizeof(causes) / sizeof(*causes); i++)
        ck_assert_msg(strstr(pkeyguard_strerror(causes[i].error), causes[i].cause) != NULL,
                      "'%s' does not name '%s'", pkeyguard_strerror(causes[i].error),
                      causes[i].cause);
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
    TCase *words = add_case(suite, "words", NULL, NULL);

    tcase_add_test(words, version_is_that_of_the_header);
    tcase_add_test(words, each_error_has_its_own_words);
    tcase_add_test(words, words_name_each_cause);
    tcase_add_test(words, other_numbers_are_unknown_errors);
    return run_suite(suite);
}
