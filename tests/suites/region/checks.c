/* SPDX-License-Identifier: MIT */
/* pkeyguard_region_check(): whether a region's memory is still as the library made it. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "children.h"
#include "failing.h"
#include "place.h"
#include "test_region.h"
#include "worker.h"

static const unsigned kinds[] = {0, PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_VIRTUAL};
enum { KINDS = sizeof(kinds) / sizeof(*kinds) };

static void assert_intact(struct pkeyguard_region *region)
{
    void *untouched = &region, *address = untouched;

    ck_assert_int_eq(pkeyguard_region_check(region, 0, &address), 0);
    ck_assert_int_eq(pkeyguard_region_check(region, PKEYGUARD_CHECK_REPAIR, &address), 0);
    ck_assert_ptr_eq(address, untouched);
}

static void assert_found(struct pkeyguard_region *region, unsigned flags, int error,
                         const void *address)
{
    void *found = NULL;

    ck_assert_int_eq(pkeyguard_region_check(region, flags, &found), error);
    ck_assert_ptr_eq(found, address);
}

/* Whatever the library itself does with a region. */
START_TEST(region_is_intact_until_other_code_changes_it)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, kinds[_i % KINDS]);
    struct pkeyguard_region *region = region_with_flags(key, 3 * PAGE_BYTES, each_flag[_i / KINDS]);
    struct pkeyguard_region *end_aligned =
        region_with_flags(key, 100, PKEYGUARD_REGION_END_ALIGNED);
    static const int prots[] = {PROT_NONE, PROT_READ, PROT_WRITE, PAGE_RW};

    assert_intact(region);
    assert_intact(end_aligned);
    pkeyguard_scoped_read (char, bytes, region) {
        assert_intact(region);
        pkeyguard_scoped_write (char, same, region) {
            *same = 's';
            assert_intact(region);
        }
        ck_assert_int_eq(*bytes, 's');
    }
    assert_intact(region);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pkeyguard_region_protect(region, prots[i]), 0);
        ck_assert_int_eq(pkeyguard_region_protect(end_aligned, prots[i]), 0);
        assert_intact(region);
        assert_intact(end_aligned);
        pkeyguard_scoped_key_read (guard, key) {
            assert_intact(region);
            assert_intact(end_aligned);
        }
    }
    ck_assert_int_eq(pkeyguard_region_associate(region, NULL), 0);
    assert_intact(region);
    pkeyguard_scoped_read (char, bytes, region) {
        ck_assert_int_eq(*bytes, 's');
        assert_intact(region);
    }
    destroy(end_aligned, NULL);
    destroy(region, key);
}
END_TEST

/* A heap's region has a guard page inside it. One that is adopted has none, and other neighbours.
 */
START_TEST(heaps_and_adopted_memory_are_intact)
{
    char *memory = mmap(NULL, 3 * PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, kinds[_i]);
    struct pkeyguard_region *adopted;
    struct pkeyguard_heap *heaps[2];

    for (int i = 0; i < 2; i++) {
        unsigned flags = i == 0 ? 0 : PKEYGUARD_REGION_LOCKED;

        ck_assert_int_eq(pkeyguard_heap_create(key, 1 << 20, flags, &heaps[i]), 0);
        ck_assert_ptr_nonnull(pkeyguard_heap_alloc(heaps[i], 100));
        assert_intact(pkeyguard_heap_region(heaps[i]));
        pkeyguard_scoped_key_read (guard, key) {
            assert_intact(pkeyguard_heap_region(heaps[i]));
        }
    }
    ck_assert_int_eq(
        pkeyguard_region_adopt(key, memory + PAGE_BYTES, PAGE_BYTES, PROT_READ, 0, &adopted), 0);
    assert_intact(adopted);
    ck_assert_int_eq(munmap(memory, PAGE_BYTES), 0);
    assert_intact(adopted);
    destroy(adopted, NULL);
    munmap(memory + PAGE_BYTES, 2 * PAGE_BYTES);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pkeyguard_heap_destroy(heaps[i]), 0);
    destroy(NULL, key);
}
END_TEST

/* More virtual keys than pkeys, so that some have none. */
START_TEST(regions_of_virtual_keys_are_intact)
{
    enum { KEYS = 20 };
    struct pkeyguard_key *keys[KEYS];
    struct pkeyguard_region *regions[KEYS];

    for (int i = 0; i < KEYS; i++) {
        keys[i] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
        regions[i] = new_region(keys[i]);
        pkeyguard_scoped_write (int, number, regions[i]) {
            *number = i;
            for (int j = 0; j <= i; j++)
                assert_intact(regions[j]);
        }
    }
    for (int i = 0; i < KEYS; i++)
        destroy(regions[i], keys[i]);
}
END_TEST

/* What other code may do to a page. */
static void read_only(void *page)
{
    ck_assert_int_eq(mprotect(page, PAGE_BYTES, PROT_READ), 0);
}

static void inaccessible(void *page)
{
    ck_assert_int_eq(mprotect(page, PAGE_BYTES, PROT_NONE), 0);
}

static void executable(void *page)
{
    ck_assert_int_eq(mprotect(page, PAGE_BYTES, PAGE_RW | PROT_EXEC), 0);
}

static void without_pkey(void *page)
{
    ck_assert_int_eq(pkey_mprotect(page, PAGE_BYTES, PAGE_RW, 0), 0);
}

static void with_another_pkey(void *page)
{
    int pkey = pkey_alloc(0, 0);

    ck_assert_int_gt(pkey, 0);
    ck_assert_int_eq(pkey_mprotect(page, PAGE_BYTES, PAGE_RW, pkey), 0);
}

static void replaced(void *page)
{
    ck_assert_ptr_eq(
        mmap(page, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), page);
}

static void unmapped(void *page)
{
    ck_assert_int_eq(munmap(page, PAGE_BYTES), 0);
}

static const struct {
    void (*change)(void *page);
    bool for_pku, for_mprotect; /* where it makes a difference to a closed region */
} changes[] = {
    {read_only, true, true},     {inaccessible, true, false},      {executable, true, true},
    {without_pkey, true, false}, {with_another_pkey, true, false}, {replaced, true, true},
    {unmapped, true, true},
};
enum { CHANGES = sizeof(changes) / sizeof(*changes) };

static bool makes_a_difference(int change)
{
    return pku() ? changes[change].for_pku : changes[change].for_mprotect;
}

/* Each of a region's pages, the guard pages too, is found, and closed again. */
START_TEST(changed_page_is_found_and_repaired)
{
    unsigned more_flags = _i % 2 == 0 ? 0 : PKEYGUARD_REGION_LOCKED; /* guard pages apart */
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);

    for (int page = -1; makes_a_difference(_i / 2) && page <= 3; page++) {
        struct pkeyguard_region *region = region_with_flags(key, 3 * PAGE_BYTES, more_flags);
        char *changed = address_of(region) + page * PAGE_BYTES;
        void (*change)(void *) = changes[_i / 2].change;
        bool is_guard = page < 0 || page == 3;

        /* These are what such a guard page is. */
        if (is_guard && !guard_pages_inside(more_flags) &&
            (change == inaccessible || change == without_pkey || change == with_another_pkey))
            change = replaced;
        change(changed);
        assert_found(region, 0, -ESTALE, changed);
        ck_assert_int_eq(pkeyguard_region_check(region, 0, NULL), -ESTALE);
        assert_found(region, PKEYGUARD_CHECK_REPAIR, -ESTALE, changed);
        if (change == unmapped) {
            assert_found(region, PKEYGUARD_CHECK_REPAIR, -ESTALE, changed);
            replaced(changed); /* for destroy */
            ck_assert_int_eq(pkeyguard_region_check(region, PKEYGUARD_CHECK_REPAIR, NULL), -ESTALE);
        }
        assert_intact(region);
        if (!is_guard) {
            assert_denied(READ_BYTE, changed, key);
            pkeyguard_scoped_write (char, bytes, region) {
                bytes[page * PAGE_BYTES] = 'w';
                assert_allowed(WRITE_BYTE, changed);
            }
        }
        assert_denied(READ_BYTE, address_of(region), key);
        ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    }
    destroy(NULL, key);
}
END_TEST

/* Before and behind the guard page between a heap's objects and its metadata, and that page. */
START_TEST(changed_page_of_a_heap_is_found_and_repaired)
{
    unsigned flags = _i == 0 ? 0 : PKEYGUARD_REGION_LOCKED; /* the guard page apart */
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region;
    struct pkeyguard_heap *heap;
    char *objects, *end;

    ck_assert_int_eq(pkeyguard_heap_create(key, 1 << 20, flags, &heap), 0);
    region = pkeyguard_heap_region(heap);
    objects = address_of(region);
    end = objects + pkeyguard_region_size(region);
    for (char *page = objects; page <= end + PAGE_BYTES;
         page = page == objects ? end - PAGE_BYTES : page + PAGE_BYTES) {
        executable(page);
        assert_found(region, PKEYGUARD_CHECK_REPAIR, -ESTALE, page);
        assert_intact(region);
    }
    ck_assert_int_eq(pkeyguard_heap_destroy(heap), 0);
    destroy(NULL, key);
}
END_TEST

START_TEST(first_of_several_changes_is_reported_and_all_are_repaired)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = region_with_flags(key, 8 * PAGE_BYTES, 0);
    char *start = address_of(region);

    replaced(start + 2 * PAGE_BYTES);
    unmapped(start + 4 * PAGE_BYTES);
    replaced(start + 6 * PAGE_BYTES);
    replaced(start + 7 * PAGE_BYTES);
    assert_allowed(WRITE_BYTE, start + 6 * PAGE_BYTES);
    assert_found(region, PKEYGUARD_CHECK_REPAIR, -ESTALE, start + 2 * PAGE_BYTES);
    assert_denied(READ_BYTE, start + 2 * PAGE_BYTES, key);
    assert_denied(WRITE_BYTE, start + 6 * PAGE_BYTES, key);
    assert_denied(WRITE_BYTE, start + 7 * PAGE_BYTES, key);
    assert_found(region, 0, -ESTALE, start + 4 * PAGE_BYTES);
    replaced(start + 4 * PAGE_BYTES);
    destroy(region, key);
}
END_TEST

/* A write to the slack while the region is open. */
static void damage(struct pkeyguard_region *region, int before)
{
    char *start = address_of(region);

    pkeyguard_scoped_write (char, bytes, region) {
        start[-before] = *bytes;
    }
}

START_TEST(damaged_slack_is_found_and_repaired)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, kinds[_i]);
    struct pkeyguard_region *region = region_with_flags(key, 100, PKEYGUARD_REGION_END_ALIGNED);
    char *start = address_of(region);

    damage(region, 1);
    assert_found(region, 0, -EUCLEAN, start - 1);
    damage(region, 3996);
    assert_found(region, 0, -EUCLEAN, start - 3996);
    /* Where nobody can look, or write. */
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_NONE), 0);
    ck_assert_int_eq(pkeyguard_region_check(region, PKEYGUARD_CHECK_REPAIR, NULL), 0);
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_READ), 0);
    assert_found(region, PKEYGUARD_CHECK_REPAIR, -EUCLEAN, start - 3996);
    ck_assert_int_eq(pkeyguard_region_protect(region, PAGE_RW), 0);
    assert_found(region, PKEYGUARD_CHECK_REPAIR, -EUCLEAN, start - 3996);
    assert_intact(region);
    assert_denied(READ_BYTE, start - 1, key);
    /* A page that was replaced has no pattern. */
    replaced(start - 3996);
    assert_found(region, 0, -ESTALE, start - 3996);
    assert_found(region, PKEYGUARD_CHECK_REPAIR, -ESTALE, start - 3996);
    assert_intact(region);
    destroy(region, key);
}
END_TEST

/* The library's own, of src/pkru/bits.h. */
extern bool pages_can_carry_pkeys(void);

START_TEST(bad_arguments_and_failures_of_a_check)
{
    static const struct {
        int from_kernel, expected;
    } errors[] = {{ENOENT, -ENOTSUP}, {EACCES, -EACCES}, {EMFILE, -ENOMEM}, {ENOSYS, -EACCES}};
    struct pkeyguard_region *region = new_region(NULL);
    void *untouched = &region, *address = untouched;

    ck_assert_int_eq(pkeyguard_region_check(NULL, 0, &address), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_check(region, 2, &address), -EINVAL);
    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
        fail_call(CALL_OPENAT, 0, errors[i].from_kernel, 1);
        ck_assert_int_eq(pkeyguard_region_check(region, 0, &address), errors[i].expected);
        ck_assert(stop_failing());
    }
    ck_assert_ptr_eq(address, untouched);
    /* A repair that the kernel refuses. */
    replaced(address_of(region));
    fail_call(pages_can_carry_pkeys() ? CALL_PKEY_MPROTECT : CALL_MPROTECT, 0, EACCES, 1);
    assert_found(region, PKEYGUARD_CHECK_REPAIR, -ESTALE, address_of(region));
    ck_assert(stop_failing());
    assert_found(region, PKEYGUARD_CHECK_REPAIR, -ESTALE, address_of(region));
    assert_intact(region);
    destroy(region, NULL);
}
END_TEST

static int check_in_child(void *region)
{
    void *address = NULL;

    if (pkeyguard_region_check(region, PKEYGUARD_CHECK_REPAIR, &address) != -ESTALE)
        return 1;
    return address == pkeyguard_region_unsafe_address(region) ? 0 : 2;
}

START_TEST(fork_child_without_the_memory_finds_it_gone)
{
    struct pkeyguard_region *region = region_with_flags(NULL, 1, PKEYGUARD_REGION_NO_FORK);

    ck_assert_int_eq(run_as_child(BY_FORK, check_in_child, region), 0);
    assert_intact(region);
    destroy(region, NULL);
}
END_TEST

static struct user {
    struct worker worker;
    struct pkeyguard_region *region;
    struct pkeyguard_guard guard;
} user;

static void open_region(void *unused)
{
    (void)unused;
    ck_assert_int_eq(pkeyguard_acquire(user.region, PKEYGUARD_READ_WRITE, &user.guard), 0);
}

static void close_region(void *unused)
{
    (void)unused;
    pkeyguard_release(&user.guard);
}

/* Runs after the check has noted how the region should be, and before it asks the kernel. */
static void open_elsewhere(void *unused, unsigned long unused_too)
{
    (void)unused, (void)unused_too;
    begin_on(&user.worker, open_region, NULL);
    wait_until_blocked(&user.worker);
}

START_TEST(region_is_intact_while_another_thread_opens_it)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, kinds[_i]);

    user.region = new_region(key);
    start_worker(&user.worker);
    before_call(CALL_OPENAT, open_elsewhere);
    ck_assert_int_eq(pkeyguard_region_check(user.region, 0, NULL), 0);
    wait_for(&user.worker);
    assert_intact(user.region);
    run_on(&user.worker, close_region, NULL);
    end_worker(&user.worker);
    destroy(user.region, key);
}
END_TEST

void add_checks(Suite *suite)
{
    TCase *tests = add_case(suite, "checks", NULL, NULL);

    tcase_add_loop_test(tests, region_is_intact_until_other_code_changes_it, 0,
                        KINDS * supported_flags());
    tcase_add_loop_test(tests, heaps_and_adopted_memory_are_intact, 0, KINDS);
    tcase_add_test(tests, regions_of_virtual_keys_are_intact);
    tcase_add_loop_test(tests, changed_page_is_found_and_repaired, 0, 2 * CHANGES);
    tcase_add_loop_test(tests, changed_page_of_a_heap_is_found_and_repaired, 0, 2);
    tcase_add_test(tests, first_of_several_changes_is_reported_and_all_are_repaired);
    tcase_add_loop_test(tests, damaged_slack_is_found_and_repaired, 0, KINDS);
    tcase_add_test(tests, bad_arguments_and_failures_of_a_check);
    tcase_add_test(tests, fork_child_without_the_memory_finds_it_gone);
    tcase_add_loop_test(tests, region_is_intact_while_another_thread_opens_it, 0, KINDS);
}
