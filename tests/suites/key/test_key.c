/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "failing.h"
#include "place.h"
#include "support.h"

static const enum pkeyguard_rights every_right[] = {PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY,
                                                    PKEYGUARD_READ_WRITE};

/* What a thread with these rights and no guard may do with a region of the key. */
static void assert_rights(const struct pkeyguard_key *key, const struct pkeyguard_region *region,
                          enum pkeyguard_rights rights)
{
    ck_assert_int_eq(pkeyguard_key_rights(key), rights);
    if (rights == PKEYGUARD_NO_ACCESS)
        assert_denied(READ_BYTE, address_of(region), key);
    else
        assert_allowed(READ_BYTE, address_of(region));
    if (rights == PKEYGUARD_READ_WRITE)
        assert_allowed(WRITE_BYTE, address_of(region));
    else
        assert_denied(WRITE_BYTE, address_of(region), key);
}

START_TEST(default_rights_hold_without_a_guard)
{
    struct pkeyguard_key *key = new_key(every_right[_i], 0);
    struct pkeyguard_region *region = new_region(key);

    assert_rights(key, region, every_right[_i]);
    destroy(region, key);
}
END_TEST

START_TEST(number_is_the_pkey_of_the_pages)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = new_region(key);

    ck_assert_int_ge(pkeyguard_key_number(key), 1);
    ck_assert_int_le(pkeyguard_key_number(key), 15);
    ck_assert_int_eq(pkey_of_mapping(address_of(region)), pkeyguard_key_number(key));
    destroy(region, key);
}
END_TEST

START_TEST(rights_are_set_and_read)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_ONLY, _i);
    struct pkeyguard_region *region = new_region(key);

    for (int from = 0; from < 3; from++) {
        for (int to = 0; to < 3; to++) {
            ck_assert_int_eq(pkeyguard_key_set_rights(key, every_right[from]), 0);
            ck_assert_int_eq(pkeyguard_key_set_rights(key, every_right[to]), 0);
            assert_rights(key, region, every_right[to]);
        }
    }
    destroy(region, key);
}
END_TEST

START_TEST(bad_arguments_create_nothing)
{
    static const struct {
        unsigned rights, flags;
    } bad[] = {
        {0, 0},
        {4, 0},
        {PKEYGUARD_NO_ACCESS, 16},
        {PKEYGUARD_NO_ACCESS, 1u << 31},
        {PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE | PKEYGUARD_KEY_SOFTWARE},
        {PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE | PKEYGUARD_KEY_OPTIONAL},
        {PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE | PKEYGUARD_KEY_OPTIONAL},
    };
    struct resources before = count_resources();
    struct pkeyguard_key *untouched = (struct pkeyguard_key *)&before, *key = untouched;

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        ck_assert_int_eq(
            pkeyguard_key_create((enum pkeyguard_rights)bad[i].rights, bad[i].flags, &key),
            -EINVAL);
        ck_assert_ptr_eq(key, untouched);
    }
    assert_resources(before);
}
END_TEST

START_TEST(bad_rights_set_nothing)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_ONLY, 0);

    ck_assert_int_eq(pkeyguard_key_set_rights(key, (enum pkeyguard_rights)0), -EINVAL);
    ck_assert_int_eq(pkeyguard_key_set_rights(key, (enum pkeyguard_rights)4), -EINVAL);
    ck_assert_int_eq(pkeyguard_key_set_rights(NULL, PKEYGUARD_READ_WRITE), -EINVAL);
    ck_assert_int_eq(pkeyguard_key_rights(key), PKEYGUARD_READ_ONLY);
    destroy(NULL, key);
}
END_TEST

START_TEST(null_stands_for_a_private_key)
{
    ck_assert_int_eq(pkeyguard_key_enforcement(NULL), PKEYGUARD_MPROTECT);
    ck_assert_int_eq(pkeyguard_key_number(NULL), -1);
    ck_assert_int_eq(pkeyguard_key_rights(NULL), PKEYGUARD_NO_ACCESS);
    ck_assert_int_eq(pkeyguard_key_destroy(NULL), 0);
}
END_TEST

START_TEST(software_keys_take_no_pkey)
{
    struct resources before = count_resources();
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);

    ck_assert_int_eq(pkeyguard_key_enforcement(key), PKEYGUARD_MPROTECT);
    ck_assert_int_eq(pkeyguard_key_number(key), -1);
    ck_assert_int_eq(count_resources().pkeys, before.pkeys);
    destroy(NULL, key);
}
END_TEST

START_TEST(hardware_keys_refuse_to_fall_back)
{
    struct pkeyguard_key *key = NULL;
    int result = pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE, &key);

    if (pku()) {
        ck_assert_int_eq(result, 0);
        ck_assert_int_eq(pkeyguard_key_enforcement(key), PKEYGUARD_PKU);
        destroy(NULL, key);
    } else {
        ck_assert_int_eq(result, -ENOTSUP);
        ck_assert_ptr_null(key);
    }
}
END_TEST

START_TEST(optional_keys_are_pku_or_openly_nothing)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_OPTIONAL);
    struct pkeyguard_region *region = new_region(key);
    struct pkeyguard_guard guard;
    bool ran_else = false;

    if (pku()) {
        ck_assert_int_eq(pkeyguard_key_enforcement(key), PKEYGUARD_PKU);
        assert_rights(key, region, PKEYGUARD_NO_ACCESS);
    } else {
        ck_assert_int_eq(pkeyguard_key_enforcement(key), PKEYGUARD_UNENFORCED);
        ck_assert_int_eq(pkeyguard_key_number(key), -1);
        assert_rights(key, region, PKEYGUARD_READ_WRITE);
        ck_assert_int_eq(pkeyguard_key_set_rights(key, PKEYGUARD_NO_ACCESS), 0);
        ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_NO_ACCESS, &guard), 0);
        assert_rights(key, region, PKEYGUARD_READ_WRITE);
        pkeyguard_release(&guard);
        /* Page rights still hold, and scopes still check their bounds. */
        ck_assert_int_eq(pkeyguard_region_protect(region, PROT_NONE), 0);
        assert_page_denied(READ_BYTE, address_of(region));
        ck_assert_int_eq(pkeyguard_region_protect(region, PAGE_RW), 0);
    }
    pkeyguard_scoped_write (int, number, region) {
        *number = 1;
    }
    pkeyguard_try_scoped_read (char[PAGE_BYTES + 1], bytes, region) {
        ck_abort_msg("a scope larger than its region");
    } else {
        ran_else = errno == EINVAL;
    }
    ck_assert(ran_else);
    destroy(region, key);
}
END_TEST

START_TEST(destroy_is_refused_while_a_region_uses_the_key)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_ONLY, _i);
    struct pkeyguard_region *region = new_region(key);

    ck_assert_int_eq(pkeyguard_key_destroy(key), -EBUSY);
    assert_rights(key, region, PKEYGUARD_READ_ONLY);
    destroy(region, key);
}
END_TEST

START_TEST(destroy_is_refused_while_a_guard_is_known)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &guard), 0);
    ck_assert_int_eq(pkeyguard_key_destroy(key), -EBUSY);
    pkeyguard_release(&guard);
    destroy(NULL, key);
}
END_TEST

START_TEST(the_sixteenth_key_and_recovery)
{
    struct pkeyguard_key *keys[15], *one_more = NULL;
    int used = 0;

    while (used < 15 && pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &keys[used]) == 0)
        used++;
    ck_assert_int_eq(used, 15);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &one_more), -ENOSPC);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE, &one_more),
                     -ENOSPC);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_OPTIONAL, &one_more),
                     -ENOSPC);
    ck_assert_ptr_null(one_more);
    /* Where /proc cannot tell how many threads there are, a used pkey is not trusted. */
    destroy(NULL, keys[7]);
    fail_call(CALL_OPENAT, 0, EACCES, 1000);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &one_more), -ENOSPC);
    ck_assert(stop_failing());
    keys[7] = new_key(PKEYGUARD_NO_ACCESS, 0);
    /* In turn with every default right: a used pkey starts as a new one does. */
    for (int i = 0; i < 3; i++) {
        struct pkeyguard_region *region;

        destroy(NULL, keys[7]);
        keys[7] = new_key(every_right[i], PKEYGUARD_KEY_HARDWARE);
        region = new_region(keys[7]);
        assert_rights(keys[7], region, every_right[i]);
        destroy(region, NULL);
    }
    for (int i = 0; i < used; i++)
        destroy(NULL, keys[i]);
}
END_TEST

/* The kernel gives pkey 0 to a program that has freed it; no key may own everybody's pages. */
START_TEST(pkey_0_is_nobodys)
{
    struct pkeyguard_key *key;

    fail_call(CALL_PKEY_ALLOC, 0, 0, 1);
    key = new_key(PKEYGUARD_READ_WRITE, PKEYGUARD_KEY_HARDWARE);
    ck_assert(stop_failing());
    ck_assert_int_ge(pkeyguard_key_number(key), 1);
    destroy(NULL, key);
}
END_TEST

START_TEST(a_destroyed_key_is_closed_in_the_calling_thread)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_WRITE, 0);
    int pkey = pkeyguard_key_number(key);

    ck_assert_int_eq(pkey_get(pkey), 0);
    destroy(NULL, key);
    ck_assert_int_eq(pkey_get(pkey), PKEY_DISABLE_ACCESS);
}
END_TEST

static void *wait_for_byte(void *file)
{
    char byte;

    ck_assert_int_eq(read(*(int *)file, &byte, 1), 1);
    return NULL;
}

START_TEST(a_used_pkey_waits_for_a_single_thread)
{
    struct pkeyguard_key *keys[15], *key = NULL;
    pthread_t thread;
    int pipe_ends[2], used = 0, child;

    while (used < 15 && pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &keys[used]) == 0)
        used++;
    destroy(NULL, keys[--used]);
    ck_assert_int_eq(pipe(pipe_ends), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_byte, &pipe_ends[0]), 0);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key), -ENOSPC);
    ck_assert_ptr_null(key);
    child = fork();
    if (child == 0)
        _exit(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key) != 0);
    assert_exits(child, 0);
    ck_assert_int_eq(write(pipe_ends[1], "x", 1), 1);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    /* The kernel may take a moment to drop the ended thread from /proc. */
    for (int i = 0; i < 1000 && pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key) != 0; i++)
        usleep(1000);
    ck_assert_ptr_nonnull(key);
    destroy(NULL, key);
    while (used > 0)
        destroy(NULL, keys[--used]);
}
END_TEST

START_TEST(never_used_pkeys_come_first)
{
    struct pkeyguard_key *first = new_key(PKEYGUARD_NO_ACCESS, 0), *second;
    int number = pkeyguard_key_number(first);

    destroy(NULL, first);
    second = new_key(PKEYGUARD_NO_ACCESS, 0);
    ck_assert_int_ne(pkeyguard_key_number(second), number);
    destroy(NULL, second);
}
END_TEST

/* Pages that once carried the pkey are gone or carry another before anyone else owns it. */
START_TEST(no_page_keeps_a_destroyed_keys_tag)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0), *keys[15];
    struct pkeyguard_region *moved = new_region(key), *gone = new_region(key);
    char *gone_address = address_of(gone), *mapped;
    int number = pkeyguard_key_number(key), used = 0;

    ck_assert_int_eq(pkeyguard_region_associate(moved, NULL), 0);
    ck_assert_int_eq(pkeyguard_key_destroy(key), -EBUSY);
    destroy(gone, key);
    ck_assert_int_eq(pkey_of_mapping(address_of(moved)), 0);
    /* Every other pkey first, then that one again, open. */
    while (pkeyguard_key_create(PKEYGUARD_READ_WRITE, 0, &keys[used]) == 0)
        used++;
    ck_assert_int_eq(pkeyguard_key_number(keys[used - 1]), number);
    assert_page_denied(READ_BYTE, address_of(moved));
    mapped = mmap(gone_address, PAGE_BYTES, PAGE_RW,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    ck_assert_ptr_eq(mapped, gone_address);
    ck_assert_int_eq(pkey_of_mapping(mapped), 0);
    ck_assert_int_eq(munmap(mapped, PAGE_BYTES), 0);
    while (used > 0)
        destroy(NULL, keys[--used]);
    destroy(moved, NULL);
}
END_TEST

static void *see_rights(void *key)
{
    static enum pkeyguard_rights rights;

    rights = pkeyguard_key_rights(key);
    return &rights;
}

static struct pkeyguard_key *late_key;
static int late_pipe[2];

static void *wait_and_see_rights(void *unused)
{
    (void)unused;
    wait_for_byte(&late_pipe[0]);
    return see_rights(late_key);
}

/* As key.h says of threads: one born later copies its creator, one born before has nothing. */
START_TEST(rights_are_the_threads_own)
{
    pthread_t older, younger;
    void *seen;

    ck_assert_int_eq(pipe(late_pipe), 0);
    ck_assert_int_eq(pthread_create(&older, NULL, wait_and_see_rights, NULL), 0);
    late_key = new_key(PKEYGUARD_READ_ONLY, 0);
    ck_assert_int_eq(pkeyguard_key_set_rights(late_key, PKEYGUARD_READ_WRITE), 0);
    ck_assert_int_eq(pthread_create(&younger, NULL, see_rights, late_key), 0);
    ck_assert_int_eq(pthread_join(younger, &seen), 0);
    ck_assert_int_eq(*(enum pkeyguard_rights *)seen, PKEYGUARD_READ_WRITE);
    ck_assert_int_eq(write(late_pipe[1], "x", 1), 1);
    ck_assert_int_eq(pthread_join(older, &seen), 0);
    ck_assert_int_eq(*(enum pkeyguard_rights *)seen, PKEYGUARD_NO_ACCESS);
    destroy(NULL, late_key);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("key");
    TCase *keys = tcase_create("keys");

    suite_add_tcase(suite, keys);
    tcase_add_loop_test(keys, default_rights_hold_without_a_guard, 0, 3);
    add_pku_test(keys, number_is_the_pkey_of_the_pages);
    /* With no flag and with PKEYGUARD_KEY_SOFTWARE. */
    add_pku_loop_test(keys, rights_are_set_and_read, 0, 1);
    tcase_add_loop_test(keys, rights_are_set_and_read, 2, 3);
    tcase_add_test(keys, bad_arguments_create_nothing);
    tcase_add_test(keys, bad_rights_set_nothing);
    tcase_add_test(keys, null_stands_for_a_private_key);
    tcase_add_test(keys, software_keys_take_no_pkey);
    tcase_add_test(keys, hardware_keys_refuse_to_fall_back);
    tcase_add_test(keys, optional_keys_are_pku_or_openly_nothing);
    add_pku_loop_test(keys, destroy_is_refused_while_a_region_uses_the_key, 0, 1);
    tcase_add_loop_test(keys, destroy_is_refused_while_a_region_uses_the_key, 2, 3);
    tcase_add_test(keys, destroy_is_refused_while_a_guard_is_known);
    add_pku_test(keys, the_sixteenth_key_and_recovery);
    add_pku_test(keys, pkey_0_is_nobodys);
    add_pku_test(keys, a_destroyed_key_is_closed_in_the_calling_thread);
    add_pku_test(keys, a_used_pkey_waits_for_a_single_thread);
    add_pku_test(keys, never_used_pkeys_come_first);
    add_pku_test(keys, no_page_keeps_a_destroyed_keys_tag);
    add_pku_test(keys, rights_are_the_threads_own);
    return run_suite(suite);
}
