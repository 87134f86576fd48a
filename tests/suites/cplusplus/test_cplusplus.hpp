/* SPDX-License-Identifier: MIT */
/* test_cplusplus.hpp - what the files of this suite use */
#ifndef TEST_CPLUSPLUS_HPP
#define TEST_CPLUSPLUS_HPP

#include <cerrno>
#include <csignal>
#include <system_error>

#include <check.h>
#include <pkeyguard.hpp>

extern "C" {
#include "support.h"
}

/* The kinds of keys, as flags of pkeyguard_key_create(). */
constexpr unsigned key_kinds[] = {0, PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_VIRTUAL};
constexpr int count_of_key_kinds = 3;

/* An object of the tests, which write to its first byte to see whether they can. */
struct secret {
    char probed;
    int number;
    char text[56];
};

/* The calling thread has these rights at the address, no fewer and no more. */
void assert_open_for(pkeyguard_rights rights, const void *address, const pkeyguard_key *key);

/* The same of a region's start. */
void assert_open_for(pkeyguard_rights rights, const pkeyguard_region *region);

#ifdef __cpp_exceptions
/* The call throws a pkeyguard::error that is equal to the condition. */
template <typename Call> void assert_throws(std::errc condition, Call call)
{
    bool thrown = false;

    try {
        call();
    } catch (const pkeyguard::error &error) {
        thrown = error.code() == condition;
    }
    ck_assert(thrown);
}
#endif

/* The files of the suite. */
void add_errors(Suite *suite);
void add_handles(Suite *suite);
void add_guards(Suite *suite);
void add_scopes(Suite *suite);
void add_containers(Suite *suite);
void add_coroutines(Suite *suite);
void add_no_exceptions(Suite *suite);

#endif
