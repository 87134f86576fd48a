/* SPDX-License-Identifier: MIT */
/* Handles: who owns a key, region or heap, and when it is destroyed. */
#include <utility>

#include "test_cplusplus.hpp"

START_TEST(handles_destroy_what_they_own)
{
    resources before = count_resources();

    {
        pkeyguard::key key(PKEYGUARD_NO_ACCESS);
        pkeyguard::region region(key, sizeof(secret));
        pkeyguard::heap heap(key, 1 << 16);

        ck_assert_ptr_eq(pkeyguard_region_key(region), key);
        ck_assert_ptr_eq(pkeyguard_region_key(heap.region()), key);
    }
    assert_resources(before);
}
END_TEST

START_TEST(moved_handle_owns_nothing)
{
    resources before = count_resources();

    {
        pkeyguard::region first(nullptr, 1);
        pkeyguard_region *owned = first;
        pkeyguard::region second(std::move(first));

        ck_assert_ptr_null(static_cast<pkeyguard_region *>(first));
        ck_assert_ptr_eq(second, owned);
        first = std::move(second);
        ck_assert_ptr_null(static_cast<pkeyguard_region *>(second));
        ck_assert_ptr_eq(first, owned);
    }
    assert_resources(before);
}
END_TEST

START_TEST(assignment_destroys_what_the_handle_owned)
{
    resources before = count_resources();

    {
        pkeyguard::region region(nullptr, 1);
        pkeyguard::region &same = region;

        region = pkeyguard::region(nullptr, 2);
        ck_assert_uint_eq(pkeyguard_region_size(region), 2);
        region = std::move(same);
        ck_assert_uint_eq(pkeyguard_region_size(region), 2);
        region = pkeyguard::region();
        assert_resources(before);
    }
    assert_resources(before);
}
END_TEST

START_TEST(handle_takes_over_what_c_created)
{
    pkeyguard::region region(new_region(nullptr));

    ck_assert_uint_eq(pkeyguard_region_size(region), PAGE_BYTES);
    region.destroy();
    ck_assert_ptr_null(static_cast<pkeyguard_region *>(region));
}
END_TEST

START_TEST(destroy_tells_errors_and_keeps_the_object)
{
    pkeyguard::key key(PKEYGUARD_NO_ACCESS);
    pkeyguard::region region(key, 1);
    std::error_code error;

    assert_throws(std::errc::device_or_resource_busy, [&] { key.destroy(); });
    key.destroy(error);
    ck_assert(error == std::errc::device_or_resource_busy);
    ck_assert(key != nullptr);
    region.destroy();
    key.destroy(error);
    ck_assert(!error);
    ck_assert(key == nullptr);
}
END_TEST

/* As adopted memory does that its owner has unmapped. */
START_TEST(region_that_is_destroyed_with_an_error_is_not_owned_any_more)
{
    void *memory = mmap(nullptr, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pkeyguard_region *adopted;
    std::error_code error;

    pkeyguard::check(pkeyguard_region_adopt(nullptr, memory, PAGE_BYTES, PAGE_RW, 0, &adopted));
    pkeyguard::region region(adopted);
    munmap(memory, PAGE_BYTES);
    region.destroy(error);
    ck_assert(error == pkeyguard::make_error_code(-ESTALE));
    ck_assert(region == nullptr);
}
END_TEST

START_TEST(region_that_cannot_be_destroyed_stays_guarded)
{
    pkeyguard_region *kept;
    pkeyguard::guard guard;

    {
        pkeyguard::region region(nullptr, sizeof(secret));

        kept = region;
        guard = pkeyguard::guard(region, PKEYGUARD_READ_WRITE);
        *address_of(kept) = 'k';
    }
    ck_assert_int_eq(*address_of(kept), 'k');
    guard.release();
    assert_open_for(PKEYGUARD_NO_ACCESS, kept);
    pkeyguard::region(kept).destroy();
}
END_TEST

void add_handles(Suite *suite)
{
    TCase *tests = add_case(suite, "handles", nullptr, nullptr);

    tcase_add_test(tests, handles_destroy_what_they_own);
    tcase_add_test(tests, moved_handle_owns_nothing);
    tcase_add_test(tests, assignment_destroys_what_the_handle_owned);
    tcase_add_test(tests, handle_takes_over_what_c_created);
    tcase_add_test(tests, destroy_tells_errors_and_keeps_the_object);
    tcase_add_test(tests, region_that_is_destroyed_with_an_error_is_not_owned_any_more);
    tcase_add_test(tests, region_that_cannot_be_destroyed_stays_guarded);
}
