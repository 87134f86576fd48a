/* SPDX-License-Identifier: MIT */
/* Errors as std::error_code and exceptions. */
#include <string>

#include "test_cplusplus.hpp"

static std::error_code code_of(int error)
{
    return pkeyguard::make_error_code(error);
}

START_TEST(errors_have_their_category_and_the_librarys_text)
{
    std::error_code code = code_of(-EBUSY);

    ck_assert_int_eq(code.value(), EBUSY);
    ck_assert(code.category() == pkeyguard::category());
    ck_assert_str_eq(code.category().name(), "pkeyguard");
    ck_assert(code.message() == pkeyguard_strerror(-EBUSY));
}
END_TEST

START_TEST(errors_compare_equal_to_errc)
{
    ck_assert(code_of(-EBUSY) == std::errc::device_or_resource_busy);
    ck_assert(code_of(-EBUSY) != std::errc::invalid_argument);
    ck_assert(code_of(-EINVAL) == std::errc::invalid_argument);
    ck_assert(code_of(-ENOMEM) == std::errc::not_enough_memory);
}
END_TEST

START_TEST(success_is_no_error)
{
    ck_assert(!code_of(0));
    ck_assert(code_of(0) == std::error_code());
}
END_TEST

START_TEST(check_throws_what_a_function_of_c_returned)
{
    bool thrown = false;

    pkeyguard::check(0);
    try {
        pkeyguard::check(pkeyguard_region_name(nullptr, "none"), "cannot name it");
    } catch (const std::system_error &error) {
        ck_assert(error.code() == code_of(-EINVAL));
        ck_assert(error.what() == std::string("cannot name it: ") + pkeyguard_strerror(-EINVAL));
        thrown = true;
    }
    ck_assert(thrown);
}
END_TEST

START_TEST(creation_throws_or_sets_the_error)
{
    std::error_code of_key, of_region, of_heap;
    pkeyguard::key key(PKEYGUARD_READ_ONLY, 99, of_key);
    pkeyguard::region region(nullptr, 0, PROT_READ, 0, of_region);
    pkeyguard::heap heap(nullptr, 0, 0, of_heap);

    ck_assert(of_key == std::errc::invalid_argument);
    ck_assert(of_region == std::errc::invalid_argument);
    ck_assert(of_heap == std::errc::invalid_argument);
    ck_assert(key == nullptr && region == nullptr && heap == nullptr);
    assert_throws(std::errc::invalid_argument,
                  [] { pkeyguard::key none(PKEYGUARD_READ_ONLY, 99); });
    assert_throws(std::errc::invalid_argument, [] { pkeyguard::region none(nullptr, 0); });
    assert_throws(std::errc::invalid_argument, [] { pkeyguard::heap none(nullptr, 0); });
}
END_TEST

START_TEST(success_clears_the_error)
{
    std::error_code of_key = code_of(-EIO), of_region = of_key, of_heap = of_key;
    pkeyguard::key key(PKEYGUARD_NO_ACCESS, 0, of_key);
    pkeyguard::region region(key, 1, PROT_READ, 0, of_region);
    pkeyguard::heap heap(key, 1, 0, of_heap);

    ck_assert(!of_key && !of_region && !of_heap);
    ck_assert(key != nullptr && region != nullptr && heap != nullptr);
}
END_TEST

void add_errors(Suite *suite)
{
    TCase *tests = add_case(suite, "errors", nullptr, nullptr);

    tcase_add_test(tests, errors_have_their_category_and_the_librarys_text);
    tcase_add_test(tests, errors_compare_equal_to_errc);
    tcase_add_test(tests, success_is_no_error);
    tcase_add_test(tests, check_throws_what_a_function_of_c_returned);
    tcase_add_test(tests, creation_throws_or_sets_the_error);
    tcase_add_test(tests, success_clears_the_error);
}
