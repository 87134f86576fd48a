/* SPDX-License-Identifier: MIT */
/* Page rights: what a region's pages allow while a guard is open. */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "test_region.h"

/* The code of a function that returns at once. */
#if defined(__x86_64__)
static const unsigned char return_code[] = {0xc3};
#elif defined(__aarch64__)
static const unsigned char return_code[] = {0xc0, 0x03, 0x5f, 0xd6};
#endif

static struct pkeyguard_region *region_with_prot(struct pkeyguard_key *key, int prot)
{
    struct pkeyguard_region *region = NULL;

    ck_assert_int_eq(
        pkeyguard_region_create_with(key, return_code, sizeof(return_code), prot, 0, &region), 0);
    return region;
}

static void assert_allowed_if(bool allowed, enum access access, const void *address)
{
    if (allowed)
        assert_allowed(access, address);
    else
        assert_page_denied(access, address);
}

/*
 * Each combination of PROT_READ, PROT_WRITE and PROT_EXEC, with no guard, a read guard and a write
 * guard.
 */
START_TEST(page_rights_limit_what_guards_open)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    bool pku = pkeyguard_key_enforcement(key) == PKEYGUARD_PKU;
    int prot = _i;
    /* Pages that can be written or executed can be read, too: the CPU has no others. */
    bool read = prot != PROT_NONE, write = prot & PROT_WRITE, execute = prot & PROT_EXEC;
    struct pkeyguard_region *region = NULL;
    struct pkeyguard_guard guard;
    char *address;

    if (prot == PROT_EXEC && !pku) {
        ck_assert_int_eq(pkeyguard_region_create(key, 1, prot, 0, &region), -ENOTSUP);
        ck_assert_int_eq(pkeyguard_region_create_with(key, "x", 1, prot, 0, &region), -ENOTSUP);
        ck_assert_ptr_null(region);
        destroy(NULL, key);
        return;
    }
    region = region_with_prot(key, prot);
    address = address_of(region);
    ck_assert_int_eq(pkeyguard_region_prot(region), prot);

    if (pku && read)
        assert_denied(READ_BYTE, address, key);
    assert_allowed_if(pku && execute, EXECUTE, address);

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &guard), 0);
    assert_allowed_if(read, READ_BYTE, address);
    if (write)
        assert_denied(WRITE_BYTE, address, key);
    assert_allowed_if(execute, EXECUTE, address);
    pkeyguard_release(&guard);

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    assert_allowed_if(read, READ_BYTE, address);
    assert_allowed_if(execute, EXECUTE, address);
    assert_allowed_if(write, WRITE_BYTE, address);
    pkeyguard_release(&guard);
    destroy(region, key);
}
END_TEST

START_TEST(protect_changes_page_rights)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_WRITE, 0);
    struct pkeyguard_region *region = region_with_prot(key, PROT_NONE);
    char *address = address_of(region);

    for (int prot = 0; prot < 8; prot++) {
        if (prot == PROT_EXEC && pkeyguard_key_enforcement(key) != PKEYGUARD_PKU) {
            ck_assert_int_eq(pkeyguard_region_protect(region, prot), -ENOTSUP);
            continue;
        }
        ck_assert_int_eq(pkeyguard_region_protect(region, prot), 0);
        ck_assert_int_eq(pkeyguard_region_prot(region), prot);
        assert_allowed_if(prot & PROT_EXEC, EXECUTE, address);
        assert_allowed_if(prot != PROT_NONE, READ_BYTE, address);
        assert_allowed_if(prot & PROT_WRITE, WRITE_BYTE, address + sizeof(return_code));
        if (pkeyguard_key_enforcement(key) == PKEYGUARD_PKU)
            ck_assert_int_eq(pkey_of_mapping(address), pkeyguard_key_number(key));
    }
    ck_assert_int_eq(pkeyguard_region_protect(region, 8), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_protect(region, -1), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_protect(NULL, PAGE_RW), -EINVAL);
    ck_assert_int_eq(pkeyguard_region_prot(region), 7);
    destroy(region, key);
}
END_TEST

static struct pkeyguard_region *shared_region;
static struct pkeyguard_key *shared_key;
static pthread_barrier_t barrier;

static void *read_before_and_after_protect(void *unused)
{
    struct pkeyguard_guard guard;

    (void)unused;
    ck_assert_int_eq(pkeyguard_acquire(shared_region, PKEYGUARD_READ_WRITE, &guard), 0);
    assert_allowed(WRITE_BYTE, address_of(shared_region));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    assert_page_denied(READ_BYTE, address_of(shared_region));
    pkeyguard_release(&guard);
    return NULL;
}

/*
 * Surprise: revoking must reach every thread. pkeyguard_region_protect() changes page rights, which
 * count for all threads.
 */
START_TEST(protect_revokes_from_every_thread)
{
    pthread_t thread;

    shared_key = new_key(PKEYGUARD_NO_ACCESS, 0);
    shared_region = new_region(shared_key);
    pthread_barrier_init(&barrier, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, read_before_and_after_protect, NULL), 0);
    pthread_barrier_wait(&barrier);
    ck_assert_int_eq(pkeyguard_region_protect(shared_region, PROT_NONE), 0);
    pthread_barrier_wait(&barrier);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    destroy(shared_region, shared_key);
}
END_TEST

/*
 * Surprise: execute-only memory takes a pkey. A region with PROT_EXEC alone uses the pkey of its
 * key, and is refused on a key without one.
 */
START_TEST(execute_only_region_needs_a_pkey)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE);
    struct pkeyguard_region *region = region_with_prot(key, PROT_EXEC);
    unsigned pkeys = (unsigned)count_resources().pkeys;

    assert_allowed(EXECUTE, address_of(region));
    assert_denied(READ_BYTE, address_of(region), key);
    ck_assert_int_eq(pkeyguard_region_associate(region, NULL), -ENOTSUP);
    ck_assert_ptr_eq(pkeyguard_region_key(region), key);
    assert_allowed(EXECUTE, address_of(region));
    /* The kernel has not taken another pkey for it. */
    ck_assert_int_eq(count_resources().pkeys, (int)pkeys);
    destroy(region, key);
}
END_TEST

void add_page_rights(Suite *suite)
{
    TCase *tests = add_case(suite, "page rights", NULL, NULL);

    tcase_add_loop_test(tests, page_rights_limit_what_guards_open, 0, 8);
    tcase_add_test(tests, protect_changes_page_rights);
    tcase_add_test(tests, protect_revokes_from_every_thread);
    add_pku_test(tests, execute_only_region_needs_a_pkey);
}
