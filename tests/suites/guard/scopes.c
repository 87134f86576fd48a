/* SPDX-License-Identifier: MIT */
/* The scope macros. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "failing.h"
#include "test_guard.h"

START_TEST(scope_opens_and_closes)
{
    pkeyguard_scoped_write (int, number, region) {
        *number = 123;
        assert_open_for(PKEYGUARD_READ_WRITE, region);
        *number = 123;
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    pkeyguard_scoped_read (int, number, region) {
        ck_assert_int_eq(*number, 123);
        assert_open_for(PKEYGUARD_READ_ONLY, region);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(read_scope_inside_a_write_scope_changes_nothing)
{
    struct pkeyguard_region *second = new_region(key);

    pkeyguard_scoped_write (int, to, region) {
        pkeyguard_scoped_write (int, from, second) {
            *from = 77;
        }
        pkeyguard_scoped_read (int, from, second) {
            *to = *from;
        }
        *to += 1;
        ck_assert_int_eq(*to, 78);
    }
    pkeyguard_scoped_read (int, from, second) {
        pkeyguard_scoped_write (int, to, region) {
            *to = *from;
        }
        pkeyguard_scoped_read (int, to, region) {
            ck_assert_int_eq(*to, *from);
        }
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    assert_open_for(PKEYGUARD_NO_ACCESS, second);
    destroy(second, NULL);
}
END_TEST

static int return_from_a_scope(void)
{
    pkeyguard_scoped_read (int, number, region) {
        return *number;
    }
    return -1;
}

static int return_from_an_auto_guard(void)
{
    pkeyguard_auto_read(int, number, region);
    return *number;
}

START_TEST(every_way_out_of_a_scope_closes_it)
{
    int rounds = 0;

    pkeyguard_scoped_write (int, number, region) {
        *number = 5;
        if (rounds == 0)
            break;
        ck_abort_msg("break went on");
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    pkeyguard_scoped_write (int, number, region) {
        rounds += *number == 5;
        if (rounds == 1)
            continue;
        ck_abort_msg("continue went on");
    }
    ck_assert_int_eq(rounds, 1);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    for (rounds = 0; rounds < 3; rounds++) {
        pkeyguard_scoped_read (int, number, region) {
            if (*number == 5)
                goto out;
        }
    }
out:
    ck_assert_int_eq(rounds, 0);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    ck_assert_int_eq(return_from_a_scope(), 5);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    ck_assert_int_eq(return_from_an_auto_guard(), 5);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    {
        pkeyguard_auto_write(int, number, region);
        *number = 6;
        assert_open_for(PKEYGUARD_READ_WRITE, region);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

/*
 * The hidden names of two scopes on one line, or in one macro, do not clash: the build has -Wshadow
 * -Werror.
 */
#define copy_int(to_region, from_region)               \
    pkeyguard_scoped_write (int, to, to_region)        \
        pkeyguard_scoped_read (int, from, from_region) \
    *to = *from

START_TEST(scopes_nest_on_one_line)
{
    struct pkeyguard_region *second = new_region(NULL);

    pkeyguard_scoped_write (int, a, region)
        pkeyguard_scoped_write (int, b, second)
            *a = 3, *b = 4;
    copy_int(region, second);
    ck_assert_int_eq(return_from_a_scope(), 4);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    destroy(second, NULL);
}
END_TEST

START_TEST(scope_takes_any_type_and_an_unused_name)
{
    static int evaluated;

    pkeyguard_scoped_write (char *, string, region) {
        *string = (char *)"text";
    }
    pkeyguard_scoped_read (char *, string, region) {
        ck_assert_str_eq(*string, "text");
    }
    pkeyguard_scoped_write (int[4], numbers, region) {
        (*numbers)[3] = 9;
    }
    pkeyguard_scoped_read (int[4], numbers, region) {
        ck_assert_int_eq((*numbers)[3], 9);
    }
    pkeyguard_scoped_read (
        struct { int a; }, unused, (evaluated++, region)) {
    }
    {
        pkeyguard_auto_write(int (*)(void), also_unused, (evaluated++, region));
    }
    pkeyguard_try_scoped_read (int, unused, (evaluated++, region)) {
    }
    pkeyguard_scoped_restrict (narrow, (evaluated++, region), PKEYGUARD_READ_ONLY) {
    }
    ck_assert_int_eq(evaluated, 4);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(at_scope_takes_an_object_inside_the_region)
{
    int *last = (int *)(void *)(address + PAGE_BYTES) - 1;

    pkeyguard_scoped_write_at (int, number, region, last) {
        ck_assert_ptr_eq(number, last);
        *number = 1;
    }
    pkeyguard_scoped_read_at (int, number, region, last) {
        ck_assert_int_eq(*number, 1);
        assert_open_for(PKEYGUARD_READ_ONLY, region);
    }
    {
        pkeyguard_auto_write_at(int, number, region, last);
        ++*number;
    }
    {
        pkeyguard_auto_read_at(int, number, region, last);
        ck_assert_int_eq(*number, 2);
    }
    pkeyguard_try_scoped_write_at (int, number, region, last) {
        ++*number;
    } else {
        ck_abort();
    }
    pkeyguard_try_scoped_read_at (int, number, region, last) {
        ck_assert_int_eq(*number, 3);
    } else {
        ck_abort();
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(bytes_scope_takes_a_length_known_at_run_time)
{
    size_t page = PAGE_BYTES;
    int regions = 0, pointers = 0, lengths = 0;
    char *last = address + page - 3;

    pkeyguard_scoped_write_bytes (bytes, region, last, page % 7 + 2) {
        ck_assert_ptr_eq(bytes, last);
        memset(bytes, 0xff, 3);
        assert_open_for(PKEYGUARD_READ_WRITE, region);
    }
    pkeyguard_scoped_read_bytes (bytes, (regions++, region), (pointers++, last), (lengths++, 3)) {
        ck_assert_ptr_eq(bytes, last);
        ck_assert_int_eq(bytes[2], 255);
        assert_open_for(PKEYGUARD_READ_ONLY, region);
    }
    ck_assert(regions == 1 && pointers == 1 && lengths == 1);
    {
        pkeyguard_auto_write_bytes(bytes, region, address, page);
        pkeyguard_auto_read_bytes(same, region, last, 3);
        bytes[page - 1] = 7;
        ck_assert_int_eq(same[2], 7);
    }
    pkeyguard_try_scoped_write_bytes (bytes, region, address, page) {
        bytes[page - 1] = 8;
    } else {
        ck_abort();
    }
    /* Nothing, at the region's end. */
    pkeyguard_try_scoped_read_bytes (bytes, region, address + page, 0) {
        ck_assert_int_eq(bytes[-1], 8);
    } else {
        ck_abort();
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(try_scope_runs_its_else_branch)
{
    const char *outside[] = {address - 1, address + PAGE_BYTES - 3, address + PAGE_BYTES, NULL,
                             (const char *)UINTPTR_MAX};
    int refused = 0;

#define count_refusals(scope)                         \
    do {                                              \
        errno = 0;                                    \
        scope                                         \
        {                                             \
            ck_abort_msg("%s opened", #scope);        \
        }                                             \
        else                                          \
        {                                             \
            ck_assert_int_eq(errno, EINVAL);          \
            ck_assert_ptr_null(object);               \
            refused++;                                \
        }                                             \
        assert_open_for(PKEYGUARD_NO_ACCESS, region); \
    } while (0)
    count_refusals(pkeyguard_try_scoped_read (char[PAGE_BYTES + 1], object, region));
    count_refusals(pkeyguard_try_scoped_write (char[PAGE_BYTES + 1], object, region));
    count_refusals(pkeyguard_try_scoped_read (int, object, (struct pkeyguard_region *)NULL));
    for (size_t i = 0; i < 5; i++) {
        count_refusals(pkeyguard_try_scoped_read_at (int, object, region, outside[i]));
        count_refusals(pkeyguard_try_scoped_write_at (int, object, region, outside[i]));
    }
    for (size_t i = 0; i < 5; i++) {
        count_refusals(pkeyguard_try_scoped_read_bytes (object, region, outside[i], 4));
        count_refusals(pkeyguard_try_scoped_write_bytes (object, region, outside[i], 4));
    }
    count_refusals(pkeyguard_try_scoped_read_bytes (object, region, address, PAGE_BYTES + 1));
    count_refusals(pkeyguard_try_scoped_read_bytes (object, region, address + 1, SIZE_MAX));
    count_refusals(pkeyguard_try_scoped_read_bytes (object, region, address - 1, 0));
    ck_assert_int_eq(refused, 26);
    pkeyguard_try_scoped_write (char[PAGE_BYTES], object, region) {
        (*object)[PAGE_BYTES - 1] = 'x';
    } else {
        ck_abort();
    }
    pkeyguard_try_scoped_read (char[PAGE_BYTES], object, region) {
        ck_assert_int_eq((*object)[PAGE_BYTES - 1], 'x');
        break;
    } else {
        ck_abort();
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(key_and_restrict_scopes_open_and_narrow)
{
    struct pkeyguard_region *second = new_region(key);

    pkeyguard_scoped_key_write (writing, key) {
        assert_open_for(PKEYGUARD_READ_WRITE, region);
        assert_open_for(PKEYGUARD_READ_WRITE, second);
        pkeyguard_scoped_restrict (narrowed, region, PKEYGUARD_READ_ONLY) {
            assert_open_for(pku() ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE, region);
        }
        assert_open_for(PKEYGUARD_READ_WRITE, region);
    }
    pkeyguard_scoped_key_read (reading, key) {
        assert_open_for(PKEYGUARD_READ_ONLY, second);
        break;
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    assert_open_for(PKEYGUARD_NO_ACCESS, second);
    destroy(second, NULL);
}
END_TEST

static enum pkeyguard_rights narrower(enum pkeyguard_rights one, enum pkeyguard_rights other)
{
    return one < other ? one : other;
}

static enum pkeyguard_rights wider(enum pkeyguard_rights one, enum pkeyguard_rights other)
{
    return one > other ? one : other;
}

/*
 * With each default, inside each acquire guard: a restrict scope leaves at most the rights asked
 * for, another one inside changes nothing, and the end gives back what was taken.
 */
START_TEST(restrict_scope_gives_back_what_it_took)
{
    static const enum pkeyguard_rights rights[] = {PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY,
                                                   PKEYGUARD_READ_WRITE};
    enum pkeyguard_rights base = rights[_i / 9], acquired = rights[_i / 3 % 3],
                          asked = rights[_i % 3], open = wider(base, acquired),
                          left = pku() ? narrower(asked, open)
                                       : wider(narrower(asked, base), acquired);
    struct pkeyguard_key *other_key = new_key(base, 0);
    struct pkeyguard_region *other = new_region(other_key);
    struct pkeyguard_guard around;

    ck_assert_int_eq(pkeyguard_acquire(other, acquired, &around), 0);
    pkeyguard_scoped_restrict (narrowed, other, asked) {
        assert_open_for(left, other);
        pkeyguard_scoped_restrict (again, other, asked)
            assert_open_for(left, other);
        assert_open_for(left, other);
    }
    assert_open_for(open, other);
    pkeyguard_release(&around);
    assert_open_for(base, other);
    destroy(other, other_key);
}
END_TEST

/* The library can release the scope's guard, too; the scope's end then does nothing. */
START_TEST(restrict_scope_released_before_its_end)
{
    enum pkeyguard_rights asked = _i == 0 ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_ONLY;

    pkeyguard_scoped_write (char, bytes, region) {
        pkeyguard_scoped_restrict (narrowed, region, asked) {
            pkeyguard_release(&narrowed);
            assert_open_for(PKEYGUARD_READ_WRITE, region);
            pkeyguard_scoped_restrict (moved, region, asked) {
                struct pkeyguard_guard elsewhere = moved;

                moved = (struct pkeyguard_guard){0};
                assert_open_for(pku() ? asked : PKEYGUARD_READ_WRITE, region);
                pkeyguard_release(&elsewhere);
                assert_open_for(PKEYGUARD_READ_WRITE, region);
            }
        }
        assert_open_for(PKEYGUARD_READ_WRITE, region);
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

enum { SCOPE_LINE = __LINE__ + 6 };

static void open_with_bad_arguments(void *which)
{
    switch (*(int *)which) {
    /* clang-format off */
    case 0: { pkeyguard_scoped_read(char[PAGE_BYTES + 1], bytes, region) { _exit(1); } } break;
    case 1: { pkeyguard_scoped_write(char[PAGE_BYTES + 1], bytes, region) { _exit(1); } } break;
    case 2: { pkeyguard_auto_read(char[PAGE_BYTES + 1], bytes, region); _exit(1); }
    case 3: { pkeyguard_scoped_write_at(int, number, region, address - 1) { _exit(1); } } break;
    case 4: { pkeyguard_scoped_read_bytes(bytes, region, address + 1, PAGE_BYTES) { _exit(1); } } break;
    case 5: { pkeyguard_scoped_key_write(guard, NULL) { _exit(1); } } break;
    case 6: { pkeyguard_scoped_restrict(guard, NULL, PKEYGUARD_READ_ONLY) { _exit(1); } } break;
        /* clang-format on */
    }
}

START_TEST(scope_that_cannot_open_aborts)
{
#define OUTSIDE                                                                                    \
    " on region 'vault': the type is larger than the region, the object is not inside it, or the " \
    "rights are unknown"
    static const char *const what[] = {
        "read scope" OUTSIDE,
        "write scope" OUTSIDE,
        "read scope" OUTSIDE,
        "write scope" OUTSIDE,
        "read scope" OUTSIDE,
        "key scope: no region or key, or unknown rights",
        "restrict scope: no region or key, or unknown rights",
    };
    char line[512];

    ck_assert_int_eq(pkeyguard_region_name(region, "vault"), 0);
    snprintf(line, sizeof(line), "libpkeyguard: %s:%d: cannot open a %s\n", __FILE__,
             SCOPE_LINE + _i, what[_i]);
    assert_aborts(open_with_bad_arguments, &_i, line);
}
END_TEST

static void release_while_mprotect_always_fails(void *unused)
{
    struct pkeyguard_region *software = new_region(NULL);
    struct pkeyguard_guard guard = acquire(software, PKEYGUARD_READ_WRITE);

    (void)unused;
    fail_call(CALL_MPROTECT, 0, ENOMEM, 1000);
    pkeyguard_release(&guard);
}

static void release_while_mprotect_fails_once(void *unused)
{
    struct pkeyguard_region *software = new_region(NULL);
    struct pkeyguard_guard guard = acquire(software, PKEYGUARD_READ_WRITE);

    (void)unused;
    fail_call(CALL_MPROTECT, 0, ENOMEM, 1);
    pkeyguard_release(&guard);
}

static void release_a_copy(void *unused)
{
    struct pkeyguard_region *software = new_region(NULL);
    struct pkeyguard_guard guard = acquire(software, PKEYGUARD_READ_WRITE), copy = guard;

    (void)unused;
    pkeyguard_release(&guard);
    pkeyguard_release(&copy);
}

START_TEST(release_that_cannot_close_aborts)
{
    assert_aborts(release_while_mprotect_always_fails, NULL,
                  "libpkeyguard: a guard cannot be released: out of memory, of memory mappings, of "
                  "file descriptors or of memory that may be locked, or memory that is not "
                  "mapped, as that of a destroyed region\n");
    assert_aborts(release_while_mprotect_fails_once, NULL,
                  "libpkeyguard: a guard cannot be released: out of memory, of memory mappings, of "
                  "file descriptors or of memory that may be locked, or memory that is not "
                  "mapped, as that of a destroyed region\n");
    assert_aborts(release_a_copy, NULL,
                  "libpkeyguard: a guard released twice, through a copy of it\n");
}
END_TEST

void add_scopes(Suite *suite)
{
    TCase *tests = add_case(suite, "scopes", set_up, tear_down);

    tcase_add_test(tests, scope_opens_and_closes);
    tcase_add_test(tests, read_scope_inside_a_write_scope_changes_nothing);
    tcase_add_test(tests, every_way_out_of_a_scope_closes_it);
    tcase_add_test(tests, scopes_nest_on_one_line);
    tcase_add_test(tests, scope_takes_any_type_and_an_unused_name);
    tcase_add_test(tests, at_scope_takes_an_object_inside_the_region);
    tcase_add_test(tests, bytes_scope_takes_a_length_known_at_run_time);
    tcase_add_test(tests, try_scope_runs_its_else_branch);
    tcase_add_test(tests, key_and_restrict_scopes_open_and_narrow);
    tcase_add_loop_test(tests, restrict_scope_gives_back_what_it_took, 0, 27);
    tcase_add_loop_test(tests, restrict_scope_released_before_its_end, 0, 2);
    tcase_add_loop_test(tests, scope_that_cannot_open_aborts, 0, 7);
    tcase_add_test(tests, release_that_cannot_close_aborts);
}
