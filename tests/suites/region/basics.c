/* SPDX-License-Identifier: MIT */
/* Creating, naming, moving and destroying regions. */
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "failing.h"
#include "place.h"
#include "test_region.h"

START_TEST(create_with_fills_the_region)
{
    static const char content[5000] = "content";
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region;

    ck_assert_int_eq(
        pkeyguard_region_create_with(key, content, sizeof(content), PROT_READ, 0, &region), 0);
    ck_assert_uint_eq(pkeyguard_region_size(region), sizeof(content));
    ck_assert_int_eq(pkeyguard_region_prot(region), PROT_READ);
    assert_denied(READ_BYTE, address_of(region), key);
    pkeyguard_scoped_read (char[sizeof(content)], bytes, region) {
        ck_assert_mem_eq(*bytes, content, sizeof(content));
        assert_denied(WRITE_BYTE, *bytes, key);
        pkeyguard_scoped_write (char[sizeof(content)], same, region) {
            assert_page_denied(WRITE_BYTE, *same);
        }
    }
    destroy(region, key);
}
END_TEST

START_TEST(region_without_a_key_is_enforced_by_mprotect)
{
    struct resources before = count_resources();
    struct pkeyguard_region *region = new_region(NULL);

    ck_assert_int_eq(count_resources().pkeys, before.pkeys);
    ck_assert_ptr_null(pkeyguard_region_key(region));
    ck_assert_ptr_null(pkeyguard_region_address(region));
    assert_page_denied(READ_BYTE, address_of(region));
    pkeyguard_scoped_write (int, number, region) {
        *number = 5;
    }
    assert_page_denied(WRITE_BYTE, address_of(region));
    pkeyguard_scoped_read (int, number, region) {
        ck_assert_int_eq(*number, 5);
        assert_page_denied(WRITE_BYTE, number);
    }
    assert_page_denied(READ_BYTE, address_of(region));
    destroy(region, NULL);
    assert_resources(before);
}
END_TEST

START_TEST(new_memory_is_zero)
{
    static const char zero[3 * PAGE_BYTES];
    struct pkeyguard_region *region;
    cpu_set_t second;

    /*
     * On CPU 1, if there is one: creation may have getcpu(2) write the CPU's number to the memory,
     * and 0 would not show.
     */
    CPU_ZERO(&second);
    CPU_SET(1, &second);
    sched_setaffinity(0, sizeof(second), &second);
    region = region_with_flags(NULL, sizeof(zero), each_flag[_i]);
    pkeyguard_scoped_read (char[sizeof(zero)], bytes, region) {
        ck_assert_mem_eq(*bytes, zero, sizeof(zero));
    }
    destroy(region, NULL);
}
END_TEST

START_TEST(bad_arguments_create_nothing)
{
    static const struct {
        size_t size;
        int prot;
        unsigned flags;
    } bad[] = {
        {0, PAGE_RW, 0},
        {SIZE_MAX, PAGE_RW, 0},
        {SIZE_MAX - PAGE_BYTES + 2, PAGE_RW, 0},
        {SIZE_MAX - PAGE_BYTES + 1, PAGE_RW, 0}, /* whole pages, but no room for guard pages */
        {1, 8, 0},
        {1, -1, 0},
        {1, PAGE_RW, 1u << 31},
        {1, PAGE_RW, 512},
        {1, PAGE_RW, PKEYGUARD_REGION_END_ALIGNED | PKEYGUARD_REGION_NO_GUARD_PAGES},
        {1, PAGE_RW, PKEYGUARD_REGION_END_ALIGNED | PKEYGUARD_REGION_FORK_WIPE},
        {1, PAGE_RW, PKEYGUARD_REGION_FORK_WIPE | PKEYGUARD_REGION_NO_FORK},
        {1, PAGE_RW, PKEYGUARD_REGION_FORK_WIPE | PKEYGUARD_REGION_SECRET},
        {1, PAGE_RW, PKEYGUARD_REGION_SECRET | PKEYGUARD_REGION_DUMPABLE},
        {1, PAGE_RW, PKEYGUARD_REGION_SECRET | PKEYGUARD_REGION_HUGE_PAGES},
        {0, PAGE_RW, PKEYGUARD_REGION_LOCKED},
    };
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct resources before = count_resources();
    struct pkeyguard_region *untouched = (struct pkeyguard_region *)&before, *region = untouched;

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        ck_assert_int_eq(
            pkeyguard_region_create(key, bad[i].size, bad[i].prot, bad[i].flags, &region), -EINVAL);
        ck_assert_int_eq(
            pkeyguard_region_create_with(key, "x", bad[i].size, bad[i].prot, bad[i].flags, &region),
            -EINVAL);
    }
    ck_assert_int_eq(pkeyguard_region_create_with(key, NULL, 1, PAGE_RW, 0, &region), -EINVAL);
    /* More than the address space. */
    ck_assert_int_eq(pkeyguard_region_create(key, SIZE_MAX / 2, PAGE_RW, 0, &region), -ENOMEM);
    ck_assert_ptr_eq(region, untouched);
    assert_resources(before);
    destroy(NULL, key);
}
END_TEST

START_TEST(null_region_is_refused_or_ignored)
{
    ck_assert_int_eq(pkeyguard_region_destroy(NULL), 0);
    ck_assert_int_eq(pkeyguard_region_associate(NULL, NULL), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_name(NULL, "name"), -EINVAL);
    ck_assert_uint_eq(pkeyguard_region_size(NULL), 0);
    ck_assert_int_eq(pkeyguard_region_prot(NULL), PROT_NONE);
    ck_assert_ptr_null(pkeyguard_region_key(NULL));
    ck_assert_ptr_null(pkeyguard_region_address(NULL));
    ck_assert_ptr_null(pkeyguard_region_unsafe_address(NULL));
}
END_TEST

START_TEST(address_is_given_for_readable_defaults_only)
{
    static const enum pkeyguard_rights defaults[] = {PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY,
                                                     PKEYGUARD_READ_WRITE};
    struct pkeyguard_key *key = new_key(defaults[_i], 0);
    struct pkeyguard_region *region = new_region(key);

    ck_assert_ptr_eq(pkeyguard_region_key(region), key);
    ck_assert_ptr_eq(pkeyguard_region_address(region), _i == 0 ? NULL : address_of(region));
    destroy(region, key);
}
END_TEST

/* The content stays intact; at each step only the key of the last step opens the region. */
START_TEST(region_moves_between_keys)
{
    struct pkeyguard_key *first = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_key *second = new_key(PKEYGUARD_NO_ACCESS, _i);
    struct pkeyguard_key *steps[] = {second, NULL, first, first, second, first, NULL, NULL, second};
    struct resources before = count_resources();
    struct pkeyguard_region *region = new_region(first);
    struct pkeyguard_guard guard;

    pkeyguard_scoped_write (int, number, region) {
        *number = 9;
    }
    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
        struct pkeyguard_key *other = steps[i] == first ? second : first;

        ck_assert_int_eq(pkeyguard_region_associate(region, steps[i]), 0);
        ck_assert_ptr_eq(pkeyguard_region_key(region), steps[i]);
        assert_denied(READ_BYTE, address_of(region), steps[i]);
        ck_assert_int_eq(pkeyguard_key_acquire(other, PKEYGUARD_READ_WRITE, &guard), 0);
        assert_denied(READ_BYTE, address_of(region), steps[i]);
        pkeyguard_release(&guard);
        pkeyguard_scoped_write (int, number, region) {
            ck_assert_int_eq(*number, 9);
        }
        assert_denied(WRITE_BYTE, address_of(region), steps[i]);
        if (pku()) {
            int number = pkeyguard_key_number(steps[i]);

            ck_assert_int_eq(pkey_of_mapping(address_of(region)), number < 0 ? 0 : number);
        }
    }
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    assert_resources(before);
    destroy(NULL, first);
    destroy(NULL, second);
}
END_TEST

START_TEST(region_joins_an_open_key)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = new_region(NULL);
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &guard), 0);
    ck_assert_int_eq(pkeyguard_region_associate(region, key), 0);
    assert_allowed(READ_BYTE, address_of(region));
    assert_denied(WRITE_BYTE, address_of(region), key);
    pkeyguard_release(&guard);
    assert_denied(READ_BYTE, address_of(region), key);
    destroy(region, key);
}
END_TEST

START_TEST(region_with_an_open_guard_is_not_moved_or_destroyed)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = new_region(NULL);
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &guard), 0);
    ck_assert_int_eq(pkeyguard_region_associate(region, key), -EBUSY);
    ck_assert_int_eq(pkeyguard_region_destroy(region), -EBUSY);
    ck_assert_ptr_null(pkeyguard_region_key(region));
    assert_allowed(READ_BYTE, address_of(region));
    pkeyguard_release(&guard);
    destroy(region, key);
}
END_TEST

/* From <linux/prctl.h>, a kernel header, which musl-gcc does not find. */
#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static bool kernel_shows_names(void)
{
    void *page = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool shows = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, page, PAGE_BYTES, "name") == 0;

    munmap(page, PAGE_BYTES);
    return shows;
}

static void assert_named(const struct pkeyguard_region *region, const char *name)
{
    char line[512];

    read_smaps(address_of(region), NULL, line, sizeof(line));
    ck_assert_msg(strstr(line, kernel_shows_names() ? name : "") != NULL, "%s", line);
}

START_TEST(name_shows_in_maps)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = new_region(key);
    static const char *const bad[] = {"", "\t", "caf\xc3\xa9", "[", "]", "a\\b", "$a", "`", "\x7f"};
    char longest[65] = {0};

    memset(longest, 'x', 64);
    ck_assert_int_eq(pkeyguard_region_name(region, longest), -EINVAL);
    longest[63] = '\0';
    ck_assert_int_eq(pkeyguard_region_name(region, longest), 0);
    ck_assert_int_eq(pkeyguard_region_name(region, "session keys"), 0);
    assert_named(region, "[anon:session keys]");
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        ck_assert_int_eq(pkeyguard_region_name(region, bad[i]), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_name(region, NULL), -EINVAL);
    assert_named(region, "[anon:session keys]");
    destroy(region, key);
}
END_TEST

static int is_wiped; /* -1: not known yet */

/* Runs before munmap(2): makes the content readable, and looks at it. */
static void check_content_before_munmap(void *address, unsigned long length)
{
    const char *content = (char *)address + PAGE_BYTES;

    if (pku())
        ck_assert_int_eq(pkey_mprotect(address, length, PROT_READ, 0), 0);
    else
        ck_assert_int_eq(mprotect(address, length, PROT_READ), 0);
    is_wiped = 1;
    for (unsigned long i = 0; i < length - 2 * PAGE_BYTES; i++)
        is_wiped = is_wiped && content[i] == 0;
}

START_TEST(destroy_wipes_the_content)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region;
    static const char secret[6000] = {[0] = 's', [5999] = 's'};

    ck_assert_int_eq(pkeyguard_region_create_with(key, secret, sizeof(secret), _i % 4,
                                                  each_flag[_i / 4], &region),
                     0);
    is_wiped = -1;
    before_call(CALL_MUNMAP, check_content_before_munmap);
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    ck_assert_int_eq(is_wiped, 1);
    destroy(NULL, key);
}
END_TEST

/*
 * Surprise: a system call on closed memory gets EFAULT, not SIGSEGV. What it was to read is not
 * lost.
 */
START_TEST(system_call_on_a_closed_region_gets_efault)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = new_region(key);
    int pipe_ends[2];
    char byte = 0;

    ck_assert_int_eq(pipe(pipe_ends), 0);
    ck_assert_int_eq(write(pipe_ends[1], address_of(region), 1), -1);
    ck_assert_int_eq(errno, EFAULT);
    pkeyguard_scoped_write (char, secret, region) {
        *secret = 's';
        ck_assert_int_eq(write(pipe_ends[1], secret, 1), 1);
    }
    ck_assert_int_eq(read(pipe_ends[0], address_of(region), 1), -1);
    ck_assert_int_eq(errno, EFAULT);
    ck_assert_int_eq(read(pipe_ends[0], &byte, 1), 1);
    ck_assert_int_eq(byte, 's');
    destroy(region, key);
}
END_TEST

void add_basics(Suite *suite)
{
    TCase *tests = add_case(suite, "basics", NULL, NULL);

    tcase_add_test(tests, create_with_fills_the_region);
    tcase_add_loop_test(tests, new_memory_is_zero, 0, supported_flags());
    tcase_add_test(tests, region_without_a_key_is_enforced_by_mprotect);
    tcase_add_test(tests, bad_arguments_create_nothing);
    tcase_add_test(tests, null_region_is_refused_or_ignored);
    tcase_add_loop_test(tests, address_is_given_for_readable_defaults_only, 0, 3);
    /* The second key has no flag, then PKEYGUARD_KEY_SOFTWARE. */
    add_pku_loop_test(tests, region_moves_between_keys, 0, 1);
    tcase_add_loop_test(tests, region_moves_between_keys, 2, 3);
    tcase_add_test(tests, region_joins_an_open_key);
    tcase_add_test(tests, region_with_an_open_guard_is_not_moved_or_destroyed);
    tcase_add_test(tests, name_shows_in_maps);
    /* With page rights from PROT_NONE to PROT_READ | PROT_WRITE, for each flag. */
    tcase_add_loop_test(tests, destroy_wipes_the_content, 0, 4 * supported_flags());
    tcase_add_test(tests, system_call_on_a_closed_region_gets_efault);
}
