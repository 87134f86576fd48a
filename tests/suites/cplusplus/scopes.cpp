/* SPDX-License-Identifier: MIT */
/* Views of objects in a region. */
#include <cstring>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include "test_cplusplus.hpp"

using pkeyguard::read_scope;
using pkeyguard::write_scope;

/* What a view gives, and that it stays where it is. */
template <typename View> using reference = decltype(*std::declval<View &>());
static_assert(std::is_same_v<reference<write_scope<secret>>, secret &> &&
              std::is_same_v<reference<const write_scope<secret>>, const secret &> &&
              std::is_same_v<reference<read_scope<secret>>, const secret &> &&
              std::is_same_v<reference<const read_scope<secret>>, const secret &> &&
              std::is_same_v<reference<write_scope<int[4]>>, int (&)[4]>);
static_assert(!std::is_copy_constructible_v<write_scope<int>> &&
              !std::is_move_constructible_v<write_scope<int>> &&
              !std::is_move_assignable_v<write_scope<int>> &&
              !std::is_copy_assignable_v<read_scope<int>>);

START_TEST(views_give_the_object_while_they_exist)
{
    pkeyguard::key key(PKEYGUARD_NO_ACCESS, key_kinds[_i]);
    pkeyguard::region region(key, sizeof(secret));

    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    {
        write_scope<secret> view(region);

        ck_assert_int_eq(view->number, 0);
        ck_assert_ptr_eq(&*view, address_of(region));
        view->number = 123;
        std::strcpy((*view).text, "text");
        assert_open_for(PKEYGUARD_READ_WRITE, region);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    {
        read_scope<secret> view(region);

        ck_assert_int_eq(view->number, 123);
        ck_assert_str_eq((*view).text, "text");
        assert_open_for(PKEYGUARD_READ_ONLY, region);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(views_give_an_object_of_a_heap)
{
    pkeyguard::key key(PKEYGUARD_NO_ACCESS, key_kinds[_i]);
    pkeyguard::heap heap(key, 1 << 16);
    secret *object = static_cast<secret *>(pkeyguard_heap_alloc(heap, sizeof(secret)));
    std::error_code error = std::make_error_code(std::errc::io_error);

    {
        write_scope<secret> view(heap.region(), object);

        view->number = 123;
        assert_open_for(PKEYGUARD_READ_WRITE, object, key);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, object, key);
    {
        read_scope<secret> view(heap.region(), object, error);

        ck_assert(!error);
        ck_assert(static_cast<bool>(view));
        ck_assert_int_eq(view->number, 123);
        assert_open_for(PKEYGUARD_READ_ONLY, object, key);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, object, key);
}
END_TEST

START_TEST(exception_closes_the_view)
{
    pkeyguard::region region(nullptr, sizeof(secret));
    bool caught = false;

    try {
        write_scope<secret> view(region);

        view->number = 1;
        throw std::runtime_error("out of the scope");
    } catch (const std::runtime_error &) {
        caught = true;
        assert_open_for(PKEYGUARD_NO_ACCESS, region);
    }
    ck_assert(caught);
}
END_TEST

/* Neither form opens the region. */
template <typename T, typename... Where>
static void assert_view_fails(pkeyguard_region *region, Where... where)
{
    std::error_code error;

    assert_throws(std::errc::invalid_argument, [&] { write_scope<T> view(region, where...); });
    assert_throws(std::errc::invalid_argument, [&] { read_scope<T> view(region, where...); });
    write_scope<T> view(region, where..., error);
    ck_assert(error == std::errc::invalid_argument);
    ck_assert(!static_cast<bool>(view));
    if (region != nullptr)
        assert_open_for(PKEYGUARD_NO_ACCESS, region);
}

START_TEST(object_that_is_not_in_the_region_is_refused)
{
    pkeyguard::key key(PKEYGUARD_NO_ACCESS);
    pkeyguard::region region(key, sizeof(secret));
    auto *object = reinterpret_cast<secret *>(address_of(region));

    assert_view_fails<int>(nullptr);
    assert_view_fails<char[sizeof(secret) + 1]>(region);
    assert_view_fails<secret>(region, object + 1);
    assert_view_fails<secret>(region, object - 1);
    write_scope<secret> view(region, object);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
}
END_TEST

START_TEST(object_that_is_not_aligned_is_refused)
{
    pkeyguard::region region(nullptr, 6, PAGE_RW, PKEYGUARD_REGION_END_ALIGNED);

    assert_view_fails<int>(region);
    write_scope<short[3]> view(region);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
}
END_TEST

START_TEST(success_clears_the_error)
{
    pkeyguard::region region(nullptr, sizeof(secret));
    std::error_code error = std::make_error_code(std::errc::io_error);
    write_scope<secret> view(region, error);

    ck_assert(!error);
    ck_assert(static_cast<bool>(view));
    view->number = 1;
}
END_TEST

void add_scopes(Suite *suite)
{
    TCase *tests = add_case(suite, "scopes", nullptr, nullptr);

    tcase_add_loop_test(tests, views_give_the_object_while_they_exist, 0, count_of_key_kinds);
    tcase_add_loop_test(tests, views_give_an_object_of_a_heap, 0, count_of_key_kinds);
    tcase_add_test(tests, exception_closes_the_view);
    tcase_add_test(tests, object_that_is_not_in_the_region_is_refused);
    tcase_add_test(tests, object_that_is_not_aligned_is_refused);
    tcase_add_test(tests, success_clears_the_error);
}
