/* SPDX-License-Identifier: MIT */
/* The headers in a file that is compiled with -fno-exceptions, in a program that has exceptions. */
#include <string>

#include "test_cplusplus.hpp"

static void create_a_region_of_no_size(void *unused)
{
    (void)unused;
    pkeyguard::region region(nullptr, 0);
}

static void allocate_too_much(void *unused)
{
    pkeyguard::heap heap(nullptr, 1 << 16);

    (void)unused;
    (void)pkeyguard::heap_allocator<char>(heap).allocate(1 << 20);
}

static std::string line(const char *what, int error)
{
    return std::string("libpkeyguard: ") + what + ": " + pkeyguard_strerror(error) + "\n";
}

START_TEST(throwing_forms_abort)
{
    assert_aborts(create_a_region_of_no_size, nullptr,
                  line("cannot create a region", -EINVAL).c_str());
    assert_aborts(allocate_too_much, nullptr, line("cannot allocate from a heap", -ENOMEM).c_str());
}
END_TEST

START_TEST(other_forms_set_the_error)
{
    std::error_code error;
    pkeyguard::region none(nullptr, 0, PROT_READ, 0, error);

    ck_assert(error == std::errc::invalid_argument);
    pkeyguard::region region(nullptr, sizeof(secret), PAGE_RW, 0, error);
    ck_assert(!error);
    pkeyguard::write_scope<secret> view(region, error);
    ck_assert(!error);
    view->number = 1;
    assert_open_for(PKEYGUARD_READ_WRITE, region);
}
END_TEST

void add_no_exceptions(Suite *suite)
{
    TCase *tests = add_case(suite, "no_exceptions", nullptr, nullptr);

    tcase_add_test(tests, throwing_forms_abort);
    tcase_add_test(tests, other_forms_set_the_error);
}
