/* SPDX-License-Identifier: MIT */
/* The pkey manager: keys and their pkeys. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "failing.h"
#include "place.h"
#include "support.h"

enum { PKEYS_OF_CPU = 15 };

static const enum pkeyguard_rights every_right[] = {PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY,
                                                    PKEYGUARD_READ_WRITE};

/* A thread with these rights on the key, and no guard, can access a region as they say. */
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

START_TEST(key_number_is_the_pkey_of_the_pages)
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

START_TEST(null_key_means_mprotect)
{
    ck_assert_int_eq(pkeyguard_key_enforcement(NULL), PKEYGUARD_MPROTECT);
    ck_assert_int_eq(pkeyguard_key_number(NULL), -1);
    ck_assert_int_eq(pkeyguard_key_rights(NULL), PKEYGUARD_NO_ACCESS);
    ck_assert_int_eq(pkeyguard_key_destroy(NULL), 0);
}
END_TEST

START_TEST(software_key_takes_no_pkey)
{
    struct resources before = count_resources();
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);

    ck_assert_int_eq(pkeyguard_key_enforcement(key), PKEYGUARD_MPROTECT);
    ck_assert_int_eq(pkeyguard_key_number(key), -1);
    ck_assert_int_eq(count_resources().pkeys, before.pkeys);
    destroy(NULL, key);
}
END_TEST

START_TEST(hardware_key_does_not_fall_back)
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

START_TEST(optional_key_is_pku_or_unenforced)
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
        /* Page rights are still enforced, and scopes still check sizes. */
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

START_TEST(destroy_is_refused_while_a_guard_is_open)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &guard), 0);
    ck_assert_int_eq(pkeyguard_key_destroy(key), -EBUSY);
    pkeyguard_release(&guard);
    destroy(NULL, key);
}
END_TEST

START_TEST(sixteenth_key_fails_until_one_is_destroyed)
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
    /*
     * Where /proc does not tell how many threads there are, a used pkey is not given out: another
     * thread may have it open.
     */
    destroy(NULL, keys[7]);
    fail_call(CALL_OPENAT, 0, EACCES, 1000);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &one_more), -ENOSPC);
    ck_assert(stop_failing());
    keys[7] = new_key(PKEYGUARD_NO_ACCESS, 0);
    /* With each default: a used pkey starts with its new key's default rights. */
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

/*
 * Surprise: pkey_free(0) succeeds, and then pkey_alloc returns 0, the pkey of all other memory. No
 * key may own it.
 */
START_TEST(pkey_0_never_belongs_to_a_key)
{
    struct pkeyguard_key *key;

    fail_call(CALL_PKEY_ALLOC, 0, 0, 1);
    key = new_key(PKEYGUARD_READ_WRITE, PKEYGUARD_KEY_HARDWARE);
    ck_assert(stop_failing());
    ck_assert_int_ge(pkeyguard_key_number(key), 1);
    destroy(NULL, key);
}
END_TEST

/* Creates keys until there is no pkey. None has this pkey, and the region is as closed as before.
 */
static void assert_pkey_keeps_its_owner(struct pkeyguard_region *region, int pkey)
{
    struct pkeyguard_key *more[PKEYS_OF_CPU];
    int count = 0;

    while (pkeyguard_key_create(PKEYGUARD_READ_WRITE, 0, &more[count]) == 0) {
        ck_assert_int_ne(pkeyguard_key_number(more[count]), pkey);
        count++;
    }
    ck_assert_int_lt(count, PKEYS_OF_CPU);
    assert_denied(READ_BYTE, address_of(region), pkeyguard_region_key(region));
    while (count > 0)
        destroy(NULL, more[--count]);
}

/*
 * The program frees a pkey that is not its own, and the kernel gives it out again. With _i 1 the
 * key is virtual.
 */
START_TEST(freed_pkey_of_a_key_goes_to_no_other)
{
    struct pkeyguard_key *key =
        new_key(PKEYGUARD_NO_ACCESS, _i == 1 ? PKEYGUARD_KEY_VIRTUAL : PKEYGUARD_KEY_HARDWARE);
    struct pkeyguard_region *region = new_region(key);
    struct pkeyguard_guard guard;
    int pkey;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &guard), 0);
    pkey = pkeyguard_key_number(key);
    ck_assert_int_eq(pkey_free(pkey), 0);
    destroy(NULL, new_key(PKEYGUARD_READ_WRITE, 0));
    assert_allowed(READ_BYTE, address_of(region));
    assert_denied(WRITE_BYTE, address_of(region), key);
    pkeyguard_release(&guard);
    assert_pkey_keeps_its_owner(region, pkey);
    destroy(region, key);
}
END_TEST

START_TEST(freed_pkey_of_a_destroyed_key_stays_idle)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_WRITE, 0), *next;
    int pkey = pkeyguard_key_number(key);

    destroy(NULL, key);
    ck_assert_int_eq(pkey_free(pkey), 0);
    next = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE);
    ck_assert_int_ne(pkeyguard_key_number(next), pkey);
    ck_assert_int_eq(pkeyguard_pkru_read() >> (2 * pkey) & 1, 1);
    destroy(NULL, next);
}
END_TEST

/* The pool grows in the same way: it takes no pkey of its own, nor a dedicated key's. */
START_TEST(pool_takes_no_freed_pkey_of_a_key)
{
    struct pkeyguard_key *dedicated = new_key(PKEYGUARD_NO_ACCESS, 0), *keys[PKEYS_OF_CPU];
    struct pkeyguard_guard guards[PKEYS_OF_CPU];
    int pkey = pkeyguard_key_number(dedicated);

    for (int i = 0; i < PKEYS_OF_CPU; i++)
        keys[i] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    for (int i = 0; i < PKEYS_OF_CPU; i++) {
        int error;

        pkey_free(pkey);
        error = pkeyguard_key_acquire(keys[i], PKEYGUARD_READ_WRITE, &guards[i]);
        ck_assert(error == 0 || error == -EBUSY);
        ck_assert(error != 0 || pkeyguard_key_number(keys[i]) != pkey);
        ck_assert_int_eq(pkeyguard_key_rights(dedicated), PKEYGUARD_NO_ACCESS);
    }
    for (int i = 0; i < PKEYS_OF_CPU; i++)
        pkeyguard_release(&guards[i]);
    for (int i = 0; i < PKEYS_OF_CPU; i++)
        destroy(NULL, keys[i]);
    destroy(NULL, dedicated);
}
END_TEST

START_TEST(destroyed_key_is_closed_in_the_calling_thread)
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

/*
 * Surprise: a freed pkey comes back with old rights. Here it is kept back while another thread may
 * have it open.
 */
START_TEST(used_pkey_waits_until_the_process_has_one_thread)
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
    /* The kernel may list the ended thread in /proc for a moment longer. */
    while (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &key) != 0)
        sched_yield();
    destroy(NULL, key);
    while (used > 0)
        destroy(NULL, keys[--used]);
}
END_TEST

START_TEST(never_used_pkeys_are_given_first)
{
    struct pkeyguard_key *first = new_key(PKEYGUARD_NO_ACCESS, 0), *second;
    int number = pkeyguard_key_number(first);

    destroy(NULL, first);
    second = new_key(PKEYGUARD_NO_ACCESS, 0);
    ck_assert_int_ne(pkeyguard_key_number(second), number);
    destroy(NULL, second);
}
END_TEST

/*
 * Surprise: a freed pkey comes back with old pages. Here pages that carried it are unmapped, or
 * carry another one, before a new key owns it.
 */
START_TEST(no_page_keeps_the_pkey_of_a_destroyed_key)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0), *keys[15];
    struct pkeyguard_region *moved = new_region(key), *gone = new_region(key);
    char *gone_address = address_of(gone), *mapped;
    int number = pkeyguard_key_number(key), used = 0;

    ck_assert_int_eq(pkeyguard_region_associate(moved, NULL), 0);
    ck_assert_int_eq(pkeyguard_key_destroy(key), -EBUSY);
    destroy(gone, key);
    ck_assert_int_eq(pkey_of_mapping(address_of(moved)), 0);
    /* Keys take every other pkey, and that one last; it is open by default. */
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

static void *read_rights(void *key)
{
    static enum pkeyguard_rights rights;

    rights = pkeyguard_key_rights(key);
    return &rights;
}

static struct pkeyguard_key *newer_key;
static int pipe_to_older_thread[2];

static void *wait_and_read_rights(void *unused)
{
    (void)unused;
    wait_for_byte(&pipe_to_older_thread[0]);
    return read_rights(newer_key);
}

/*
 * As key.h says: a thread created later copies its creator's rights, a thread that is older than
 * the key has none.
 */
START_TEST(each_thread_has_its_own_rights)
{
    pthread_t older, younger;
    void *seen;

    ck_assert_int_eq(pipe(pipe_to_older_thread), 0);
    ck_assert_int_eq(pthread_create(&older, NULL, wait_and_read_rights, NULL), 0);
    newer_key = new_key(PKEYGUARD_READ_ONLY, 0);
    ck_assert_int_eq(pkeyguard_key_set_rights(newer_key, PKEYGUARD_READ_WRITE), 0);
    ck_assert_int_eq(pthread_create(&younger, NULL, read_rights, newer_key), 0);
    ck_assert_int_eq(pthread_join(younger, &seen), 0);
    ck_assert_int_eq(*(enum pkeyguard_rights *)seen, PKEYGUARD_READ_WRITE);
    ck_assert_int_eq(write(pipe_to_older_thread[1], "x", 1), 1);
    ck_assert_int_eq(pthread_join(older, &seen), 0);
    ck_assert_int_eq(*(enum pkeyguard_rights *)seen, PKEYGUARD_NO_ACCESS);
    destroy(NULL, newer_key);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("key");
    TCase *keys = add_case(suite, "keys", NULL, NULL);

    tcase_add_loop_test(keys, default_rights_hold_without_a_guard, 0, 3);
    add_pku_test(keys, key_number_is_the_pkey_of_the_pages);
    /* With no flag, and with PKEYGUARD_KEY_SOFTWARE, which is 2. */
    add_pku_loop_test(keys, rights_are_set_and_read, 0, 1);
    tcase_add_loop_test(keys, rights_are_set_and_read, 2, 3);
    tcase_add_test(keys, bad_arguments_create_nothing);
    tcase_add_test(keys, bad_rights_set_nothing);
    tcase_add_test(keys, null_key_means_mprotect);
    tcase_add_test(keys, software_key_takes_no_pkey);
    tcase_add_test(keys, hardware_key_does_not_fall_back);
    tcase_add_test(keys, optional_key_is_pku_or_unenforced);
    add_pku_loop_test(keys, destroy_is_refused_while_a_region_uses_the_key, 0, 1);
    tcase_add_loop_test(keys, destroy_is_refused_while_a_region_uses_the_key, 2, 3);
    tcase_add_test(keys, destroy_is_refused_while_a_guard_is_open);
    add_pku_test(keys, sixteenth_key_fails_until_one_is_destroyed);
    add_pku_test(keys, pkey_0_never_belongs_to_a_key);
    add_pku_loop_test(keys, freed_pkey_of_a_key_goes_to_no_other, 0, 2);
    add_pku_test(keys, freed_pkey_of_a_destroyed_key_stays_idle);
    add_pku_test(keys, pool_takes_no_freed_pkey_of_a_key);
    add_pku_test(keys, destroyed_key_is_closed_in_the_calling_thread);
    add_pku_test(keys, used_pkey_waits_until_the_process_has_one_thread);
    add_pku_test(keys, never_used_pkeys_are_given_first);
    add_pku_test(keys, no_page_keeps_the_pkey_of_a_destroyed_key);
    add_pku_test(keys, each_thread_has_its_own_rights);
    return run_suite(suite);
}
