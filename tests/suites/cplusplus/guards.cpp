/* SPDX-License-Identifier: MIT */
/* Guards that can be moved. */
#include <climits>
#include <type_traits>
#include <utility>
#include <vector>

#include "test_cplusplus.hpp"

static_assert(!std::is_copy_constructible_v<pkeyguard::guard> &&
              !std::is_copy_assignable_v<pkeyguard::guard> &&
              std::is_nothrow_move_constructible_v<pkeyguard::guard> &&
              std::is_nothrow_move_assignable_v<pkeyguard::guard>);

START_TEST(guard_opens_a_region_while_it_exists)
{
    pkeyguard::key key(PKEYGUARD_NO_ACCESS, key_kinds[_i]);
    pkeyguard::region region(key, sizeof(secret));

    {
        pkeyguard::guard guard(region, PKEYGUARD_READ_WRITE);

        assert_open_for(PKEYGUARD_READ_WRITE, region);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    {
        std::error_code error = std::make_error_code(std::errc::io_error);
        pkeyguard::guard guard(region, PKEYGUARD_READ_ONLY, error);

        ck_assert(!error);
        assert_open_for(PKEYGUARD_READ_ONLY, region);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(guard_that_may_wait_opens_at_once_where_it_can)
{
    pkeyguard::key key(PKEYGUARD_NO_ACCESS, key_kinds[_i]);
    pkeyguard::region region(key, sizeof(secret));
    std::error_code of_region = std::make_error_code(std::errc::io_error), of_key = of_region;

    {
        pkeyguard::guard guard(region, PKEYGUARD_READ_ONLY, 0);

        assert_open_for(PKEYGUARD_READ_ONLY, region);
        pkeyguard::guard writing(region, PKEYGUARD_READ_WRITE, 1, of_region);
        ck_assert(!of_region);
        assert_open_for(PKEYGUARD_READ_WRITE, region);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    {
        pkeyguard::guard guard(key, PKEYGUARD_READ_ONLY, UINT_MAX);

        assert_open_for(PKEYGUARD_READ_ONLY, region);
        pkeyguard::guard writing(key, PKEYGUARD_READ_WRITE, 1, of_key);
        ck_assert(!of_key);
        assert_open_for(PKEYGUARD_READ_WRITE, region);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(guard_opens_every_region_of_a_key)
{
    pkeyguard::key key(PKEYGUARD_NO_ACCESS, key_kinds[_i]);
    pkeyguard::region region(key, 1), other(key, 1);

    {
        pkeyguard::guard guard(key, PKEYGUARD_READ_WRITE);

        assert_open_for(PKEYGUARD_READ_WRITE, region);
        assert_open_for(PKEYGUARD_READ_WRITE, other);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    {
        std::error_code error = std::make_error_code(std::errc::io_error);
        pkeyguard::guard guard(key, PKEYGUARD_READ_ONLY, error);

        ck_assert(!error);
        assert_open_for(PKEYGUARD_READ_ONLY, other);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, other);
}
END_TEST

START_TEST(release_closes_before_the_guard_ends)
{
    pkeyguard::region region(nullptr, 1);
    pkeyguard::guard guard(region, PKEYGUARD_READ_WRITE);

    guard.release();
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    guard.release();
}
END_TEST

START_TEST(moved_guard_keeps_the_region_open)
{
    pkeyguard::key key(PKEYGUARD_NO_ACCESS, key_kinds[_i]);
    pkeyguard::region region(key, 1);
    pkeyguard::guard outer;

    {
        pkeyguard::guard inner(region, PKEYGUARD_READ_WRITE);

        outer = std::move(inner);
    }
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    {
        pkeyguard::guard taken(std::move(outer));

        outer.release();
        assert_open_for(PKEYGUARD_READ_WRITE, region);
        pkeyguard::guard &same = taken;
        taken = std::move(same);
        assert_open_for(PKEYGUARD_READ_WRITE, region);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(assignment_releases_what_the_guard_held)
{
    pkeyguard::key key(PKEYGUARD_NO_ACCESS, key_kinds[_i]), other_key(PKEYGUARD_NO_ACCESS);
    pkeyguard::region region(key, 1), other(other_key, 1);
    pkeyguard::guard guard(region, PKEYGUARD_READ_WRITE);

    guard = pkeyguard::guard(other, PKEYGUARD_READ_ONLY);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    assert_open_for(PKEYGUARD_READ_ONLY, other);
}
END_TEST

START_TEST(guards_take_over_what_c_acquired)
{
    pkeyguard::region first(nullptr, 1), second(nullptr, 1);
    pkeyguard_region *regions[] = {first, second};
    pkeyguard_rights rights[] = {PKEYGUARD_READ_ONLY, PKEYGUARD_READ_WRITE};
    pkeyguard_guard acquired[2];

    {
        std::vector<pkeyguard::guard> guards;

        pkeyguard::check(pkeyguard_acquire_all(2, regions, rights, acquired));
        for (const pkeyguard_guard &guard : acquired)
            guards.emplace_back(guard);
        assert_open_for(PKEYGUARD_READ_ONLY, first);
        assert_open_for(PKEYGUARD_READ_WRITE, second);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, first);
    assert_open_for(PKEYGUARD_NO_ACCESS, second);
}
END_TEST

START_TEST(restricted_guard_narrows)
{
    pkeyguard::key key(PKEYGUARD_READ_WRITE);
    pkeyguard::region region(key, 1);
    std::error_code error = std::make_error_code(std::errc::io_error);

    {
        pkeyguard::guard guard = pkeyguard::guard::restricted(region, PKEYGUARD_READ_ONLY);

        assert_open_for(PKEYGUARD_READ_ONLY, region);
        auto closed = pkeyguard::guard::restricted(region, PKEYGUARD_NO_ACCESS, error);
        ck_assert(!error);
        assert_open_for(PKEYGUARD_NO_ACCESS, region);
    }
    assert_open_for(PKEYGUARD_READ_WRITE, region);
}
END_TEST

START_TEST(guard_that_fails_is_empty)
{
    constexpr pkeyguard_rights unknown = static_cast<pkeyguard_rights>(0);
    pkeyguard::key key(PKEYGUARD_NO_ACCESS);
    pkeyguard::region region(key, 1);
    std::error_code of_region, of_key, of_restricted;

    assert_throws(std::errc::invalid_argument, [&] { pkeyguard::guard guard(region, unknown); });
    assert_throws(std::errc::invalid_argument, [&] { pkeyguard::guard guard(key, unknown); });
    assert_throws(std::errc::invalid_argument,
                  [&] { (void)pkeyguard::guard::restricted(region, unknown); });
    pkeyguard::guard first(region, unknown, of_region), second(key, unknown, of_key);
    pkeyguard::guard third = pkeyguard::guard::restricted(region, unknown, of_restricted);
    ck_assert(of_region == std::errc::invalid_argument);
    ck_assert(of_key == std::errc::invalid_argument);
    ck_assert(of_restricted == std::errc::invalid_argument);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

/* A guard on a virtual key fails at once when every pkey is pinned. */
START_TEST(guard_does_not_wait_for_a_virtual_key)
{
    std::vector<pkeyguard::key> keys;
    std::vector<pkeyguard::guard> guards;
    std::error_code error;

    while (!error) {
        ck_assert_uint_le(keys.size(), 16);
        keys.emplace_back(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
        guards.emplace_back(keys.back(), PKEYGUARD_READ_WRITE, error);
    }
    ck_assert(error == std::errc::device_or_resource_busy);
    pkeyguard::region region(keys.back(), 1);
    assert_throws(std::errc::device_or_resource_busy,
                  [&] { pkeyguard::write_scope<char> view(region); });
    assert_throws(std::errc::timed_out,
                  [&] { pkeyguard::guard guard(region, PKEYGUARD_READ_WRITE, 1); });
    assert_throws(std::errc::timed_out,
                  [&] { pkeyguard::guard guard(keys.back(), PKEYGUARD_READ_WRITE, 1); });
    guards.front().release();
    pkeyguard::write_scope<char> view(region);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
}
END_TEST

void add_guards(Suite *suite)
{
    TCase *tests = add_case(suite, "guards", nullptr, nullptr);

    tcase_add_loop_test(tests, guard_opens_a_region_while_it_exists, 0, count_of_key_kinds);
    tcase_add_loop_test(tests, guard_that_may_wait_opens_at_once_where_it_can, 0,
                        count_of_key_kinds);
    tcase_add_loop_test(tests, guard_opens_every_region_of_a_key, 0, count_of_key_kinds);
    tcase_add_test(tests, release_closes_before_the_guard_ends);
    tcase_add_loop_test(tests, moved_guard_keeps_the_region_open, 0, count_of_key_kinds);
    tcase_add_loop_test(tests, assignment_releases_what_the_guard_held, 0, count_of_key_kinds);
    tcase_add_test(tests, guards_take_over_what_c_acquired);
    tcase_add_test(tests, restricted_guard_narrows);
    tcase_add_test(tests, guard_that_fails_is_empty);
    add_pku_test(tests, guard_does_not_wait_for_a_virtual_key);
}
