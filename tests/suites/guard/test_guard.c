/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failing.h"
#include "one_region.h"
#include "place.h"

static struct pkeyguard_guard acquire(struct pkeyguard_region *from, enum pkeyguard_rights rights)
{
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_acquire(from, rights, &guard), 0);
    return guard;
}

static void assert_open_for(enum pkeyguard_rights rights, const struct pkeyguard_region *of)
{
    if (rights == PKEYGUARD_NO_ACCESS)
        assert_denied(READ_BYTE, address_of(of), pkeyguard_region_key(of));
    else
        assert_allowed(READ_BYTE, address_of(of));
    if (rights == PKEYGUARD_READ_WRITE)
        assert_allowed(WRITE_BYTE, address_of(of));
    else
        assert_denied(WRITE_BYTE, address_of(of), pkeyguard_region_key(of));
}

/* ---- acquire, restrict, release ---- */

static const enum pkeyguard_rights every_right[] = {PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY,
                                                    PKEYGUARD_READ_WRITE};

/* Every default, every guard: acquire gives at least, restrict leaves at most; then as before. */
START_TEST(acquire_widens_and_restrict_narrows)
{
    enum pkeyguard_rights base = every_right[_i / 3], asked = every_right[_i % 3];
    struct pkeyguard_key *other_key = new_key(base, 0);
    struct pkeyguard_region *other = new_region(other_key);
    struct pkeyguard_guard guard;

    assert_open_for(base, other);
    ck_assert_int_eq(pkeyguard_acquire(other, asked, &guard), 0);
    assert_open_for(asked > base ? asked : base, other);
    pkeyguard_release(&guard);
    assert_open_for(base, other);
    ck_assert_int_eq(pkeyguard_restrict(other, asked, &guard), 0);
    assert_open_for(asked < base ? asked : base, other);
    pkeyguard_release(&guard);
    assert_open_for(base, other);
    ck_assert_int_eq(pkeyguard_key_acquire(other_key, asked, &guard), 0);
    assert_open_for(asked > base ? asked : base, other);
    ck_assert_int_eq(pkeyguard_key_rights(other_key), asked > base ? asked : base);
    pkeyguard_release(&guard);
    assert_open_for(base, other);
    destroy(other, other_key);
}
END_TEST

START_TEST(nested_rights_are_restored_one_by_one)
{
    struct pkeyguard_guard read, write, nothing, again;

    read = acquire(region, PKEYGUARD_READ_ONLY);
    assert_open_for(PKEYGUARD_READ_ONLY, region);
    write = acquire(region, PKEYGUARD_READ_WRITE);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_NO_ACCESS, &nothing), 0);
    assert_open_for(pku() ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_WRITE, region);
    again = acquire(region, PKEYGUARD_READ_ONLY);
    assert_open_for(pku() ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&again);
    assert_open_for(pku() ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&nothing);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&write);
    assert_open_for(PKEYGUARD_READ_ONLY, region);
    pkeyguard_release(&read);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(restrict_to_read_inside_a_write_guard)
{
    struct pkeyguard_guard write = acquire(region, PKEYGUARD_READ_WRITE), read_only;

    ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_READ_ONLY, &read_only), 0);
    assert_open_for(pku() ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&read_only);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&write);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

/* Under mprotect restrict narrows the base: for one region, and under several guards at once. */
START_TEST(software_restrict_narrows_the_base)
{
    struct pkeyguard_key *open_key = new_key(PKEYGUARD_READ_WRITE, PKEYGUARD_KEY_SOFTWARE);
    struct pkeyguard_region *narrowed = new_region(open_key), *sibling = new_region(open_key);
    struct pkeyguard_guard to_read, to_nothing, write;

    ck_assert_int_eq(pkeyguard_restrict(narrowed, PKEYGUARD_READ_ONLY, &to_read), 0);
    ck_assert_int_eq(pkeyguard_restrict(narrowed, PKEYGUARD_NO_ACCESS, &to_nothing), 0);
    assert_open_for(PKEYGUARD_NO_ACCESS, narrowed);
    assert_open_for(PKEYGUARD_READ_WRITE, sibling);
    write = acquire(narrowed, PKEYGUARD_READ_WRITE);
    assert_open_for(PKEYGUARD_READ_WRITE, narrowed);
    pkeyguard_release(&write);
    pkeyguard_release(&to_nothing);
    assert_open_for(PKEYGUARD_READ_ONLY, narrowed);
    pkeyguard_release(&to_read);
    assert_open_for(PKEYGUARD_READ_WRITE, narrowed);
    destroy(narrowed, NULL);
    destroy(sibling, open_key);
}
END_TEST

/* Released in every order, three guards of one key all end closed. */
START_TEST(any_order_of_release_ends_closed)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    struct pkeyguard_guard guards[3];

    /* Each guard reads or writes: the bits of _i. */
    for (int g = 0; g < 3; g++)
        guards[g] = acquire(region, _i >> g & 1 ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY);
    for (int g = 0; g < 3; g++)
        pkeyguard_release(&guards[orders[_i / 8][g]]);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

/* The rule for guards that outlive the one that opened the key. */
START_TEST(releasing_the_opener_closes_the_key)
{
    struct pkeyguard_guard opener = acquire(region, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard later = acquire(region, PKEYGUARD_READ_WRITE);

    pkeyguard_release(&opener);
    assert_open_for(pku() ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&later);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(two_keys_interleave)
{
    struct pkeyguard_key *other_key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *other = new_region(other_key);
    struct pkeyguard_guard first = acquire(region, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard second = acquire(other, PKEYGUARD_READ_ONLY);

    pkeyguard_release(&first);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    assert_open_for(PKEYGUARD_READ_ONLY, other);
    first = acquire(region, PKEYGUARD_READ_ONLY);
    pkeyguard_release(&second);
    assert_open_for(PKEYGUARD_READ_ONLY, region);
    assert_open_for(PKEYGUARD_NO_ACCESS, other);
    pkeyguard_release(&first);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    assert_open_for(PKEYGUARD_NO_ACCESS, other);
    destroy(other, other_key);
}
END_TEST

/* A guard that wrote back the PKRU it had saved would undo the new key's default. */
START_TEST(a_key_created_inside_a_scope_keeps_its_rights)
{
    struct pkeyguard_key *created = NULL;
    struct pkeyguard_region *of_created = NULL;

    pkeyguard_scoped_write (int, number, region) {
        created = new_key(every_right[_i], 0);
        of_created = new_region(created);
        *number = 1;
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    assert_open_for(every_right[_i], of_created);
    destroy(of_created, created);
}
END_TEST

START_TEST(a_second_release_does_nothing)
{
    struct pkeyguard_guard outer = acquire(region, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard empty = {0}, inner = acquire(region, PKEYGUARD_READ_WRITE);

    pkeyguard_release(&empty);
    pkeyguard_release(&inner);
    pkeyguard_release(&inner);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&outer);
    inner = acquire(region, PKEYGUARD_READ_WRITE);
    pkeyguard_release(&outer);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&inner);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(release_keeps_errno)
{
    struct pkeyguard_guard guard = acquire(region, PKEYGUARD_READ_WRITE), narrow;

    ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_NO_ACCESS, &narrow), 0);
    errno = 4321;
    pkeyguard_release(&narrow);
    pkeyguard_release(&guard);
    ck_assert_int_eq(errno, 4321);
}
END_TEST

START_TEST(bad_arguments_leave_an_empty_guard)
{
    static const struct pkeyguard_guard zero;
    struct pkeyguard_guard guard;

#define assert_refused(call)                            \
    do {                                                \
        memset(&guard, 0x5a, sizeof(guard));            \
        ck_assert_int_eq(call, -EINVAL);                \
        ck_assert_mem_eq(&guard, &zero, sizeof(guard)); \
        pkeyguard_release(&guard);                      \
    } while (0)
    assert_refused(pkeyguard_acquire(NULL, PKEYGUARD_READ_ONLY, &guard));
    assert_refused(pkeyguard_restrict(NULL, PKEYGUARD_READ_ONLY, &guard));
    assert_refused(pkeyguard_key_acquire(NULL, PKEYGUARD_READ_ONLY, &guard));
    for (int rights = 0; rights <= 4; rights += 4) {
        assert_refused(pkeyguard_acquire(region, (enum pkeyguard_rights)rights, &guard));
        assert_refused(pkeyguard_restrict(region, (enum pkeyguard_rights)rights, &guard));
        assert_refused(pkeyguard_key_acquire(key, (enum pkeyguard_rights)rights, &guard));
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

START_TEST(a_key_guard_opens_every_region)
{
    struct pkeyguard_region *second = new_region(key), *third;
    struct pkeyguard_guard guard, inner;

    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_WRITE, &guard), 0);
    third = new_region(key);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    assert_open_for(PKEYGUARD_READ_WRITE, second);
    assert_open_for(PKEYGUARD_READ_WRITE, third);
    inner = acquire(second, PKEYGUARD_READ_ONLY);
    pkeyguard_release(&inner);
    assert_open_for(PKEYGUARD_READ_WRITE, second);
    pkeyguard_release(&guard);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    assert_open_for(PKEYGUARD_NO_ACCESS, second);
    assert_open_for(PKEYGUARD_NO_ACCESS, third);
    destroy(second, NULL);
    destroy(third, NULL);
}
END_TEST

START_TEST(nested_guards_do_not_write_the_register)
{
    struct pkeyguard_guard outer = acquire(region, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard inner = acquire(region, PKEYGUARD_READ_WRITE);
    struct pkeyguard_guard reader = acquire(region, PKEYGUARD_READ_ONLY);

    ck_assert_uint_eq(inner.cleared | inner.how, 0);
    ck_assert_uint_eq(reader.cleared | reader.how, 0);
    ck_assert_uint_ne(outer.cleared, 0);
    pkeyguard_release(&reader);
    pkeyguard_release(&inner);
    pkeyguard_release(&outer);
}
END_TEST

/* ---- scopes ---- */

START_TEST(scopes_open_and_close)
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

START_TEST(a_read_scope_inside_a_write_scope_changes_nothing)
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

START_TEST(every_way_out_closes)
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

/* On one line and in one macro, hidden names do not clash (the build has -Wshadow -Werror). */
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

START_TEST(any_type_and_an_unused_name)
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

START_TEST(at_forms_take_an_object_inside)
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

START_TEST(try_runs_its_else_branch)
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
    ck_assert_int_eq(refused, 13);
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

START_TEST(key_and_restrict_scopes)
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

/* ---- scopes that cannot fail silently ---- */

#define EINVAL_WORDS                                                                               \
    "invalid argument: a missing key or region, unknown rights or flags, or a size that does not " \
    "fit\n"

enum { SCOPE_LINE = __LINE__ + 6 };

static void open_wrongly(void *which)
{
    switch (*(int *)which) {
    /* clang-format off */
    case 0: { pkeyguard_scoped_read(char[PAGE_BYTES + 1], bytes, region) { _exit(1); } } break;
    case 1: { pkeyguard_scoped_write(char[PAGE_BYTES + 1], bytes, region) { _exit(1); } } break;
    case 2: { pkeyguard_auto_read(char[PAGE_BYTES + 1], bytes, region); _exit(1); }
    case 3: { pkeyguard_scoped_write_at(int, number, region, address - 1) { _exit(1); } } break;
    case 4: { pkeyguard_scoped_key_write(guard, NULL) { _exit(1); } } break;
    case 5: { pkeyguard_scoped_restrict(guard, NULL, PKEYGUARD_READ_ONLY) { _exit(1); } } break;
        /* clang-format on */
    }
}

START_TEST(scopes_abort_rather_than_run)
{
    static const char *const what[] = {"read scope on region 'vault'",
                                       "write scope on region 'vault'",
                                       "read scope on region 'vault'",
                                       "write scope on region 'vault'",
                                       "key scope",
                                       "restrict scope"};
    char line[512];

    ck_assert_int_eq(pkeyguard_region_name(region, "vault"), 0);
    snprintf(line, sizeof(line), "libpkeyguard: %s:%d: cannot open a %s: " EINVAL_WORDS, __FILE__,
             SCOPE_LINE + _i, what[_i]);
    assert_aborts(open_wrongly, &_i, line);
}
END_TEST

static void release_without_the_kernel(void *unused)
{
    struct pkeyguard_region *software = new_region(NULL);
    struct pkeyguard_guard guard = acquire(software, PKEYGUARD_READ_WRITE);

    (void)unused;
    fail_call(CALL_MPROTECT, 0, ENOMEM, 1000);
    pkeyguard_release(&guard);
}

static void release_at_a_bad_moment(void *unused)
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

START_TEST(release_aborts_when_rights_cannot_be_taken_away)
{
    assert_aborts(release_without_the_kernel, NULL,
                  "libpkeyguard: cannot restore page rights after a failed change\n");
    assert_aborts(release_at_a_bad_moment, NULL,
                  "libpkeyguard: a guard cannot be released: out of memory, of memory mappings, or "
                  "of memory that may be locked\n");
    assert_aborts(release_a_copy, NULL,
                  "libpkeyguard: a guard released twice, through a copy of it\n");
}
END_TEST

/* ---- threads ---- */

static void *read_while_main_has_it_open(void *unused)
{
    (void)unused;
    if (pku()) {
        assert_denied(READ_BYTE, address, key);
        assert_denied(WRITE_BYTE, address, key);
        pkeyguard_scoped_read (int, number, region) {
            ck_assert_int_eq(*number, 11);
        }
    } else {
        /* What the header says of mprotect: an open region is open for every thread. */
        assert_allowed(READ_BYTE, address);
    }
    return NULL;
}

static pthread_barrier_t opened;

static void *wait_then_read(void *unused)
{
    pthread_barrier_wait(&opened);
    return read_while_main_has_it_open(unused);
}

START_TEST(another_thread_cannot_read)
{
    pthread_t thread;

    pthread_barrier_init(&opened, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_then_read, NULL), 0);
    pkeyguard_scoped_write (int, number, region) {
        *number = 11;
        pthread_barrier_wait(&opened);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        ck_assert_int_eq(*number, 11);
    }
}
END_TEST

static pthread_mutex_t content_lock = PTHREAD_MUTEX_INITIALIZER;

enum { THREADS = 8, ROUNDS = 2000 };

static void *open_and_close(void *unused)
{
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        pkeyguard_scoped_read (int, number, region) {
            ck_assert_int_ge(__atomic_load_n(number, __ATOMIC_RELAXED), 0);
        }
        pkeyguard_scoped_write (int, number, region) {
            pthread_mutex_lock(&content_lock);
            __atomic_store_n(number, *number + 1, __ATOMIC_RELAXED);
            pthread_mutex_unlock(&content_lock);
        }
    }
    return NULL;
}

START_TEST(eight_threads_on_one_region)
{
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, open_and_close, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    pkeyguard_scoped_read (int, number, region) {
        ck_assert_int_eq(*number, THREADS * ROUNDS);
    }
}
END_TEST

static struct fault in_cleanup_handler;

static void look_at_region(void *unused)
{
    (void)unused;
    in_cleanup_handler = try_access(READ_BYTE, address);
}

static void *end_inside_a_scope(void *by_exit)
{
    pthread_cleanup_push(look_at_region, NULL);
    pkeyguard_scoped_write (int, number, region) {
        *number = 1;
        if (by_exit != NULL)
            pthread_exit(NULL);
        pthread_cancel(pthread_self());
        pthread_testcancel();
    }
    pthread_cleanup_pop(0);
    return NULL;
}

/* The suite is compiled with -fexceptions, as the CMake target has it. */
START_TEST(ending_a_thread_inside_a_scope_closes_it)
{
    pthread_t thread;
    void *result;

    ck_assert_int_eq(pthread_create(&thread, NULL, end_inside_a_scope, _i == 0 ? NULL : &thread),
                     0);
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert_ptr_eq(result, _i == 0 ? PTHREAD_CANCELED : NULL);
    /* The outer cleanup handler, still in that thread, found the region closed. */
    ck_assert(in_cleanup_handler.happened);
    ck_assert_int_eq(in_cleanup_handler.code, denial_code(key));
    ck_assert_int_eq(in_cleanup_handler.pkey, denial_pkey(key));
    ck_assert_ptr_eq(in_cleanup_handler.address, address);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

static struct pkeyguard_key *end_thread(void)
{
    pthread_exit(NULL);
}

/* Where the next call's frame will be. */
__attribute__((noinline)) static void spoil_stack(void)
{
    char spoiled[PAGE_BYTES];

    memset(spoiled, 0x5a, sizeof(spoiled));
    __asm__ volatile("" : : "r"(spoiled) : "memory");
}

__attribute__((noinline)) static void end_while_a_region_scope_opens(void)
{
    pkeyguard_scoped_write (int, number, (end_thread(), region)) {
        ck_abort();
    }
}

__attribute__((noinline)) static void end_while_a_key_scope_opens(void)
{
    pkeyguard_scoped_key_write (guard, end_thread()) {
        ck_abort();
    }
}

static void *end_while_a_scope_opens(void *of_key)
{
    spoil_stack();
    if (of_key != NULL)
        end_while_a_key_scope_opens();
    else
        end_while_a_region_scope_opens();
    return of_key;
}

/* A guard that was never acquired is not released, whatever its memory held. */
START_TEST(ending_a_thread_while_a_scope_opens)
{
    pthread_t thread;
    void *result;

    ck_assert_int_eq(pthread_create(&thread, NULL, end_while_a_scope_opens, _i ? key : NULL), 0);
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert_ptr_null(result);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

/* ---- signal handlers ---- */

static struct fault in_handler_read, in_handler_write, in_handler_open;
static int handler_result;

static void use_region_in_handler(int signal)
{
    struct pkeyguard_guard guard;

    (void)signal;
    in_handler_read = try_access(READ_BYTE, address);
    handler_result = pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &guard);
    in_handler_open = try_access(READ_BYTE, address);
    in_handler_write = try_access(WRITE_BYTE, address);
    /* Not released: under PKU what a handler opens ends with it. */
    if (!pku())
        pkeyguard_release(&guard);
}

/* Handlers start with access-disable alone: opening for reading must not open for writing. */
START_TEST(a_handler_starts_closed_and_opens_for_itself)
{
    signal(SIGUSR1, use_region_in_handler);
    pkeyguard_scoped_write (int, number, region) {
        raise(SIGUSR1);
        ck_assert_int_eq(in_handler_read.happened, pku());
        ck_assert_int_eq(in_handler_write.happened, pku());
        if (pku()) {
            ck_assert_int_eq(in_handler_read.code, SEGV_PKUERR);
            ck_assert_int_eq(in_handler_write.code, SEGV_PKUERR);
            ck_assert_int_eq(in_handler_write.pkey, pkeyguard_key_number(key));
        }
        ck_assert_int_eq(handler_result, 0);
        ck_assert(!in_handler_open.happened);
        *number = 1;
    }
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    raise(SIGUSR1);
    ck_assert(in_handler_read.happened);
    ck_assert(!in_handler_open.happened);
    ck_assert(in_handler_write.happened);
    ck_assert_int_eq(in_handler_write.code, denial_code(key));
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

/* Access-disable alone, as handlers and older threads have it; each kind of guard, then as before.
 */
START_TEST(guards_over_access_disable_alone)
{
    uint32_t ad = 1u << (2 * pkeyguard_key_number(key)), wd = 2 * ad;
    uint32_t start = (pkeyguard_pkru_read() | ad) & ~wd;
    struct pkeyguard_guard guard, inner;

    pkeyguard_pkru_write(start);
    guard = acquire(region, PKEYGUARD_READ_ONLY);
    assert_open_for(PKEYGUARD_READ_ONLY, region);
    inner = acquire(region, PKEYGUARD_READ_WRITE);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&inner);
    assert_open_for(PKEYGUARD_READ_ONLY, region);
    pkeyguard_release(&guard);
    ck_assert_uint_eq(pkeyguard_pkru_read(), start);
    guard = acquire(region, PKEYGUARD_READ_WRITE);
    assert_open_for(PKEYGUARD_READ_WRITE, region);
    pkeyguard_release(&guard);
    ck_assert_uint_eq(pkeyguard_pkru_read(), start);
    /* Denied on purpose from now on, which access-disable alone does not say. */
    ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_READ_ONLY, &guard), 0);
    ck_assert_uint_eq(pkeyguard_pkru_read(), start | wd);
    pkeyguard_release(&guard);
    ck_assert_uint_eq(pkeyguard_pkru_read(), start);
    /* Out of order: both end closed. */
    guard = acquire(region, PKEYGUARD_READ_ONLY);
    inner = acquire(region, PKEYGUARD_READ_WRITE);
    pkeyguard_release(&guard);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
    pkeyguard_release(&inner);
    assert_open_for(PKEYGUARD_NO_ACCESS, region);
}
END_TEST

static struct pkeyguard_key *software;
static struct pkeyguard_region *software_region;
static int result_of_acquire, result_of_set_rights;

static void use_software_key(int signal)
{
    struct pkeyguard_guard guard;

    (void)signal;
    result_of_acquire = pkeyguard_acquire(software_region, PKEYGUARD_READ_ONLY, &guard);
    result_of_set_rights = pkeyguard_key_set_rights(software, PKEYGUARD_READ_ONLY);
}

static void raise_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    raise(SIGUSR1);
}

/* A handler that runs while this thread is in the middle of an mprotect of the library's. */
START_TEST(a_handler_that_interrupted_the_library)
{
    struct pkeyguard_guard guard;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    signal(SIGUSR1, use_software_key);
    before_call(CALL_MPROTECT, raise_inside_library);
    guard = acquire(software_region, PKEYGUARD_READ_WRITE);
    ck_assert_int_eq(result_of_acquire, -EDEADLK);
    ck_assert_int_eq(result_of_set_rights, -EDEADLK);
    assert_open_for(PKEYGUARD_READ_WRITE, software_region);
    pkeyguard_release(&guard);
    assert_open_for(PKEYGUARD_NO_ACCESS, software_region);
    destroy(software_region, software);
}
END_TEST

static int results_inside[7];

static void manage_inside_library(void *unused, unsigned long length)
{
    struct pkeyguard_key *new_one;
    struct pkeyguard_region *of_it;

    (void)unused, (void)length;
    results_inside[0] = pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &new_one);
    results_inside[1] = pkeyguard_key_destroy(software);
    results_inside[2] = pkeyguard_region_create(NULL, 1, PAGE_RW, 0, &of_it);
    results_inside[3] = pkeyguard_region_create_with(NULL, "", 1, PAGE_RW, 0, &of_it);
    results_inside[4] = pkeyguard_region_associate(region, NULL);
    results_inside[5] = pkeyguard_region_protect(region, PROT_READ);
    results_inside[6] = pkeyguard_region_destroy(region);
}

/* None of these may be called from a handler; one that is, inside the library, is told so. */
START_TEST(management_inside_the_library)
{
    struct pkeyguard_guard guard;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    before_call(CALL_MPROTECT, manage_inside_library);
    guard = acquire(software_region, PKEYGUARD_READ_WRITE);
    for (int i = 0; i < 7; i++)
        ck_assert_int_eq(results_inside[i], -EDEADLK);
    pkeyguard_release(&guard);
    ck_assert_int_eq(pkeyguard_region_prot(region), PAGE_RW);
    destroy(software_region, software);
}
END_TEST

static void hold_until_next_signal(int signal)
{
    static struct pkeyguard_guard held;

    (void)signal;
    if (held.how != 0)
        pkeyguard_release(&held);
    else if (pkeyguard_acquire(software_region, PKEYGUARD_READ_ONLY, &held) != 0)
        _exit(1);
}

static void release_inside_library(void *unused)
{
    struct pkeyguard_guard guard;

    (void)unused;
    software_region = new_region(NULL);
    signal(SIGUSR1, hold_until_next_signal);
    raise(SIGUSR1);
    before_call(CALL_MPROTECT, raise_inside_library);
    guard = acquire(software_region, PKEYGUARD_READ_WRITE);
    pkeyguard_release(&guard);
}

START_TEST(a_release_that_interrupts_the_library_aborts)
{
    assert_aborts(release_inside_library, NULL,
                  "libpkeyguard: a guard cannot be released: called from a signal handler that "
                  "interrupted the library\n");
}
END_TEST

/* ---- fork ---- */

static pthread_barrier_t forking;
static struct pkeyguard_region *of_other_thread;

static void *hold_while_main_forks(void *unused)
{
    struct pkeyguard_guard guards[3] = {acquire(of_other_thread, PKEYGUARD_READ_WRITE),
                                        acquire(software_region, PKEYGUARD_READ_WRITE)};

    (void)unused;
    ck_assert_int_eq(pkeyguard_key_acquire(pkeyguard_region_key(software_region),
                                           PKEYGUARD_READ_ONLY, &guards[2]),
                     0);
    pthread_barrier_wait(&forking);
    pthread_barrier_wait(&forking);
    for (int i = 0; i < 3; i++)
        pkeyguard_release(&guards[i]);
    return NULL;
}

static void assert_own_guards_only(struct pkeyguard_guard *own)
{
    assert_open_for(PKEYGUARD_READ_ONLY, software_region);
    assert_denied(READ_BYTE, address_of(of_other_thread), pkeyguard_region_key(of_other_thread));
    pkeyguard_release(own);
    assert_open_for(PKEYGUARD_NO_ACCESS, software_region);
    pkeyguard_scoped_write (int, number, of_other_thread) {
        *number = 1;
    }
}

/* Software guards are counted for the process; a fork child has one thread, and its guards only. */
START_TEST(a_fork_child_keeps_the_forking_threads_guards)
{
    struct pkeyguard_guard own;
    pthread_t thread;
    pid_t child;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    of_other_thread = new_region(_i == 0 ? NULL : software);
    own = acquire(software_region, PKEYGUARD_READ_ONLY);
    pthread_barrier_init(&forking, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, hold_while_main_forks, NULL), 0);
    pthread_barrier_wait(&forking);
    child = fork();
    if (child == 0) {
        assert_own_guards_only(&own);
        _exit(42);
    }
    assert_exits(child, 42);
    assert_open_for(PKEYGUARD_READ_WRITE, software_region);
    pthread_barrier_wait(&forking);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    assert_open_for(PKEYGUARD_READ_ONLY, software_region);
    pkeyguard_release(&own);
    assert_open_for(PKEYGUARD_NO_ACCESS, software_region);
    destroy(of_other_thread, NULL);
    destroy(software_region, software);
}
END_TEST

static pid_t forked_inside;

static void fork_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    forked_inside = fork();
}

START_TEST(a_fork_inside_the_library)
{
    struct pkeyguard_guard own;
    pthread_t thread;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    of_other_thread = new_region(NULL);
    pthread_barrier_init(&forking, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, hold_while_main_forks, NULL), 0);
    pthread_barrier_wait(&forking);
    own = acquire(software_region, PKEYGUARD_READ_ONLY);
    /* A third region, so that there is an mprotect to fork in. */
    before_call(CALL_MPROTECT, fork_inside_library);
    destroy(new_region(NULL), NULL);
    if (forked_inside == 0) {
        assert_own_guards_only(&own);
        _exit(42);
    }
    assert_exits(forked_inside, 42);
    pthread_barrier_wait(&forking);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    pkeyguard_release(&own);
    destroy(of_other_thread, NULL);
    destroy(software_region, software);
}
END_TEST

static bool interrupts_fork;

/* Registered before the library's own handlers, so it runs after they have taken the lock. */
static void interrupt_fork(void)
{
    if (interrupts_fork)
        raise(SIGUSR1);
}

START_TEST(a_handler_that_interrupted_fork)
{
    pid_t child;

    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    software_region = new_region(software);
    signal(SIGUSR1, use_software_key);
    interrupts_fork = true;
    child = fork();
    interrupts_fork = false;
    if (child == 0) {
        assert_open_for(PKEYGUARD_NO_ACCESS, software_region);
        pkeyguard_scoped_write (int, number, software_region) {
            *number = 1;
        }
        _exit(42);
    }
    assert_exits(child, 42);
    ck_assert_int_eq(result_of_acquire, -EDEADLK);
    ck_assert_int_eq(result_of_set_rights, -EDEADLK);
    destroy(software_region, software);
}
END_TEST

START_TEST(many_regions_held_at_once)
{
    enum { MANY = 400 }; /* more than one page of the thread's own account */
    static struct pkeyguard_region *regions[MANY];
    static struct pkeyguard_guard guards[MANY];

    for (int i = 0; i < MANY; i++) {
        regions[i] = new_region(NULL);
        guards[i] = acquire(regions[i], PKEYGUARD_READ_WRITE);
    }
    for (int i = 0; i < MANY; i += 2)
        pkeyguard_release(&guards[i]);
    for (int i = 0; i < MANY; i++)
        assert_open_for(i % 2 ? PKEYGUARD_READ_WRITE : PKEYGUARD_NO_ACCESS, regions[i]);
    for (int i = 1; i < MANY; i += 2)
        pkeyguard_release(&guards[i]);
    for (int i = 0; i < MANY; i++)
        destroy(regions[i], NULL);
}
END_TEST

/* Where no thread-specific data key is left, software guards work, and touch nobody else's. */
START_TEST(no_thread_specific_data_is_used)
{
    static void *before[PTHREAD_KEYS_MAX];
    struct pkeyguard_region *software_one = new_region(NULL);
    struct pkeyguard_guard guard;
    pthread_key_t last;

    while (pthread_key_create(&last, NULL) == 0)
        ;
    for (unsigned i = 0; i < PTHREAD_KEYS_MAX; i++)
        before[i] = pthread_getspecific(i);
    guard = acquire(software_one, PKEYGUARD_READ_WRITE);
    for (unsigned i = 0; i < PTHREAD_KEYS_MAX; i++)
        ck_assert_ptr_eq(pthread_getspecific(i), before[i]);
    pkeyguard_release(&guard);
    destroy(software_one, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("guard");
    TCase *guards = tcase_create("guards"), *scopes = tcase_create("scopes");
    TCase *threads = tcase_create("threads"), *handlers = tcase_create("handlers");
    TCase *cases[] = {guards, scopes, threads, handlers};
    const char *tool = getenv("PKEYGUARD_TEST_TOOL");

    pthread_atfork(interrupt_fork, NULL, NULL);
    for (int i = 0; i < 4; i++) {
        suite_add_tcase(suite, cases[i]);
        tcase_add_checked_fixture(cases[i], set_up, tear_down);
        tcase_set_timeout(cases[i], 60);
    }
    tcase_add_loop_test(guards, acquire_widens_and_restrict_narrows, 0, 9);
    tcase_add_test(guards, nested_rights_are_restored_one_by_one);
    tcase_add_test(guards, restrict_to_read_inside_a_write_guard);
    tcase_add_test(guards, software_restrict_narrows_the_base);
    tcase_add_loop_test(guards, any_order_of_release_ends_closed, 0, 48);
    tcase_add_test(guards, releasing_the_opener_closes_the_key);
    tcase_add_test(guards, two_keys_interleave);
    tcase_add_loop_test(guards, a_key_created_inside_a_scope_keeps_its_rights, 0, 3);
    tcase_add_test(guards, a_second_release_does_nothing);
    tcase_add_test(guards, release_keeps_errno);
    tcase_add_test(guards, bad_arguments_leave_an_empty_guard);
    tcase_add_test(guards, a_key_guard_opens_every_region);
    add_pku_test(guards, nested_guards_do_not_write_the_register);
    add_pku_test(guards, guards_over_access_disable_alone);
    tcase_add_test(guards, many_regions_held_at_once);
    tcase_add_test(guards, no_thread_specific_data_is_used);
    tcase_add_test(scopes, scopes_open_and_close);
    tcase_add_test(scopes, a_read_scope_inside_a_write_scope_changes_nothing);
    tcase_add_test(scopes, every_way_out_closes);
    tcase_add_test(scopes, scopes_nest_on_one_line);
    tcase_add_test(scopes, any_type_and_an_unused_name);
    tcase_add_test(scopes, at_forms_take_an_object_inside);
    tcase_add_test(scopes, try_runs_its_else_branch);
    tcase_add_test(scopes, key_and_restrict_scopes);
    tcase_add_loop_test(scopes, scopes_abort_rather_than_run, 0, 6);
    tcase_add_test(scopes, release_aborts_when_rights_cannot_be_taken_away);
    tcase_add_test(threads, another_thread_cannot_read);
    tcase_add_test(threads, eight_threads_on_one_region);
    add_loop_test_if(HAS_UNWINDING, NO_UNWINDING, threads, ending_a_thread_inside_a_scope_closes_it,
                     0, 2);
    tcase_add_loop_test(threads, ending_a_thread_while_a_scope_opens, 0, 2);
    tcase_add_loop_test(threads, a_fork_child_keeps_the_forking_threads_guards, 0, 2);
    tcase_add_test(threads, a_fork_inside_the_library);
    /* ThreadSanitizer loses its way when a jump ends a fault inside a handler. */
    if (tool == NULL || strcmp(tool, "tsan") != 0)
        tcase_add_test(handlers, a_handler_starts_closed_and_opens_for_itself);
    tcase_add_test(handlers, a_handler_that_interrupted_the_library);
    tcase_add_test(handlers, a_handler_that_interrupted_fork);
    tcase_add_test(handlers, management_inside_the_library);
    tcase_add_test(handlers, a_release_that_interrupts_the_library_aborts);
    return run_suite(suite);
}
