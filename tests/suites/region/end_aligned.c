/* SPDX-License-Identifier: MIT */
/* PKEYGUARD_REGION_END_ALIGNED: the data ends at the guard page, behind slack with a pattern. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "test_region.h"

enum { END = PKEYGUARD_REGION_END_ALIGNED };

static const struct {
    size_t size, alignment;
} sizes[] = {{1, 1},    {4, 4},       {100, 4},
             {4095, 1}, {2048, 2048}, {PAGE_BYTES, PAGE_BYTES},
             {5000, 8}, {6144, 2048}, {(2 << 20) + 24, 8}};
enum { SIZES = sizeof(sizes) / sizeof(*sizes) };

/* FORK_WIPE, which it does not combine with, is left out. */
static unsigned combined_flag(int flag)
{
    return each_flag[flag] & PKEYGUARD_REGION_FORK_WIPE ? 0 : each_flag[flag];
}

static void assert_end_is_guarded(const struct pkeyguard_region *region, unsigned flags, bool open)
{
    const char *end = address_of(region) + pkeyguard_region_size(region);

    for (enum access access = READ_BYTE; access <= WRITE_BYTE; access++) {
        if (!guard_pages_inside(flags))
            assert_page_denied(access, end);
        else if (open)
            assert_fault_(access, end, SEGV_MAPERR, -1);
        else
            assert_denied(access, end, pkeyguard_region_key(region));
    }
}

START_TEST(first_byte_past_the_end_faults)
{
    static const unsigned kinds[] = {0, PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_VIRTUAL};
    unsigned flag = combined_flag(_i / 3);
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, kinds[_i % 3]);
    struct resources before = count_resources();

    for (int i = 0; i < SIZES; i++) {
        size_t size = sizes[i].size;
        struct pkeyguard_region *region = region_with_flags(key, size, END | flag);
        char *start = address_of(region);

        ck_assert_uint_eq(pkeyguard_region_size(region), size);
        ck_assert_uint_eq((uintptr_t)start % PAGE_BYTES, -size % PAGE_BYTES);
        ck_assert_uint_eq((uintptr_t)start % sizes[i].alignment, 0);
        assert_end_is_guarded(region, flag, false);
        pkeyguard_scoped_write (char, bytes, region) {
            ck_assert_ptr_eq(bytes, start);
            assert_allowed(WRITE_BYTE, &bytes[0]);
            assert_allowed(WRITE_BYTE, &bytes[size - 1]);
            assert_end_is_guarded(region, flag, true);
        }
        assert_denied(WRITE_BYTE, start + size - 1, key);
        assert_denied(READ_BYTE, start, key);
        ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    }
    assert_resources(before);
    destroy(NULL, key);
}
END_TEST

START_TEST(content_is_at_the_end)
{
    static const char content[4100] = {[0] = 'c', [4099] = 't'};
    struct pkeyguard_region *region;
    char bytes[4] = "....";

    ck_assert_int_eq(
        pkeyguard_region_create_with(NULL, content, sizeof(content), PROT_READ, END, &region), 0);
    ck_assert_int_eq(pkeyguard_region_prot(region), PROT_READ);
    pkeyguard_scoped_read (char[sizeof(content)], same, region) {
        ck_assert_mem_eq(*same, content, sizeof(content));
    }
    ck_assert_int_eq(pkeyguard_region_read(region, 4099, bytes, 1), 0);
    ck_assert_int_eq(bytes[0], 't');
    ck_assert_int_eq(pkeyguard_region_read(region, 4099, bytes, 2), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_protect(region, PAGE_RW), 0);
    ck_assert_int_eq(pkeyguard_region_write(region, 0, "", 1), 0);
    ck_assert_int_eq(pkeyguard_region_write(region, 4100, "", 1), -EINVAL);
    ck_assert_ptr_eq(pkeyguard_region_of(address_of(region) - 1), region);
    destroy(region, NULL);
}
END_TEST

struct aligned_to_64 {
    char byte;
} __attribute__((aligned(64)));

/* A try form with a scope of this type opens, or fails with EINVAL. */
#define assert_try(opens, T, form, ...)                 \
    do {                                                \
        int error_ = 0;                                 \
        form(T, name, __VA_ARGS__)                      \
        {                                               \
            ck_assert_ptr_nonnull(name);                \
        }                                               \
        else                                            \
        {                                               \
            error_ = errno;                             \
        }                                               \
        ck_assert_int_eq(error_, (opens) ? 0 : EINVAL); \
    } while (0)
#define assert_reads(opens, T, region)  assert_try(opens, T, pkeyguard_try_scoped_read, region)
#define assert_writes(opens, T, region) assert_try(opens, T, pkeyguard_try_scoped_write, region)
#define assert_reads_at(opens, T, region, pointer) \
    assert_try(opens, T, pkeyguard_try_scoped_read_at, region, pointer)

START_TEST(scope_of_a_type_that_needs_more_alignment_fails)
{
    static const unsigned kinds[] = {0, PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_VIRTUAL};
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, kinds[_i]);
    struct pkeyguard_region *region = region_with_flags(key, 100, END);
    struct pkeyguard_region *page = region_with_flags(key, PAGE_BYTES, END);
    struct pkeyguard_region *plain = region_with_flags(key, 100, 0);
    struct pkeyguard_guard guard;

    assert_reads(true, char, region);
    assert_reads(true, char[100], region);
    assert_reads(false, char[101], region);
    assert_writes(true, int[25], region);
    assert_reads(false, int64_t, region);
    assert_writes(false, int64_t[2], region);
    assert_writes(false, struct aligned_to_64, region);
    /* Where an object is inside it, the object's place counts. */
    assert_reads_at(true, int64_t, region, address_of(region) + 4);
    assert_reads_at(false, int64_t, region, address_of(region) + 8);
    assert_reads_at(true, int64_t, region, address_of(region) + 92);
    assert_reads_at(false, int, region, address_of(region) + 100);
    assert_reads_at(false, char, region, address_of(region) - 1);
    assert_writes(true, struct aligned_to_64, page);
    assert_writes(true, struct aligned_to_64, plain);
    assert_denied(READ_BYTE, address_of(region), key);
    /* A guard has no type. */
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &guard), 0);
    assert_allowed(READ_BYTE, address_of(region) + 99);
    pkeyguard_release(&guard);
    assert_denied(READ_BYTE, address_of(region), key);
    destroy(page, NULL);
    destroy(plain, NULL);
    destroy(region, key);
}
END_TEST

/* Of the scope below. */
enum { UNALIGNED_LINE = __LINE__ + 3 };
static void open_unaligned(void *region)
{
    pkeyguard_scoped_write (int64_t, number, region) {
        *number = 1;
    }
}

START_TEST(scope_that_is_not_aligned_aborts)
{
    struct pkeyguard_region *region = region_with_flags(NULL, 100, END);
    char line[300];

    snprintf(
        line, sizeof(line),
        "libpkeyguard: %s:%d: cannot open a write scope: the type is larger than the region or "
        "needs more alignment, the object is not inside it, or the rights are unknown\n",
        __FILE__, UNALIGNED_LINE);
    assert_aborts(open_unaligned, region, line);
    destroy(region, NULL);
}
END_TEST

/* How far before its start the region is overwritten, and what destroy says of it. */
static const struct {
    int before, length;
    const char *name, *said;
} damages[] = {
    {1, 1, "keys", "region 'keys' was overwritten, from 1 byte"},
    {4, 4, NULL, "a region without a name was overwritten, from 4 bytes"},
    {3996, 1, "keys", "region 'keys' was overwritten, from 3996 bytes"},
    {2000, 2000, "keys", "region 'keys' was overwritten, from 2000 bytes"},
};
enum { DAMAGES = sizeof(damages) / sizeof(*damages) };

static struct damaged {
    struct pkeyguard_region *region;
    int number;
} damaged;

static void damage_and_destroy(void *unused)
{
    char *start = address_of(damaged.region);

    (void)unused;
    pkeyguard_scoped_write (char, bytes, damaged.region) {
        memset(start - damages[damaged.number].before, *bytes,
               (size_t)damages[damaged.number].length);
    }
    (void)!pkeyguard_region_destroy(damaged.region);
}

/* What overwrites it is zeros. */
START_TEST(damaged_slack_aborts_destroy)
{
    static const unsigned kinds[] = {0, PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_VIRTUAL};
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, kinds[_i % 3]);
    struct pkeyguard_region *region = region_with_flags(key, 100, END);
    char line[200];

    damaged = (struct damaged){.region = region, .number = _i / 3};
    if (damages[damaged.number].name != NULL)
        ck_assert_int_eq(pkeyguard_region_name(region, damages[damaged.number].name), 0);
    snprintf(line, sizeof(line), "libpkeyguard: the slack of %s before its start\n",
             damages[damaged.number].said);
    assert_aborts(damage_and_destroy, NULL, line);
    /* This process's region is intact, also after changes of page rights and key. */
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_NONE), 0);
    ck_assert_int_eq(pkeyguard_region_associate(region, NULL), 0);
    destroy(region, key);
}
END_TEST

START_TEST(slack_differs_from_zeros_and_from_its_neighbours)
{
    struct pkeyguard_region *region = region_with_flags(NULL, 1, END);

    pkeyguard_scoped_read (char, bytes, region) {
        for (int i = 1; i < PAGE_BYTES; i++) {
            ck_assert_int_ne(bytes[-i], 0);
            ck_assert(i == 1 || bytes[-i] != bytes[1 - i]);
        }
    }
    destroy(region, NULL);
}
END_TEST

void add_end_aligned(Suite *suite)
{
    TCase *tests = add_case(suite, "end aligned", NULL, NULL);

    tcase_add_loop_test(tests, first_byte_past_the_end_faults, 0, 3 * supported_flags());
    tcase_add_test(tests, content_is_at_the_end);
    tcase_add_loop_test(tests, scope_of_a_type_that_needs_more_alignment_fails, 0, 3);
    tcase_add_test(tests, scope_that_is_not_aligned_aborts);
    tcase_add_loop_test(tests, damaged_slack_aborts_destroy, 0, 3 * DAMAGES);
    tcase_add_test(tests, slack_differs_from_zeros_and_from_its_neighbours);
}
