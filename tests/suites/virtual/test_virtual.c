/* SPDX-License-Identifier: MIT */
/* Virtual keys: what holds for them under both enforcements, and the sharing of pkeys under PKU. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "failing.h"
#include "support.h"
#include "worker.h"

/* More than there are pkeys. The pool leaves one of the CPU's 15 to the kernel. */
enum { KEYS = 20, POOL = 14, MANY = 3000 };

static struct pkeyguard_key *keys[MANY];
static struct pkeyguard_region *regions[MANY];
static struct pkeyguard_guard guards[MANY];

static void make_keys(int count)
{
    for (int i = 0; i < count; i++) {
        keys[i] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
        regions[i] = new_region(keys[i]);
    }
}

static void destroy_keys(int count)
{
    for (int i = 0; i < count; i++)
        destroy(regions[i], keys[i]);
}

static void set_up(void)
{
    make_keys(KEYS);
}

static void tear_down(void)
{
    destroy_keys(KEYS);
}

/* Bound or not, a closed virtual key's region faults: by the pkey, or by PROT_NONE. */
static void assert_closed(int i)
{
    if (pkeyguard_key_number(keys[i]) > 0) {
        assert_denied(READ_BYTE, address_of(regions[i]), keys[i]);
        assert_denied(WRITE_BYTE, address_of(regions[i]), keys[i]);
    } else {
        assert_page_denied(READ_BYTE, address_of(regions[i]));
        assert_page_denied(WRITE_BYTE, address_of(regions[i]));
    }
}

static void assert_all_closed(void)
{
    for (int i = 0; i < KEYS; i++)
        assert_closed(i);
}

static int acquire(int i, enum pkeyguard_rights rights)
{
    return pkeyguard_acquire(regions[i], rights, &guards[i]);
}

static void open_and_close(int i)
{
    ck_assert_int_eq(acquire(i, PKEYGUARD_READ_WRITE), 0);
    pkeyguard_release(&guards[i]);
}

/* Bound, or not yet taken from it: its pages carry the pkey. */
static bool bound(int i)
{
    return pkeyguard_key_number(keys[i]) > 0;
}

/* ---- under both enforcements ---- */

START_TEST(flags_and_rights_that_contradict)
{
    static const struct {
        enum pkeyguard_rights rights;
        unsigned flags;
    } bad[] = {
        {PKEYGUARD_READ_ONLY, PKEYGUARD_KEY_VIRTUAL},
        {PKEYGUARD_READ_WRITE, PKEYGUARD_KEY_VIRTUAL},
        {PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL | PKEYGUARD_KEY_HARDWARE},
        {PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL | PKEYGUARD_KEY_SOFTWARE},
        {PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL | PKEYGUARD_KEY_OPTIONAL},
    };
    struct pkeyguard_key *none = NULL;

    ck_assert_int_eq(pkeyguard_key_create(bad[_i].rights, bad[_i].flags, &none), -EINVAL);
    ck_assert_ptr_null(none);
}
END_TEST

START_TEST(rights_are_not_set)
{
    for (int rights = PKEYGUARD_NO_ACCESS; rights <= PKEYGUARD_READ_WRITE; rights++)
        ck_assert_int_eq(pkeyguard_key_set_rights(keys[0], (enum pkeyguard_rights)rights), -EINVAL);
    ck_assert_int_eq(pkeyguard_key_rights(keys[0]), PKEYGUARD_NO_ACCESS);
    assert_closed(0);
}
END_TEST

START_TEST(more_keys_than_pkeys)
{
    ck_assert_int_eq(pkeyguard_key_enforcement(keys[0]), test_enforcement());
    assert_all_closed();
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < KEYS; i++) {
            pkeyguard_scoped_write (int, number, regions[i]) {
                if (round > 0)
                    ck_assert_int_eq(*number, 1000 * (round - 1) + i);
                *number = 1000 * round + i;
                assert_allowed(WRITE_BYTE, address_of(regions[i]));
                *number = 1000 * round + i;
            }
            assert_closed(i);
        }
        assert_all_closed();
        for (int i = 0; i < KEYS; i++) {
            pkeyguard_scoped_read (int, number, regions[i]) {
                ck_assert_int_eq(*number, 1000 * round + i);
                assert_denied(WRITE_BYTE, address_of(regions[i]), keys[i]);
            }
            ck_assert_int_eq(pkeyguard_key_rights(keys[i]), PKEYGUARD_NO_ACCESS);
        }
    }
}
END_TEST

START_TEST(thousands_of_keys)
{
    make_keys(MANY);
    for (int i = 0; i < MANY; i += 7) {
        pkeyguard_scoped_write (int, number, regions[i])
            *number = i;
    }
    for (int i = 0; i < MANY; i += 7) {
        pkeyguard_scoped_read (int, number, regions[i])
            ck_assert_int_eq(*number, i);
        assert_closed(i);
    }
    destroy_keys(MANY);
}
END_TEST

START_TEST(nested_guards)
{
    struct pkeyguard_guard read, write, again, narrow;

    ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_ONLY, &read), 0);
    assert_denied(WRITE_BYTE, address_of(regions[0]), keys[0]);
    ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_WRITE, &write), 0);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    ck_assert_int_eq(pkeyguard_key_acquire(keys[0], PKEYGUARD_READ_ONLY, &again), 0);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    ck_assert_int_eq(pkeyguard_restrict(regions[0], PKEYGUARD_READ_ONLY, &narrow), 0);
    assert_allowed(READ_BYTE, address_of(regions[0]));
    if (pku())
        assert_denied(WRITE_BYTE, address_of(regions[0]), keys[0]);
    pkeyguard_release(&narrow);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    pkeyguard_release(&again);
    pkeyguard_release(&write);
    assert_allowed(READ_BYTE, address_of(regions[0]));
    assert_denied(WRITE_BYTE, address_of(regions[0]), keys[0]);
    pkeyguard_release(&read);
    assert_closed(0);
    pkeyguard_release(&read);
    assert_closed(0);
}
END_TEST

/* Released in every order, three guards of one key all end closed, and pin nothing. */
START_TEST(any_order_of_release_ends_closed)
{
    static const int orders[6][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                     {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

    for (int g = 0; g < 3; g++)
        ck_assert_int_eq(pkeyguard_acquire(regions[0],
                                           _i >> g & 1 ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY,
                                           &guards[g]),
                         0);
    for (int g = 0; g < 3; g++)
        pkeyguard_release(&guards[orders[_i / 8][g]]);
    assert_closed(0);
    destroy(regions[0], keys[0]);
    keys[0] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    regions[0] = new_region(keys[0]);
}
END_TEST

START_TEST(restrict_narrows_what_is_open)
{
    struct pkeyguard_guard nothing, inner;
    enum pkeyguard_rights base = _i ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY;

    ck_assert_int_eq(pkeyguard_restrict(regions[0], PKEYGUARD_READ_ONLY, &nothing), 0);
    assert_closed(0);
    pkeyguard_release(&nothing);
    ck_assert_int_eq(acquire(0, base), 0);
    ck_assert_int_eq(pkeyguard_restrict(regions[0], PKEYGUARD_NO_ACCESS, &nothing), 0);
    if (pku()) {
        ck_assert_int_eq(pkeyguard_key_rights(keys[0]), PKEYGUARD_NO_ACCESS);
        ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_ONLY, &inner), 0);
        assert_allowed(READ_BYTE, address_of(regions[0]));
        assert_denied(WRITE_BYTE, address_of(regions[0]), keys[0]);
        pkeyguard_release(&inner);
        assert_denied(READ_BYTE, address_of(regions[0]), keys[0]);
    }
    pkeyguard_release(&nothing);
    assert_allowed(READ_BYTE, address_of(regions[0]));
    if (_i)
        assert_allowed(WRITE_BYTE, address_of(regions[0]));
    else
        assert_denied(WRITE_BYTE, address_of(regions[0]), keys[0]);
    pkeyguard_release(&guards[0]);
    assert_closed(0);
}
END_TEST

START_TEST(bad_arguments)
{
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_acquire(regions[0], (enum pkeyguard_rights)0, &guard), -EINVAL);
    ck_assert_int_eq(pkeyguard_acquire(regions[0], (enum pkeyguard_rights)4, &guard), -EINVAL);
    ck_assert_uint_eq(guard.cleared | guard.how, 0);
    ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_NO_ACCESS, &guard), 0);
    ck_assert_uint_eq(guard.cleared | guard.how, 0);
    pkeyguard_release(&guard);
    errno = 0;
    pkeyguard_try_scoped_read (char[2 * PAGE_BYTES], whole, regions[0]) {
        ck_abort_msg("larger than the region");
    } else {
        ck_assert_int_eq(errno, EINVAL);
    }
    assert_closed(0);
}
END_TEST

/* A key whose guard is open is not destroyed; closed it is, bound or not. */
START_TEST(destroying_keys)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_key_destroy(keys[0]), -EBUSY);
    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &guard), 0);
    ck_assert_int_eq(pkeyguard_key_destroy(key), -EBUSY);
    ck_assert_int_eq(pkeyguard_key_rights(key), PKEYGUARD_READ_ONLY);
    pkeyguard_release(&guard);
    ck_assert_int_eq(pkeyguard_key_destroy(key), 0);
    for (int i = 0; i < KEYS; i++)
        open_and_close(i);
}
END_TEST

START_TEST(regions_come_and_go)
{
    struct pkeyguard_region *more;
    struct pkeyguard_key *dedicated = new_key(PKEYGUARD_NO_ACCESS, 0);
    int content = 77;

    if (_i) /* bound; else not */
        open_and_close(0);
    ck_assert_int_eq(
        pkeyguard_region_create_with(keys[0], &content, sizeof(content), PROT_READ, 0, &more), 0);
    assert_denied(READ_BYTE, address_of(more), keys[0]);
    if (!_i) {
        for (int i = 1; i < KEYS; i++)
            open_and_close(i);
    }
    pkeyguard_scoped_read (int, number, more) {
        ck_assert_int_eq(*number, 77);
        if (pku())
            assert_allowed(READ_BYTE, address_of(regions[0]));
        ck_assert(try_access(WRITE_BYTE, address_of(more)).happened);
    }
    ck_assert_int_eq(pkeyguard_region_protect(more, PAGE_RW), 0);
    pkeyguard_scoped_write (int, number, more)
        *number = 78;
    if (!_i) {
        for (int i = 1; i < KEYS; i++)
            open_and_close(i);
    }
    ck_assert_int_eq(pkeyguard_region_protect(more, PROT_READ), 0);
    ck_assert_int_eq(pkeyguard_region_associate(more, keys[1]), 0);
    ck_assert_ptr_eq(pkeyguard_region_key(more), keys[1]);
    pkeyguard_scoped_write (int, other, regions[0]) {
        *other = 1;
        ck_assert(try_access(READ_BYTE, address_of(more)).happened);
    }
    pkeyguard_scoped_read (int, number, more)
        ck_assert_int_eq(*number, 78);
    ck_assert_int_eq(pkeyguard_region_associate(more, dedicated), 0);
    assert_denied(READ_BYTE, address_of(more), dedicated);
    pkeyguard_scoped_read (int, number, more)
        ck_assert_int_eq(*number, 78);
    ck_assert_int_eq(pkeyguard_region_associate(more, keys[2]), 0);
    ck_assert_int_eq(pkeyguard_region_associate(more, NULL), 0);
    pkeyguard_scoped_read (int, number, more)
        ck_assert_int_eq(*number, 78);
    ck_assert_int_eq(pkeyguard_region_associate(more, keys[2]), 0);
    pkeyguard_scoped_read (int, number, more)
        ck_assert_int_eq(*number, 78);
    destroy(more, dedicated);
}
END_TEST

START_TEST(all_or_nothing)
{
    enum pkeyguard_rights rights[KEYS];
    struct pkeyguard_key *other = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *mixed[] = {regions[0], new_region(other), new_region(NULL), regions[1],
                                        regions[0]};
    enum { MIXED = sizeof(mixed) / sizeof(*mixed) };

    for (int i = 0; i < KEYS; i++)
        rights[i] = i % 2 ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE;
    ck_assert_int_eq(pkeyguard_acquire_all(MIXED, mixed, rights, guards), 0);
    assert_allowed(WRITE_BYTE, address_of(mixed[0]));
    assert_allowed(READ_BYTE, address_of(mixed[1]));
    assert_denied(WRITE_BYTE, address_of(mixed[1]), other);
    assert_allowed(WRITE_BYTE, address_of(mixed[2]));
    assert_allowed(READ_BYTE, address_of(mixed[3]));
    for (int i = 0; i < MIXED; i++)
        pkeyguard_release(&guards[MIXED - 1 - i]);
    assert_all_closed();
    ck_assert_int_eq(pkeyguard_acquire_all(0, NULL, NULL, NULL), 0);

    memset(guards, 0x5a, sizeof(*guards) * MIXED);
    mixed[4] = NULL;
    ck_assert_int_eq(pkeyguard_acquire_all(MIXED, mixed, rights, guards), -EINVAL);
    rights[4] = (enum pkeyguard_rights)0;
    mixed[4] = regions[4];
    ck_assert_int_eq(pkeyguard_acquire_all(MIXED, mixed, rights, guards), -EINVAL);
    for (int i = 0; i < MIXED; i++)
        ck_assert_uint_eq(guards[i].cleared | guards[i].how, 0);
    /* The third wants mprotect(2). */
    fail_call(CALL_MPROTECT, 0, ENOMEM, 1);
    ck_assert_int_eq(pkeyguard_acquire_all(4, mixed, rights, guards), -ENOMEM);
    ck_assert(stop_failing());
    for (int i = 0; i < MIXED; i++)
        ck_assert_uint_eq(guards[i].cleared | guards[i].how, 0);
    assert_all_closed();
    assert_denied(READ_BYTE, address_of(mixed[1]), other);
    assert_denied(READ_BYTE, address_of(mixed[2]), NULL);
    destroy(mixed[1], other);
    destroy(mixed[2], NULL);
}
END_TEST

START_TEST(registering)
{
    ck_assert_int_eq(pkeyguard_thread_register(), 0);
    ck_assert_int_eq(pkeyguard_thread_register(), 0);
}
END_TEST

/* ---- sharing ---- */

START_TEST(number_is_the_pkey_while_bound)
{
    for (int i = 0; i < KEYS; i++) {
        ck_assert_int_eq(pkeyguard_key_number(keys[i]), -1);
        ck_assert_int_eq(pkey_of_mapping(address_of(regions[i])), 0);
    }
    for (int i = 0; i < KEYS; i++) {
        open_and_close(i);
        ck_assert_int_ge(pkeyguard_key_number(keys[i]), 1);
        ck_assert_int_le(pkeyguard_key_number(keys[i]), 15);
        ck_assert_int_eq(pkey_of_mapping(address_of(regions[i])), pkeyguard_key_number(keys[i]));
    }
    for (int i = 0; i < KEYS; i++)
        ck_assert(bound(i) == (i >= KEYS - POOL));
    ck_assert_int_eq(pkey_of_mapping(address_of(regions[0])), 0);
}
END_TEST

START_TEST(one_pkey_stays_with_the_kernel)
{
    struct pkeyguard_platform platform;
    char *code = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    for (int i = 0; i < KEYS; i++)
        open_and_close(i);
    ck_assert_int_eq(pkeyguard_platform_probe(&platform), 0);
    ck_assert_uint_eq(platform.hardware_keys_free, 1);
    if (_i) { /* a dedicated key may have it */
        destroy(NULL, new_key(PKEYGUARD_NO_ACCESS, 0));
        return;
    }
    ck_assert_int_eq(mprotect(code, PAGE_BYTES, PROT_EXEC), 0);
    ck_assert(try_access(READ_BYTE, code).happened);
    ck_assert_int_eq(munmap(code, PAGE_BYTES), 0);
}
END_TEST

START_TEST(the_least_recently_used_goes)
{
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    /* These three were used since, the others not. */
    open_and_close(0);
    open_and_close(2);
    open_and_close(3);
    open_and_close(POOL);
    open_and_close(POOL + 1);
    for (int i = 0; i < POOL + 2; i++)
        ck_assert_msg(bound(i) == (i != 1 && i != 4), "key %d", i);
}
END_TEST

/* Of those that may be taken next guards find no binding, but have it back at once. */
START_TEST(a_key_in_use_again_keeps_its_pkey)
{
    for (int i = 0; i <= POOL; i++)
        open_and_close(i);
    ck_assert(!bound(0) && bound(1));
    fail_call(CALL_PKEY_MPROTECT, 0, ENOMEM, 1);
    for (int i = 1; i <= POOL; i++) {
        assert_closed(i);
        ck_assert_int_eq(acquire(i, PKEYGUARD_READ_WRITE), 0);
        for (int k = 0; k < KEYS; k++)
            ck_assert(try_access(READ_BYTE, address_of(regions[k])).happened == (k != i));
        pkeyguard_release(&guards[i]);
    }
    ck_assert(!stop_failing());
    open_and_close(0);
    ck_assert(bound(0) && !bound(1));
    assert_all_closed();
}
END_TEST

/* Meanwhile it gets one region and loses another, and it may be destroyed. */
START_TEST(a_key_that_may_lose_its_pkey_next)
{
    struct pkeyguard_region *more;

    for (int i = 0; i <= POOL; i++)
        open_and_close(i);
    ck_assert(bound(1) && bound(2));
    more = new_region(keys[1]);
    assert_denied(READ_BYTE, address_of(more), keys[1]);
    ck_assert_int_eq(pkeyguard_region_associate(regions[1], keys[2]), 0);
    assert_denied(READ_BYTE, address_of(regions[1]), keys[2]);
    ck_assert_int_eq(acquire(2, PKEYGUARD_READ_WRITE), 0);
    assert_allowed(WRITE_BYTE, address_of(regions[1]));
    assert_denied(READ_BYTE, address_of(more), keys[1]);
    pkeyguard_release(&guards[2]);
    destroy(more, keys[1]);
    keys[1] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    ck_assert_int_eq(pkeyguard_region_associate(regions[1], keys[1]), 0);
    for (int i = 0; i < KEYS; i++)
        open_and_close(i);
    assert_all_closed();
}
END_TEST

START_TEST(a_pinned_key_stays)
{
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    for (int round = 0; round < 5; round++) {
        for (int i = 1; i < KEYS; i++)
            open_and_close(i);
        ck_assert(bound(0));
        assert_allowed(WRITE_BYTE, address_of(regions[0]));
    }
    pkeyguard_release(&guards[0]);
    assert_all_closed();
}
END_TEST

static void pin_pool(void)
{
    for (int i = 0; i < POOL; i++)
        ck_assert_int_eq(acquire(i, i % 2 ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE), 0);
}

static void unpin_pool(void)
{
    for (int i = 0; i < POOL; i++)
        pkeyguard_release(&guards[i]);
}

START_TEST(all_pinned_is_busy)
{
    struct pkeyguard_guard guard, nested;
    enum pkeyguard_rights rights[] = {PKEYGUARD_READ_ONLY, PKEYGUARD_READ_ONLY};
    struct pkeyguard_region *both[] = {regions[0], regions[POOL]};
    struct pkeyguard_guard of_both[2];

    pin_pool();
    ck_assert_int_eq(pkeyguard_acquire(regions[POOL], PKEYGUARD_READ_ONLY, &guard), -EBUSY);
    ck_assert_uint_eq(guard.cleared | guard.how, 0);
    ck_assert_int_eq(pkeyguard_key_acquire(keys[POOL], PKEYGUARD_READ_ONLY, &guard), -EBUSY);
    errno = 0;
    pkeyguard_try_scoped_read (int, number, regions[POOL]) {
        ck_abort_msg("opened");
    } else {
        ck_assert_int_eq(errno, EBUSY);
    }
    ck_assert_int_eq(pkeyguard_region_destroy(regions[POOL]), -EBUSY);
    ck_assert_int_eq(pkeyguard_acquire_all(2, both, rights, of_both), -EBUSY);
    ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_ONLY, &nested), 0);
    pkeyguard_release(&nested);
    assert_closed(POOL);
    pkeyguard_release(&guards[3]);
    open_and_close(POOL);
    ck_assert(!bound(3));
    unpin_pool();
    assert_all_closed();
}
END_TEST

/* Creating one with content cannot be had either, and leaves nothing. */
START_TEST(all_pinned_and_a_region_to_fill)
{
    struct pkeyguard_region *none = NULL;
    struct resources before;
    int content = 1;

    pin_pool();
    before = count_resources();
    ck_assert_int_eq(
        pkeyguard_region_create_with(keys[POOL], &content, sizeof(content), PAGE_RW, 0, &none),
        -EBUSY);
    ck_assert_ptr_null(none);
    assert_resources(before);
    unpin_pool();
}
END_TEST

/* acquire_all of what can never be had at once fails at once. */
START_TEST(more_at_once_than_there_are)
{
    enum pkeyguard_rights rights[KEYS];

    for (int i = 0; i < KEYS; i++)
        rights[i] = PKEYGUARD_READ_WRITE;
    ck_assert_int_eq(pkeyguard_acquire_all(KEYS, regions, rights, guards), -EBUSY);
    for (int i = 0; i < KEYS; i++)
        ck_assert_uint_eq(guards[i].cleared | guards[i].how, 0);
    assert_all_closed();
    ck_assert_int_eq(pkeyguard_acquire_all(POOL, regions, rights, guards), 0);
    for (int i = 0; i < POOL; i++)
        assert_allowed(WRITE_BYTE, address_of(regions[i]));
    unpin_pool();
    assert_all_closed();
}
END_TEST

/* ---- threads ---- */

static void do_register(void *unused)
{
    (void)unused;
    ck_assert_int_eq(pkeyguard_thread_register(), 0);
}

static void do_acquire(void *i)
{
    ck_assert_int_eq(acquire((int)(intptr_t)i, PKEYGUARD_READ_WRITE), 0);
}

static void do_release(void *i)
{
    pkeyguard_release(&guards[(intptr_t)i]);
}

static void do_open_and_close(void *i)
{
    open_and_close((int)(intptr_t)i);
}

static struct fault seen_there;

static void do_read(void *address)
{
    seen_there = try_access(READ_BYTE, address);
}

static bool readable_there(struct worker *worker, const void *address)
{
    tell(worker, do_read, (void *)(uintptr_t)address);
    return !seen_there.happened;
}

static void evict_everything(int except)
{
    for (int i = 0; i < KEYS; i++) {
        if (i != except)
            open_and_close(i);
    }
}

/* Some pkeys may have been seen closed in every thread before this one came: they can be had. */
static void assert_in_the_way(struct worker *worker)
{
    int error = 0;

    for (int i = 0; i < KEYS && error == 0; i++) {
        error = acquire(i, PKEYGUARD_READ_WRITE);
        if (error == 0) {
            ck_assert(!readable_there(worker, address_of(regions[i])));
            pkeyguard_release(&guards[i]);
        }
    }
    ck_assert_int_eq(error, -EAGAIN);
}

/* A thread that never registered keeps every used pkey where it is. */
START_TEST(an_unregistered_thread_is_in_the_way)
{
    struct worker worker, brief;
    struct pkeyguard_guard guard;

    start(&worker);
    for (int i = 0; i < POOL; i++) /* never used before: these can be had */
        open_and_close(i);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    ck_assert_int_eq(pkeyguard_key_acquire(keys[POOL], PKEYGUARD_READ_WRITE, &guard), -EAGAIN);
    assert_closed(POOL);
    open_and_close(3);
    tell(&worker, do_register, NULL);
    open_and_close(POOL);
    end(&worker);
    evict_everything(-1);
    start(&worker);
    assert_in_the_way(&worker);
    tell(&worker, do_open_and_close, (void *)(intptr_t)(KEYS - 1)); /* registers, too */
    evict_everything(-1);
    start(&brief);
    end(&brief);
    evict_everything(-1);
    end(&worker);
}
END_TEST

/* A thread born inside a scope has it open, and keeps the pkey where it is until it registers. */
START_TEST(a_thread_born_inside_a_scope)
{
    struct worker worker;

    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    start(&worker);
    pkeyguard_release(&guards[0]);
    ck_assert(readable_there(&worker, address_of(regions[0])));
    for (int i = 1; i < KEYS; i++) {
        int error = acquire(i, PKEYGUARD_READ_WRITE);

        ck_assert(error == 0 || error == -EAGAIN);
        ck_assert_int_eq(error, i < POOL ? 0 : -EAGAIN);
        if (error == 0)
            pkeyguard_release(&guards[i]);
        ck_assert(!readable_there(&worker, address_of(regions[i])));
    }
    if (_i == 0)
        tell(&worker, do_register, NULL);
    else
        tell(&worker, do_open_and_close, (void *)(intptr_t)1);
    ck_assert(!readable_there(&worker, address_of(regions[0])));
    for (int i = 1; i < KEYS; i++) {
        open_and_close(i);
        ck_assert(!readable_there(&worker, address_of(regions[i])));
    }
    end(&worker);
}
END_TEST

START_TEST(pins_of_other_threads_count)
{
    struct worker worker;

    start(&worker);
    tell(&worker, do_acquire, (void *)0);
    evict_everything(0);
    ck_assert(bound(0));
    ck_assert(readable_there(&worker, address_of(regions[0])));
    assert_denied(READ_BYTE, address_of(regions[0]), keys[0]);
    ck_assert_int_eq(pkeyguard_region_destroy(regions[KEYS - 1]), 0);
    regions[KEYS - 1] = new_region(keys[KEYS - 1]);
    for (int i = 1; i < POOL; i++)
        ck_assert_int_eq(acquire(i, PKEYGUARD_READ_ONLY), 0);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EBUSY);
    tell(&worker, do_release, (void *)0);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), 0);
    ck_assert(!readable_there(&worker, address_of(regions[POOL])));
    for (int i = 1; i <= POOL; i++)
        pkeyguard_release(&guards[i]);
    end(&worker);
}
END_TEST

/* Opened after the library has looked whether anyone pins it, and before its binding is gone. */
static struct worker late;

static void one_pins_late(void *address, unsigned long length)
{
    (void)address, (void)length;
    tell(&late, do_acquire, (void *)0);
}

static void all_are_pinned_late(void *address, unsigned long length)
{
    (void)address, (void)length;
    for (int i = 0; i < POOL; i++)
        tell(&late, do_acquire, (void *)(intptr_t)i);
}

START_TEST(a_pin_that_was_not_seen_yet)
{
    int pinned = _i == 0 ? 1 : POOL;

    start(&late);
    tell(&late, do_register, NULL);
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    before_call(LOOK_AT_PINS, _i == 0 ? one_pins_late : all_are_pinned_late);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_WRITE), _i == 0 ? 0 : -EBUSY);
    for (int i = 0; i < pinned; i++) {
        ck_assert(bound(i));
        ck_assert(readable_there(&late, address_of(regions[i])));
        assert_denied(READ_BYTE, address_of(regions[i]), keys[i]);
    }
    ck_assert(!readable_there(&late, address_of(regions[POOL])));
    ck_assert(try_access(READ_BYTE, address_of(regions[POOL])).happened == (_i != 0));
    for (int i = 0; i < pinned; i++) {
        tell(&late, do_release, (void *)(intptr_t)i);
        ck_assert(!readable_there(&late, address_of(regions[i])));
    }
    pkeyguard_release(&guards[POOL]);
    evict_everything(-1);
    end(&late);
}
END_TEST

/*
 * What a thread does with guards on the first key: w, r and n acquire the next one, to write, to
 * read and to narrow that to reading; a digit releases the one of that number; x resets the thread;
 * s switches to a new coroutine, b back.
 */
static void do_steps(void *steps)
{
    static struct pkeyguard_guard held[2];
    static struct pkeyguard_thread_rights away, back;
    struct pkeyguard_guard *next = held;
    int error = 0;

    for (const char *step = steps; *step != '\0'; step++) {
        if (*step == 'w')
            error = pkeyguard_key_acquire(keys[0], PKEYGUARD_READ_WRITE, next++);
        else if (*step == 'r')
            error = pkeyguard_key_acquire(keys[0], PKEYGUARD_READ_ONLY, next++);
        else if (*step == 'n')
            error = pkeyguard_restrict(regions[0], PKEYGUARD_READ_ONLY, next++);
        else if (*step == 'x')
            pkeyguard_thread_reset();
        else if (*step == 's')
            error = pkeyguard_thread_switch(&away, NULL);
        else if (*step == 'b')
            error = pkeyguard_thread_switch(&back, &away);
        else
            pkeyguard_release(&held[*step - '0']);
        ck_assert_int_eq(error, 0);
    }
}

/* The thread has these on the first key, and as ever all on pkey 0, which the stack has, too. */
static void assert_rights(void *these)
{
    enum pkeyguard_rights rights = *(enum pkeyguard_rights *)these;

    ck_assert_uint_eq(pkeyguard_pkru_read() & 3, 0);
    if (regions[0] != NULL && rights == PKEYGUARD_NO_ACCESS) {
        assert_closed(0);
    } else if (regions[0] != NULL) {
        assert_allowed(READ_BYTE, address_of(regions[0]));
        if (rights == PKEYGUARD_READ_WRITE)
            assert_allowed(WRITE_BYTE, address_of(regions[0]));
        else
            assert_denied(WRITE_BYTE, address_of(regions[0]), keys[0]);
    }
    ck_assert_int_eq(pkeyguard_key_rights(keys[0]), rights);
}

/*
 * What a thread does before a binding is taken away, while it is, and after that; what rights it
 * has meanwhile, and whether it still pins the key.
 */
static struct script {
    const char *before, *meanwhile, *after;
    enum pkeyguard_rights rights;
    bool pinned;
} scripts[] = {
    {"w", "0", "", PKEYGUARD_NO_ACCESS, false},   {"r", "0", "", PKEYGUARD_NO_ACCESS, false},
    {"ww", "10", "", PKEYGUARD_NO_ACCESS, false}, {"ww", "01", "", PKEYGUARD_NO_ACCESS, false},
    {"rw", "10", "", PKEYGUARD_NO_ACCESS, false}, {"ww", "1", "0", PKEYGUARD_READ_WRITE, true},
    {"rw", "1", "0", PKEYGUARD_READ_ONLY, true},  {"ww", "0", "1", PKEYGUARD_NO_ACCESS, true},
    {"wn", "1", "0", PKEYGUARD_READ_WRITE, true}, {"wn", "10", "", PKEYGUARD_NO_ACCESS, false},
    {"w", "x", "", PKEYGUARD_NO_ACCESS, false},   {"w", "s", "b0", PKEYGUARD_NO_ACCESS, false},
};
enum { SCRIPTS = sizeof(scripts) / sizeof(*scripts), WITHOUT_REGION = 8 };
static struct script *script;
static enum pkeyguard_rights no_access = PKEYGUARD_NO_ACCESS;

static void begin_script(int i)
{
    script = &scripts[i];
    start(&late);
    tell(&late, do_register, NULL);
}

static void be_meanwhile(void *address, unsigned long length)
{
    (void)address, (void)length;
    tell(&late, do_steps, (void *)(uintptr_t)script->meanwhile);
    tell(&late, assert_rights, &script->rights);
}

static void be_before(void *address, unsigned long length)
{
    (void)address, (void)length;
    tell(&late, do_steps, (void *)(uintptr_t)script->before);
    before_call(CALL_MEMBARRIER, be_meanwhile);
}

/*
 * Again a pin is not seen yet, so its binding is taken away; now the scope ends before the library
 * looks once more. Twice: a thread older than the pool opens a pkey in a slower way at first, and
 * what the first time may have left is there.
 */
START_TEST(a_scope_ends_while_its_binding_is_away)
{
    begin_script(_i);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 2 * POOL; i++) /* the second time binds those that may go next */
            open_and_close(i % POOL);
        before_call(LOOK_AT_PINS, be_before);
        ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_WRITE), 0);
        ck_assert(bound(0) == script->pinned);
        tell(&late, assert_rights, &script->rights);
        ck_assert(!readable_there(&late, address_of(regions[POOL])));
        tell(&late, do_steps, (void *)(uintptr_t)script->after);
        tell(&late, assert_rights, &no_access);
        pkeyguard_release(&guards[POOL]);
        evict_everything(0);
        ck_assert(!bound(0));
    }
    evict_everything(-1);
    end(&late);
}
END_TEST

/* Whether a key may be destroyed is found out in the same script. */
START_TEST(a_scope_ends_while_its_key_is_destroyed)
{
    evict_everything(-1);
    begin_script(_i);
    ck_assert_int_eq(pkeyguard_region_destroy(regions[0]), 0);
    regions[0] = NULL;
    tell(&late, do_steps, (void *)(uintptr_t)script->before);
    before_call(CALL_MEMBARRIER, be_meanwhile);
    ck_assert_int_eq(pkeyguard_key_destroy(keys[0]), script->pinned ? -EBUSY : 0);
    if (script->pinned) {
        tell(&late, assert_rights, &script->rights);
        tell(&late, do_steps, (void *)(uintptr_t)script->after);
        tell(&late, assert_rights, &no_access);
        ck_assert_int_eq(pkeyguard_key_destroy(keys[0]), 0);
    }
    keys[0] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    regions[0] = new_region(keys[0]);
    for (int i = 0; i < KEYS; i++) {
        open_and_close(i);
        ck_assert(!readable_there(&late, address_of(regions[i])));
    }
    end(&late);
}
END_TEST

/* Released by another thread a guard changes nothing: it is that thread's key that is open. */
START_TEST(a_guard_released_elsewhere)
{
    struct worker worker;

    start(&worker);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    guards[KEYS] = guards[0];
    tell(&worker, do_release, (void *)(intptr_t)KEYS);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    tell(&worker, do_register, NULL);
    evict_everything(0);
    ck_assert(bound(0));
    pkeyguard_release(&guards[0]);
    end(&worker);
    evict_everything(-1);
}
END_TEST

/* However a thread ends, with guards open, its pins go and it is counted no more. */
static pthread_key_t destructor;

static void *end_holding(void *how)
{
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    switch ((intptr_t)how) {
    case 0:
        return NULL;
    case 1:
        pthread_exit(NULL);
    case 2:
        syscall(SYS_exit, 0);
        return NULL;
    case 3:
        pthread_setspecific(destructor, how);
        return NULL;
    default:
        for (;;)
            sleep(1000); /* a cancellation point */
    }
}

static void use_in_destructor(void *unused)
{
    (void)unused;
    ck_assert_int_eq(acquire(1, PKEYGUARD_READ_WRITE), 0);
    *address_of(regions[1]) = 'd';
    pkeyguard_release(&guards[1]);
    ck_assert_int_eq(acquire(2, PKEYGUARD_READ_WRITE), 0);
}

START_TEST(a_thread_that_ends)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_key_create(&destructor, use_in_destructor), 0);
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(pthread_create(&thread, NULL, end_holding, (void *)(intptr_t)_i), 0);
        while (!bound(0))
            sched_yield();
        if (_i == 4)
            pthread_cancel(thread);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        evict_everything(0);
        evict_everything(0);
        ck_assert(!bound(0));
    }
    for (int i = 0; i < POOL; i++)
        ck_assert_int_eq(acquire(i, PKEYGUARD_READ_ONLY), 0);
    unpin_pool();
}
END_TEST

/* The kernel counts the first thread to the end of the process. */
static pthread_t main_thread;

static void *outlive_main(void *unused)
{
    (void)unused;
    pthread_join(main_thread, NULL);
    for (int round = 0; round < 2; round++) {
        for (int i = 1; i < KEYS; i++) {
            int error = acquire(i, PKEYGUARD_READ_WRITE);

            if (error != 0)
                _exit(-error);
            pkeyguard_release(&guards[i]);
        }
    }
    _exit(bound(0) ? 1 : 0);
}

START_TEST(the_main_thread_ends)
{
    pthread_t thread;
    pid_t child = fork();

    if (child == 0) {
        main_thread = pthread_self();
        (void)!acquire(0, PKEYGUARD_READ_WRITE);
        pthread_create(&thread, NULL, outlive_main, NULL);
        pthread_exit(NULL);
    }
    assert_exits(child, 0);
}
END_TEST

/* A child's first thread is registered if the thread that forked is. */
static void fork_and_end(void *unused)
{
    pthread_t thread;
    pid_t child = fork();

    (void)unused;
    if (child == 0) {
        main_thread = pthread_self();
        pthread_create(&thread, NULL, outlive_main, NULL);
        pthread_exit(NULL);
    }
    assert_exits(child, 0);
}

START_TEST(a_main_thread_ends_that_never_registered)
{
    struct worker worker;

    start(&worker);
    tell(&worker, fork_and_end, NULL);
    end(&worker);
}
END_TEST

/* ---- what a hit writes to ---- */

enum { TRAP_FLAG = 0x100, LINE_BYTES = 64, MOST_LINES = 64, MOST_RANGES = 128 };

/* On a thread's stack, for what is traced is everything but that. */
struct trace {
    struct range {
        uintptr_t start, end;
    } ranges[MOST_RANGES];
    int range_count, line_count;
    uintptr_t lines[MOST_LINES];
    uintptr_t open_page;
};

static struct trace *trace;
static uintptr_t main_self;

static void protect_range(struct range range, int prot)
{
    if (range.start < range.end)
        syscall(SYS_mprotect, range.start, range.end - range.start, prot);
}

/* Whether the CPU traps after the next instruction. */
static void step_from(void *context, bool trap)
{
#ifdef __x86_64__
    greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];

    *flags = trap ? *flags | TRAP_FLAG : *flags & ~TRAP_FLAG;
#else
    (void)context, (void)trap;
#endif
}

static void on_write(int unused, siginfo_t *info, void *context)
{
    uintptr_t address = (uintptr_t)info->si_addr;

    (void)unused;
    if (trace->line_count < MOST_LINES)
        trace->lines[trace->line_count++] = address / LINE_BYTES;
    trace->open_page = address & ~(uintptr_t)(PAGE_BYTES - 1);
    protect_range((struct range){trace->open_page, trace->open_page + PAGE_BYTES}, PAGE_RW);
    step_from(context, true);
}

/* After that one instruction. */
static void on_step(int unused, siginfo_t *info, void *context)
{
    (void)unused, (void)info;
    protect_range((struct range){trace->open_page, trace->open_page + PAGE_BYTES}, PROT_READ);
    step_from(context, false);
}

static void add_range(uintptr_t start, uintptr_t end)
{
    ck_assert_int_lt(trace->range_count, MOST_RANGES);
    trace->ranges[trace->range_count++] = (struct range){start, end};
}

/* But for a thread's own memory, around where its descriptor lies. */
static void add_around(uintptr_t start, uintptr_t end, uintptr_t self)
{
    uintptr_t page = self & ~(uintptr_t)(PAGE_BYTES - 1);

    if (self < start || self >= end) {
        add_range(start, end);
        return;
    }
    add_range(start, page - 2 * PAGE_BYTES < start ? start : page - 2 * PAGE_BYTES);
    add_range(page + 2 * PAGE_BYTES < end ? page + 2 * PAGE_BYTES : end, end);
}

/* All that may be written to but the stacks and the regions. */
static void find_ranges(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    uintptr_t local = (uintptr_t)&maps;
    char line[512];

    trace->range_count = 0;
    while (fgets(line, sizeof(line), maps) != NULL) {
        unsigned long start, end;
        char prot[5];
        bool is_region = false;

        ck_assert_int_eq(sscanf(line, "%lx-%lx %4s", &start, &end, prot), 3);
        for (int i = 0; i < KEYS; i++)
            is_region |= (uintptr_t)address_of(regions[i]) - start < end - start;
        if (strcmp(prot, "rw-p") == 0 && strstr(line, "[stack]") == NULL && !is_region &&
            local - start >= end - start)
            add_around(start, end, main_self);
    }
    fclose(maps);
}

static void protect_ranges(int prot)
{
    for (int i = 0; i < trace->range_count; i++)
        protect_range(trace->ranges[i], prot);
}

static void write_and_read(void)
{
    pkeyguard_scoped_write (volatile int, number, regions[0])
        *number = 1;
    pkeyguard_scoped_read (volatile int, number, regions[0])
        (void)*number;
}

/* The cache lines that a hit writes to. */
static void trace_hit(struct trace *ret_trace)
{
    struct sigaction write = {.sa_sigaction = on_write, .sa_flags = SA_SIGINFO};
    struct sigaction step = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};

    sigaction(SIGSEGV, &write, NULL);
    sigaction(SIGTRAP, &step, NULL);
    trace = ret_trace;
    /* Once before, which binds key and functions. */
    for (int i = 0; i < 2; i++) {
        write_and_read();
        find_ranges();
        trace->line_count = 0;
        protect_ranges(PROT_READ);
        write_and_read();
        protect_ranges(PAGE_RW);
    }
    ck_assert_int_gt(trace->line_count, 0);
    ck_assert_int_lt(trace->line_count, MOST_LINES);
}

static void *trace_there(void *ret_trace)
{
    struct trace mine;

    trace_hit(&mine);
    *(struct trace *)ret_trace = mine;
    return NULL;
}

/* Neither lock nor count of the key's or of all threads': nothing that another thread writes to,
 * also with the same key. */
START_TEST(a_hit_writes_to_no_shared_line)
{
    struct trace here, there;
    pthread_t thread;

    main_self = (uintptr_t)pthread_self();
    trace_hit(&here);
    ck_assert_int_eq(pthread_create(&thread, NULL, trace_there, &there), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    for (int i = 0; i < here.line_count; i++) {
        for (int k = 0; k < there.line_count; k++)
            ck_assert_uint_ne(here.lines[i], there.lines[k]);
    }
}
END_TEST

/* ---- waiting ---- */

static atomic_int waits;

static void do_scope(void *i)
{
    waits++;
    pkeyguard_scoped_write (int, number, regions[(intptr_t)i]) {
        waits--;
        *number = 5;
    }
}

static void do_acquire_all(void *i)
{
    struct pkeyguard_region *two[] = {regions[(intptr_t)i], regions[(intptr_t)i + 1]};
    static const enum pkeyguard_rights rights[] = {PKEYGUARD_READ_WRITE, PKEYGUARD_READ_WRITE};
    struct pkeyguard_guard of_two[2];

    waits++;
    ck_assert_int_eq(pkeyguard_acquire_all(2, two, rights, of_two), 0);
    waits--;
    *address_of(two[0]) = *address_of(two[1]) = 5;
    pkeyguard_release(&of_two[0]);
    pkeyguard_release(&of_two[1]);
}

static void do_key_scope(void *i)
{
    waits++;
    pkeyguard_scoped_key_write (guard, keys[(intptr_t)i])
        waits--;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 60 * 1000 * 1000}, NULL);
}

START_TEST(scopes_wait_for_a_pin_to_drop)
{
    static void (*const ways[])(void *) = {do_scope, do_key_scope, do_acquire_all};
    int way = _i / 2;
    struct worker worker;

    start(&worker);
    tell(&worker, do_register, NULL);
    pin_pool();
    waits = 0;
    if (_i % 2 == 0) /* else it looks for itself now and then */
        wait_without_limit();
    begin(&worker, ways[way], (void *)(intptr_t)POOL);
    while (waits == 0)
        sched_yield();
    nap();
    ck_assert_int_eq(waits, 1);
    pkeyguard_release(&guards[0]);
    if (way == 2) {
        nap();
        ck_assert_int_eq(waits, 1);
        pkeyguard_release(&guards[1]);
    }
    finish(&worker);
    ck_assert_int_eq(waits, 0);
    unpin_pool();
    end(&worker);
    assert_all_closed();
}
END_TEST

static void do_acquire_to_read(void *i)
{
    ck_assert_int_eq(acquire((int)(intptr_t)i, PKEYGUARD_READ_ONLY), 0);
}

static void (*acquire_late)(void *i);

static void begin_to_acquire(void *address, unsigned long length)
{
    (void)address, (void)length;
    begin(&late, acquire_late, (void *)0);
    nap();
    ck_assert_int_ne(late.done, late.order);
}

static void begin_to_acquire_after_a_look(void *address, unsigned long length)
{
    (void)address, (void)length;
    before_call(LOOK_AT_PINS, begin_to_acquire);
}

/* Begun while the binding is away, one waits for what becomes of it: here another key gets it. */
START_TEST(a_guard_waits_while_its_binding_is_away)
{
    acquire_late = _i % 2 ? do_acquire_to_read : do_acquire;
    start(&late);
    tell(&late, do_register, NULL);
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    before_call(CALL_MEMBARRIER, _i / 2 ? begin_to_acquire_after_a_look : begin_to_acquire);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_WRITE), 0);
    assert_allowed(WRITE_BYTE, address_of(regions[POOL]));
    finish(&late);
    ck_assert(bound(0) && bound(POOL));
    ck_assert_int_ne(pkeyguard_key_number(keys[0]), pkeyguard_key_number(keys[POOL]));
    for (int i = 0; i < KEYS; i++) {
        ck_assert(readable_there(&late, address_of(regions[i])) == (i == 0));
        ck_assert(try_access(READ_BYTE, address_of(regions[i])).happened == (i != POOL));
    }
    tell(&late, do_release, (void *)0);
    tell(&late, assert_rights, &no_access);
    pkeyguard_release(&guards[POOL]);
    evict_everything(0);
    ck_assert(!bound(0));
    end(&late);
}
END_TEST

/* One that ends says nothing. */
static void *pin_pool_and_end(void *unused)
{
    (void)unused;
    pin_pool();
    waits = 1;
    while (waits == 1)
        sched_yield();
    nap();
    return NULL;
}

START_TEST(scopes_wait_for_a_thread_to_end)
{
    pthread_t thread;

    waits = 0;
    ck_assert_int_eq(pthread_create(&thread, NULL, pin_pool_and_end, NULL), 0);
    while (waits == 0)
        sched_yield();
    do_scope((void *)(intptr_t)POOL);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

static void open_scope(int i)
{
    pkeyguard_scoped_read (int, number, regions[i])
        (void)*number;
}
enum { SCOPE_LINE = __LINE__ - 3 };

static void wait_while_holding(void *unused)
{
    (void)unused;
    pin_pool();
    open_scope(POOL);
}

static void wait_in_handler(int unused)
{
    (void)unused;
    open_scope(POOL);
}

static void others_hold_and_a_handler_waits(void *unused)
{
    static struct worker worker;

    (void)unused;
    start(&worker);
    for (int i = 0; i < POOL; i++)
        tell(&worker, do_acquire, (void *)(intptr_t)i);
    signal(SIGUSR1, wait_in_handler);
    raise(SIGUSR1);
}

static void an_unregistered_thread(void *ret_thread)
{
    static struct worker worker;

    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    start(&worker);
    *(pid_t *)ret_thread = worker.id;
    open_scope(POOL);
}

#define LAST_WORDS "libpkeyguard: " __FILE__ ":%d: cannot open a read scope: %s\n"

START_TEST(scopes_that_may_not_wait_abort)
{
    static void (*const calls[])(void *) = {wait_while_holding, others_hold_and_a_handler_waits};
    char said[512], expected[512];

    snprintf(expected, sizeof(expected), LAST_WORDS, SCOPE_LINE,
             "in use: by a region or an open guard, or open guards pin every protection key");
    ck_assert(WIFSIGNALED(last_words(calls[_i], NULL, said, sizeof(said))));
    ck_assert_str_eq(said, expected);
}
END_TEST

START_TEST(the_thread_in_the_way_is_named)
{
    pid_t *thread = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    char why[256], said[512], expected[512];

    ck_assert(WIFSIGNALED(last_words(an_unregistered_thread, thread, said, sizeof(said))));
    snprintf(why, sizeof(why),
             "not now: a thread has not registered, or there is no room for another process: "
             "thread %d",
             (int)*thread);
    snprintf(expected, sizeof(expected), LAST_WORDS, SCOPE_LINE, why);
    ck_assert_str_eq(said, expected);
}
END_TEST

static void *register_late(void *unused)
{
    (void)unused;
    nap();
    nap();
    ck_assert_int_eq(pkeyguard_thread_register(), 0);
    nap();
    return NULL;
}

START_TEST(a_thread_may_take_a_moment_to_register)
{
    pthread_t thread;

    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    ck_assert_int_eq(pthread_create(&thread, NULL, register_late, NULL), 0);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    open_scope(POOL);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

/* Threads that each want two of the pool, or one, or hold one and try for more: none waits for
 * ever. */
enum { WANTING = 6 };
static pthread_barrier_t all_registered;

static void *want(void *argument)
{
    unsigned seed = (unsigned)(intptr_t)argument;

    ck_assert_int_eq(pkeyguard_thread_register(), 0);
    pthread_barrier_wait(&all_registered);
    for (int round = 0; round < 60; round++) {
        int i = rand_r(&seed) % (KEYS - 1);
        struct pkeyguard_region *some[KEYS];
        struct pkeyguard_guard of_some[KEYS];
        enum pkeyguard_rights rights[KEYS];

        if (rand_r(&seed) % 2) {
            pkeyguard_scoped_write (int, number, regions[i]) {
                sched_yield();
                *number = round;
            }
            continue;
        }
        for (int k = 0; k < 10; k++) {
            some[k] = regions[(i + k) % KEYS];
            rights[k] = PKEYGUARD_READ_WRITE;
        }
        ck_assert_int_eq(pkeyguard_acquire_all(10, some, rights, of_some), 0);
        sched_yield();
        for (int k = 0; k < 10; k++) {
            *address_of(some[k]) = 'x';
            pkeyguard_release(&of_some[k]);
        }
    }
    return NULL;
}

START_TEST(nobody_waits_for_ever)
{
    pthread_t threads[WANTING];

    pthread_barrier_init(&all_registered, NULL, WANTING);
    for (int t = 0; t < WANTING; t++)
        ck_assert_int_eq(pthread_create(&threads[t], NULL, want, (void *)(intptr_t)(t + 1)), 0);
    for (int t = 0; t < WANTING; t++)
        ck_assert_int_eq(pthread_join(threads[t], NULL), 0);
    assert_all_closed();
}
END_TEST

/* ---- signal handlers ---- */

static volatile int in_handler;

static void handle(int unused)
{
    (void)unused;
    in_handler = 0;
    if (pkeyguard_key_rights(keys[0]) != PKEYGUARD_NO_ACCESS)
        in_handler = 1;
    for (int i = 1; i < KEYS; i++) { /* more than can be bound beside it */
        if (acquire(i, i % 2 ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY) != 0)
            in_handler = 2;
        if (pkeyguard_key_rights(keys[i]) != (i % 2 ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY))
            in_handler = 3;
        pkeyguard_release(&guards[i]);
        if (pkeyguard_key_rights(keys[i]) != PKEYGUARD_NO_ACCESS)
            in_handler = 4;
    }
    if (acquire(0, PKEYGUARD_READ_ONLY) != 0)
        in_handler = 5;
    if (pkeyguard_key_rights(keys[0]) != PKEYGUARD_READ_ONLY)
        in_handler = 6;
    pkeyguard_release(&guards[0]);
}

START_TEST(a_handler_opens_and_evicts)
{
    uint32_t before;

    signal(SIGUSR1, handle);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    guards[KEYS] = guards[0];
    before = pkeyguard_pkru_read();
    for (int round = 0; round < 3; round++) {
        raise(SIGUSR1);
        ck_assert_int_eq(in_handler, 0);
        ck_assert_uint_eq(pkeyguard_pkru_read(), before);
        assert_allowed(WRITE_BYTE, address_of(regions[0]));
    }
    pkeyguard_release(&guards[KEYS]);
    assert_all_closed();
}
END_TEST

static int from_handler;

static void acquire_one(int unused)
{
    (void)unused;
    from_handler = acquire(1, PKEYGUARD_READ_WRITE);
    if (from_handler == 0)
        pkeyguard_release(&guards[1]);
}

static void first_guard_in_handler(void *alternate)
{
    static char stack[65536];
    struct sigaction action = {.sa_handler = acquire_one};

    if (alternate != NULL) {
        stack_t other = {.ss_sp = stack, .ss_size = sizeof(stack)};

        ck_assert_int_eq(sigaltstack(&other, NULL), 0);
        action.sa_flags = SA_ONSTACK;
    }
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
}

/* It could close the key in the handler only, and the return would open it again. */
START_TEST(a_first_guard_in_a_handler_is_refused)
{
    struct worker worker;

    open_and_close(1);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    start(&worker);
    pkeyguard_release(&guards[0]);
    from_handler = 0;
    tell(&worker, first_guard_in_handler, _i ? "" : NULL);
    ck_assert_int_eq(from_handler, -EAGAIN);
    ck_assert(readable_there(&worker, address_of(regions[0])));
    for (int i = 1; i < POOL; i++)
        open_and_close(i);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    tell(&worker, do_open_and_close, (void *)1);
    ck_assert(!readable_there(&worker, address_of(regions[0])));
    tell(&worker, first_guard_in_handler, _i ? "" : NULL);
    ck_assert_int_eq(from_handler, 0);
    evict_everything(-1);
    end(&worker);
}
END_TEST

static int refused, hit;

static void inside_the_library(void *address, unsigned long length)
{
    (void)address, (void)length;
    refused = acquire(2, PKEYGUARD_READ_ONLY); /* not bound */
    hit = acquire(0, PKEYGUARD_READ_ONLY);
    if (hit == 0)
        pkeyguard_release(&guards[0]);
}

START_TEST(inside_the_library_only_bound_keys_open)
{
    open_and_close(0);
    refused = hit = 1;
    before_call(CALL_PKEY_MPROTECT, inside_the_library);
    open_and_close(1);
    ck_assert_int_eq(refused, -EDEADLK);
    ck_assert_int_eq(hit, 0);
    assert_all_closed();
}
END_TEST

static sigjmp_buf out_of_handler;

static void leave_by_jump(int unused)
{
    (void)unused;
    (void)!acquire(1, PKEYGUARD_READ_WRITE);
    siglongjmp(out_of_handler, 1);
}

/* What was open then is closed, pinned and stays where it is; everything else goes on. */
START_TEST(a_jump_out_of_a_handler)
{
    make_keys(KEYS);
    signal(SIGUSR1, leave_by_jump);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    if (sigsetjmp(out_of_handler, 1) == 0)
        raise(SIGUSR1);
    assert_closed(0);
    for (int round = 0; round < 2; round++) {
        for (int i = 2; i < KEYS; i++)
            open_and_close(i);
    }
    ck_assert(bound(0));
    ck_assert(bound(1));
    open_and_close(0);
    open_and_close(1);
}
END_TEST

/* ---- reset ---- */

START_TEST(reset_closes_and_unpins)
{
    struct pkeyguard_guard nested;

    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_ONLY, &nested), 0);
    ck_assert_int_eq(acquire(1, PKEYGUARD_READ_ONLY), 0);
    pkeyguard_thread_reset();
    assert_all_closed();
    evict_everything(0);
    ck_assert(!bound(0));
    pkeyguard_release(&guards[0]); /* of no effect, and no harm */
    pkeyguard_release(&nested);
    pkeyguard_release(&guards[1]);
    assert_all_closed();
    for (int i = 0; i < POOL; i++)
        ck_assert_int_eq(acquire(i, PKEYGUARD_READ_ONLY), 0);
    unpin_pool();
}
END_TEST

static void do_reset(void *unused)
{
    (void)unused;
    pkeyguard_thread_reset();
}

START_TEST(reset_registers)
{
    struct worker worker;

    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    start(&worker);
    pkeyguard_release(&guards[0]);
    tell(&worker, do_reset, NULL);
    ck_assert(!readable_there(&worker, address_of(regions[0])));
    evict_everything(-1);
    end(&worker);
}
END_TEST

static void reset_in_handler(int unused)
{
    (void)unused;
    if (acquire(1, PKEYGUARD_READ_ONLY) != 0)
        return;
    pkeyguard_thread_reset();
    in_handler = pkeyguard_key_rights(keys[1]) == PKEYGUARD_NO_ACCESS;
}

/* The return from it brings back what was open, so that must stay pinned. */
START_TEST(reset_in_a_handler_unpins_nothing)
{
    make_keys(KEYS);
    signal(SIGUSR1, reset_in_handler);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    in_handler = 0;
    raise(SIGUSR1);
    ck_assert_int_eq(in_handler, 1);
    assert_allowed(WRITE_BYTE, address_of(regions[0]));
    for (int round = 0; round < 2; round++) {
        for (int i = 2; i < KEYS; i++)
            open_and_close(i);
    }
    ck_assert(bound(0));
    pkeyguard_release(&guards[0]);
    assert_all_closed();
}
END_TEST

/* ---- threads older than the pool ---- */

START_TEST(a_thread_older_than_the_pool)
{
    struct worker worker;

    start(&worker);
    make_keys(KEYS);
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    from_handler = 0;
    tell(&worker, first_guard_in_handler, _i ? "" : NULL);
    ck_assert_int_eq(from_handler, -EAGAIN);
    for (int i = 0; i < KEYS; i++) {
        tell(&worker, do_open_and_close, (void *)(intptr_t)i);
        ck_assert(!readable_there(&worker, address_of(regions[i])));
    }
    evict_everything(-1);
    end(&worker);
    destroy_keys(KEYS);
}
END_TEST

START_TEST(no_barrier)
{
    struct pkeyguard_key *none = NULL;

    fail_call(CALL_MEMBARRIER, 0, ENOSYS, 1);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL, &none),
                     -ENOTSUP);
    ck_assert(stop_failing());
    ck_assert_ptr_null(none);
    set_up();
    evict_everything(-1);
    tear_down();
}
END_TEST

START_TEST(no_pkeys_after_all)
{
    fail_call(CALL_PKEY_ALLOC, 0, ENOSYS, 1);
    keys[0] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    ck_assert(stop_failing());
    ck_assert_int_eq(pkeyguard_key_enforcement(keys[0]), PKEYGUARD_MPROTECT);
    ck_assert_int_eq(pkeyguard_key_destroy(keys[0]), 0);
}
END_TEST

START_TEST(no_memory_for_a_record)
{
    struct pkeyguard_key *none = NULL;

    fail_call(CALL_MMAP, 0, ENOMEM, 1);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL, &none),
                     -ENOMEM);
    ck_assert(stop_failing());
    ck_assert_ptr_null(none);
    set_up();
    tear_down();
}
END_TEST

START_TEST(an_empty_pool)
{
    struct pkeyguard_key *dedicated[16], *key;
    struct pkeyguard_guard guard;
    int count = 0;

    while (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &dedicated[count]) == 0)
        count++;
    key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &guard), -ENOSPC);
    /* What a destroyed key had comes to the pool while there is a single thread. */
    ck_assert_int_eq(pkeyguard_key_destroy(dedicated[0]), 0);
    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &guard), 0);
    pkeyguard_release(&guard);
    ck_assert_int_eq(pkeyguard_key_destroy(key), 0);
    while (--count > 0)
        ck_assert_int_eq(pkeyguard_key_destroy(dedicated[count]), 0);
}
END_TEST

/* ---- fork ---- */

START_TEST(a_child_keeps_its_own_pins)
{
    struct worker worker, another;
    pid_t child;

    start(&worker);
    start(&another);
    tell(&another, do_register, NULL);
    tell(&worker, do_acquire, (void *)1);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    evict_everything(0); /* which counts the parent's threads */
    child = fork();
    if (child == 0) {
        struct worker stranger;

        evict_everything(0);
        ck_assert(bound(0));
        assert_allowed(WRITE_BYTE, address_of(regions[0]));
        pkeyguard_release(&guards[0]);
        evict_everything(0);
        ck_assert(!bound(0));
        start(&stranger);
        assert_in_the_way(&stranger);
        tell(&stranger, do_register, NULL);
        evict_everything(-1);
        tell(&stranger, do_acquire, (void *)0);
        evict_everything(0);
        ck_assert(bound(0));
        _exit(0);
    }
    assert_exits(child, 0);
    evict_everything(0);
    ck_assert(bound(1));
    tell(&worker, do_release, (void *)1);
    pkeyguard_release(&guards[0]);
    end(&worker);
    end(&another);
    evict_everything(-1);
}
END_TEST

static void fork_here(void *unused)
{
    pid_t child = fork();

    (void)unused;
    if (child == 0) {
        for (int i = 0; i < KEYS; i++)
            open_and_close(i);
        _exit(bound(0) ? 1 : 0);
    }
    assert_exits(child, 0);
}

START_TEST(a_child_of_another_thread)
{
    struct worker worker;

    evict_everything(-1);
    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    start(&worker);
    if (_i)
        tell(&worker, do_register, NULL);
    tell(&worker, fork_here, NULL);
    pkeyguard_release(&guards[0]);
    end(&worker);
}
END_TEST

/* A child made by vfork(2) shares this process's memory, and has its parent's rights for a moment.
 */
START_TEST(a_process_is_spawned_inside_a_scope)
{
    pid_t child;

    ck_assert_int_eq(acquire(0, PKEYGUARD_READ_WRITE), 0);
    child = vfork();
    if (child == 0)
        _exit(address_of(regions[0])[0]);
    assert_exits(child, 0);
    evict_everything(0);
    pkeyguard_release(&guards[0]);
    evict_everything(-1);
}
END_TEST

/* ---- what the program and the kernel may do to it ---- */

/* In a process with one thread there is nothing to count, and no barrier. */
static void start_registered(struct worker *worker)
{
    start(worker);
    tell(worker, do_register, NULL);
}

START_TEST(the_program_closes_every_file)
{
    struct worker worker, second;
    int files[8];

    start_registered(&second);
    evict_everything(-1);
    ck_assert_int_eq(syscall(SYS_close_range, 3, ~0u, 0), 0);
    evict_everything(-1);
    ck_assert_int_eq(syscall(SYS_close_range, 3, ~0u, 0), 0);
    for (int i = 0; i < 8; i++)
        ck_assert_int_ge(files[i] = open(i % 2 ? "/proc/self" : "/dev/null", O_RDONLY), 3);
    evict_everything(-1);
    start(&worker);
    assert_in_the_way(&worker);
    end(&worker);
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(close(files[i]), 0);
    evict_everything(-1);
    end(&second);
}
END_TEST

START_TEST(the_threads_cannot_be_counted)
{
    struct worker worker;

    start_registered(&worker);
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    ck_assert_int_eq(syscall(SYS_close_range, 3, ~0u, 0), 0);
    fail_call(CALL_OPENAT, 0, ENOENT, 1);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -EAGAIN);
    ck_assert(stop_failing());
    assert_all_closed();
    open_and_close(0);
    evict_everything(-1);
    end(&worker);
}
END_TEST

START_TEST(a_barrier_fails)
{
    struct worker worker;

    start_registered(&worker);
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    fail_call(CALL_MEMBARRIER, 0, ENOMEM, 1);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_ONLY), -ENOMEM);
    ck_assert(stop_failing());
    ck_assert(bound(0));
    assert_all_closed();
    evict_everything(-1);
    /* A key that may be pinned is not destroyed. */
    ck_assert_int_eq(pkeyguard_region_destroy(regions[KEYS - 1]), 0);
    ck_assert(bound(KEYS - 1));
    fail_call(CALL_MEMBARRIER, 0, ENOMEM, 1);
    ck_assert_int_eq(pkeyguard_key_destroy(keys[KEYS - 1]), -EBUSY);
    ck_assert(stop_failing());
    ck_assert(bound(KEYS - 1));
    regions[KEYS - 1] = new_region(keys[KEYS - 1]);
    end(&worker);
}
END_TEST

/*
 * Two keys of three regions each: the kernel refuses the n-th change of pages, once or from then
 * on, while one is evicted and the other bound.
 */
enum { EACH = 3 };

START_TEST(changes_refused_half_way)
{
    struct pkeyguard_region *old[EACH] = {regions[0]}, *new[EACH] = {regions[POOL]};
    int refused_at = _i % (2 * EACH), times = _i / (2 * EACH) % 2 ? 1000 : 1;
    int error = _i / (4 * EACH) ? EACCES : ENOMEM;

    for (int k = 1; k < EACH; k++) {
        old[k] = new_region(keys[0]);
        new[k] = new_region(keys[POOL]);
    }
    for (int k = 0; k < EACH; k++) {
        pkeyguard_scoped_write (int, number, new[k])
            *number = 20 + k;
    }
    for (int k = 0; k < EACH; k++) {
        pkeyguard_scoped_write (int, number, old[k])
            *number = 10 + k;
    }
    for (int i = 1; i < POOL; i++)
        open_and_close(i);
    ck_assert(bound(0) && !bound(POOL));

    fail_call(CALL_PKEY_MPROTECT, refused_at, error, times);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_WRITE), -error);
    ck_assert(stop_failing());
    ck_assert(!bound(0) && !bound(POOL));
    for (int k = 0; k < EACH; k++) {
        ck_assert(try_access(READ_BYTE, address_of(old[k])).happened);
        ck_assert(try_access(WRITE_BYTE, address_of(new[k])).happened);
    }
    for (int i = 1; i < KEYS; i++) {
        if (i != POOL)
            open_and_close(i);
        for (int k = 0; k < EACH; k++) {
            ck_assert(try_access(READ_BYTE, address_of(old[k])).happened);
            ck_assert(try_access(READ_BYTE, address_of(new[k])).happened);
        }
    }
    for (int k = 0; k < EACH; k++) {
        pkeyguard_scoped_read (int, number, old[k]) {
            ck_assert_int_eq(*number, 10 + k);
            ck_assert(try_access(READ_BYTE, address_of(new[k])).happened);
        }
        pkeyguard_scoped_read (int, number, new[k]) {
            ck_assert_int_eq(*number, 20 + k);
            ck_assert(try_access(READ_BYTE, address_of(old[k])).happened);
        }
    }
    for (int k = 1; k < EACH; k++) {
        ck_assert_int_eq(pkeyguard_region_destroy(old[k]), 0);
        ck_assert_int_eq(pkeyguard_region_destroy(new[k]), 0);
    }
    assert_all_closed();
}
END_TEST

/* While others' regions carry the pkey that their key has lost, no key gets it. */
START_TEST(inside_a_scope_only_its_regions_open)
{
    for (int i = 0; i < KEYS; i++) {
        ck_assert_int_eq(acquire(i, PKEYGUARD_READ_WRITE), 0);
        for (int k = 0; k < KEYS; k++)
            ck_assert(try_access(READ_BYTE, address_of(regions[k])).happened == (k != i));
        pkeyguard_release(&guards[i]);
    }
}
END_TEST

START_TEST(nothing_leaks)
{
    struct resources before;

    evict_everything(-1);
    before = count_resources();
    for (int round = 0; round < 50; round++) {
        struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
        struct pkeyguard_region *region = new_region(key);
        struct worker worker;

        start(&worker);
        tell(&worker, do_open_and_close, (void *)(intptr_t)(round % KEYS));
        end(&worker);
        pkeyguard_scoped_write (int, number, region)
            *number = 1;
        destroy(region, key);
    }
    ck_assert_int_eq(count_resources().pkeys, before.pkeys);
    ck_assert_int_le(count_resources().mappings, before.mappings + 4); /* threads' stacks */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtual");
    TCase *both = tcase_create("under both enforcements");
    TCase *sharing = tcase_create("sharing");
    TCase *bare = tcase_create("before the pool");

    suite_add_tcase(suite, both);
    suite_add_tcase(suite, sharing);
    suite_add_tcase(suite, bare);
    tcase_add_checked_fixture(both, set_up, tear_down);
    tcase_add_checked_fixture(sharing, set_up, tear_down);
    tcase_set_timeout(both, 30);
    tcase_set_timeout(sharing, 30);
    tcase_set_timeout(bare, 30);
    tcase_add_loop_test(both, flags_and_rights_that_contradict, 0, 5);
    tcase_add_test(both, rights_are_not_set);
    tcase_add_test(both, more_keys_than_pkeys);
    tcase_add_test(both, nested_guards);
    tcase_add_loop_test(both, any_order_of_release_ends_closed, 0, 48);
    tcase_add_loop_test(both, restrict_narrows_what_is_open, 0, 2);
    tcase_add_test(both, bad_arguments);
    tcase_add_test(both, destroying_keys);
    tcase_add_loop_test(both, regions_come_and_go, 0, 2);
    tcase_add_test(both, all_or_nothing);
    tcase_add_test(both, registering);
    add_pku_test(sharing, number_is_the_pkey_while_bound);
    add_pku_loop_test(sharing, one_pkey_stays_with_the_kernel, 0, 2);
    add_pku_test(sharing, the_least_recently_used_goes);
    add_pku_test(sharing, a_key_in_use_again_keeps_its_pkey);
    add_pku_test(sharing, a_key_that_may_lose_its_pkey_next);
    add_pku_test(sharing, a_pinned_key_stays);
    add_pku_test(sharing, inside_a_scope_only_its_regions_open);
    add_pku_test(sharing, all_pinned_is_busy);
    add_pku_test(sharing, all_pinned_and_a_region_to_fill);
    add_pku_test(sharing, more_at_once_than_there_are);
    add_pku_test(sharing, an_unregistered_thread_is_in_the_way);
    add_pku_loop_test(sharing, a_thread_born_inside_a_scope, 0, 2);
    add_pku_test(sharing, pins_of_other_threads_count);
    add_pku_loop_test(sharing, a_pin_that_was_not_seen_yet, 0, 2);
    add_pku_loop_test(sharing, a_scope_ends_while_its_binding_is_away, 0, SCRIPTS);
    add_pku_loop_test(sharing, a_scope_ends_while_its_key_is_destroyed, 0, WITHOUT_REGION);
    add_pku_test(sharing, a_hit_writes_to_no_shared_line);
    add_pku_test(sharing, a_guard_released_elsewhere);
    add_pku_loop_test(sharing, a_thread_that_ends, 0, 5);
    add_pku_test(sharing, the_main_thread_ends);
    add_pku_test(sharing, a_main_thread_ends_that_never_registered);
    add_pku_loop_test(sharing, a_guard_waits_while_its_binding_is_away, 0, 4);
    add_pku_loop_test(sharing, scopes_wait_for_a_pin_to_drop, 0, 6);
    add_pku_test(sharing, scopes_wait_for_a_thread_to_end);
    add_pku_loop_test(sharing, scopes_that_may_not_wait_abort, 0, 2);
    add_pku_test(sharing, the_thread_in_the_way_is_named);
    add_pku_test(sharing, a_thread_may_take_a_moment_to_register);
    add_pku_test(sharing, nobody_waits_for_ever);
    add_pku_test(sharing, a_handler_opens_and_evicts);
    add_pku_loop_test(sharing, a_first_guard_in_a_handler_is_refused, 0, 2);
    add_pku_test(sharing, inside_the_library_only_bound_keys_open);
    add_pku_test(sharing, reset_closes_and_unpins);
    add_pku_test(sharing, reset_registers);
    add_pku_test(bare, reset_in_a_handler_unpins_nothing);
    add_pku_test(sharing, a_child_keeps_its_own_pins);
    add_pku_loop_test(sharing, a_child_of_another_thread, 0, 2);
    add_pku_test(sharing, a_process_is_spawned_inside_a_scope);
    add_pku_test(sharing, the_program_closes_every_file);
    add_pku_test(sharing, the_threads_cannot_be_counted);
    add_pku_test(sharing, a_barrier_fails);
    add_pku_loop_test(sharing, changes_refused_half_way, 0, 8 * EACH);
    add_pku_test(sharing, nothing_leaks);
    add_pku_loop_test(bare, a_thread_older_than_the_pool, 0, 2);
    tcase_add_test(bare, thousands_of_keys);
    add_pku_test(bare, a_jump_out_of_a_handler);
    add_pku_test(bare, no_barrier);
    add_pku_test(bare, no_pkeys_after_all);
    add_pku_test(bare, no_memory_for_a_record);
    add_pku_test(bare, an_empty_pool);
    return run_suite(suite);
}
