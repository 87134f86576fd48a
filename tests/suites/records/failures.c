/* SPDX-License-Identifier: MIT */
/* When the records cannot be protected. */
#include <errno.h>

#include "failing.h"
#include "test_records.h"

/* The records are as before: not protected, and in use. */
static void assert_unchanged(struct resources before)
{
    write_same_byte(key);
    write_same_byte(region);
    pkeyguard_scoped_write (int, number, region) {
        ++*number;
    }
    assert_resources(before);
}

START_TEST(records_are_not_protected_without_pku)
{
    ck_assert_int_eq(pkeyguard_protect_records(), -ENOTSUP);
    assert_unchanged(count_resources());
}
END_TEST

START_TEST(second_call_changes_nothing)
{
    struct resources before = count_resources();

    protect();
    ck_assert_int_eq(count_resources().pkeys, before.pkeys - 1);
    before = count_resources();
    protect();
    assert_resources(before);
    assert_protected(region);
}
END_TEST

START_TEST(records_need_a_pkey)
{
    struct pkeyguard_key *keys[16];
    int count = 0;
    struct resources before;

    while (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE, &keys[count]) == 0)
        count++;
    before = count_resources();
    ck_assert_int_eq(pkeyguard_protect_records(), -ENOSPC);
    assert_unchanged(before);
    destroy(NULL, keys[0]);
    protect();
    assert_protected(region);
    assert_protected(keys[1]);
}
END_TEST

static const struct failure {
    enum call call;
    int error, result;
} failures[] = {
    {CALL_MMAP, ENOMEM, -ENOMEM},         {CALL_MADVISE, ENOMEM, -ENOMEM},
    {CALL_MADVISE, EPERM, -EACCES},       {CALL_MPROTECT, ENOMEM, -ENOMEM},
    {CALL_MPROTECT, EPERM, -EACCES},      {CALL_MREMAP, ENOMEM, -ENOMEM},
    {CALL_MREMAP, EPERM, -EACCES},        {CALL_PKEY_MPROTECT, ENOMEM, -ENOMEM},
    {CALL_PKEY_MPROTECT, EPERM, -EACCES},
};
enum { FAILURES = sizeof(failures) / sizeof(*failures), SKIPS = 3 };

START_TEST(refused_system_call_changes_nothing)
{
    const struct failure *failure = &failures[_i / SKIPS];
    struct resources before = count_resources();

    fail_call(failure->call, _i % SKIPS, failure->error, 1);
    ck_assert_int_eq(pkeyguard_protect_records(), failure->result);
    ck_assert(stop_failing());
    assert_unchanged(before);
    protect();
    assert_protected(region);
    use_library();
}
END_TEST

/* Records that get new memory later: nothing is lost if there is none. */
START_TEST(protected_records_without_memory_are_refused)
{
    enum { MOST = 10000 };
    static struct pkeyguard_region *regions[MOST];
    int error = 0, count = 0;

    protect();
    for (bool failed = false; !failed; count++) {
        ck_assert_int_lt(count, MOST);
        fail_call(CALL_MREMAP, 0, ENOMEM, 1);
        error = pkeyguard_region_create(key, 1, PAGE_RW, 0, &regions[count]);
        failed = error != 0;
        stop_failing();
    }
    ck_assert_int_eq(error, -ENOMEM);
    regions[count - 1] = new_region(key);
    for (int i = 0; i < count; i++) {
        assert_protected(regions[i]);
        destroy(regions[i], NULL);
    }
}
END_TEST

static void interrupt_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    ck_assert_int_eq(pkeyguard_protect_records(), -EDEADLK);
}

START_TEST(call_inside_the_library_is_refused)
{
    before_call(CALL_MMAP, interrupt_library);
    destroy(new_region(key), NULL);
    assert_unchanged(count_resources());
}
END_TEST

void add_failures(Suite *suite)
{
    TCase *tests = add_case(suite, "failures", set_up, NULL);

    if (!pku())
        tcase_add_test(tests, records_are_not_protected_without_pku);
    add_pku_test(tests, second_call_changes_nothing);
    add_pku_test(tests, records_need_a_pkey);
    add_pku_loop_test(tests, refused_system_call_changes_nothing, 0, FAILURES * SKIPS);
    add_pku_test(tests, protected_records_without_memory_are_refused);
    tcase_add_test(tests, call_inside_the_library_is_refused);
}
