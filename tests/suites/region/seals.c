/* SPDX-License-Identifier: MIT */
/* PKEYGUARD_REGION_SEALED: regions that stay until the process ends. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "failing.h"
#include "place.h"
#include "test_region.h"

/*
 * The guest with Linux 6.12 has both mseal(2) and PKU. On other machines that have mseal(2) these
 * tests pretend to have PKU, which then protects nothing: sanitizers see this code, and kernels
 * from 6.13 on, whose MADV_GUARD_REMOVE works on sealed memory.
 */
#if defined(__x86_64__)
static void emulate_pkru_instruction(int signal, siginfo_t *info, void *context)
{
    static uint32_t pkru = 0x55555554;
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *code = (const unsigned char *)registers[REG_RIP];

    (void)signal, (void)info;
    if (code[0] != 0x0f || code[1] != 0x01 || (code[2] != 0xee && code[2] != 0xef))
        abort();
    if (code[2] == 0xef) {
        pkru = (uint32_t)registers[REG_RAX];
    } else {
        registers[REG_RAX] = pkru;
        registers[REG_RDX] = 0;
    }
    registers[REG_RIP] += 3;
}
#endif

static bool pkru_pretended;

static struct pkeyguard_key *new_key_for_seals(void)
{
    unsetenv("PKEYGUARD_ENFORCEMENT");
#if defined(__x86_64__)
    if (!pkeyguard_pkru_supported()) {
        struct sigaction action = {.sa_sigaction = emulate_pkru_instruction,
                                   .sa_flags = SA_SIGINFO};

        sigaction(SIGILL, &action, NULL);
        pretend_call(CALL_PKEY_ALLOC);
        pkru_pretended = true;
    }
#endif
    return new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE);
}

static void assert_eperm(bool refused)
{
    ck_assert(refused);
    ck_assert_int_eq(errno, EPERM);
}

/* Neither the region's pages nor its guard pages. */
static void assert_kernel_changes_nothing(const struct pkeyguard_region *region, unsigned flags)
{
    int guard_bytes = flags & PKEYGUARD_REGION_NO_GUARD_PAGES ? 0 : PAGE_BYTES;
    char *address = address_of(region);

    for (char *page = address - guard_bytes; page <= address + guard_bytes; page += PAGE_BYTES) {
        assert_eperm(munmap(page, PAGE_BYTES) != 0);
        assert_eperm(mprotect(page, PAGE_BYTES, PROT_READ) != 0);
        if (!pkru_pretended)
            assert_eperm(pkey_mprotect(page, PAGE_BYTES, PAGE_RW, 0) != 0);
        assert_eperm(mremap(page, PAGE_BYTES, 2 * PAGE_BYTES, MREMAP_MAYMOVE) == MAP_FAILED);
        assert_eperm(mmap(page, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                          0) == MAP_FAILED);
    }
}

/* Its memory stays, and so do its pkey and what that forbids. */
static void assert_key_is_kept(struct pkeyguard_key *key, const struct pkeyguard_region *region,
                               int free_pkeys)
{
    struct pkeyguard_key *other;

    ck_assert_int_eq(pkeyguard_key_destroy(key), -EBUSY);
    ck_assert_int_eq(count_resources().pkeys, free_pkeys);
    if (pkru_pretended)
        return;
    ck_assert_int_eq(pkey_of_mapping(address_of(region)), pkeyguard_key_number(key));
    assert_denied(READ_BYTE, address_of(region), key);
    other = new_key(PKEYGUARD_READ_WRITE, PKEYGUARD_KEY_HARDWARE);
    ck_assert_int_ne(pkeyguard_key_number(other), pkeyguard_key_number(key));
    assert_denied(READ_BYTE, address_of(region), key);
    destroy(NULL, other);
}

START_TEST(sealed_region_cannot_be_changed_or_destroyed)
{
    static const unsigned more[] = {0, PKEYGUARD_REGION_LOCKED, PKEYGUARD_REGION_NO_GUARD_PAGES,
                                    PKEYGUARD_REGION_SECRET};
    unsigned flags = PKEYGUARD_REGION_SEALED | more[_i];
    struct pkeyguard_key *key = new_key_for_seals();
    int free_pkeys = count_resources().pkeys;
    static struct pkeyguard_region *region; /* never destroyed; static, so not reported as a leak */
    struct pkeyguard_guard guard;
    char secret[64], *address;

    write_secret(secret);
    ck_assert_int_eq(
        pkeyguard_region_create_with(key, secret, sizeof(secret), PAGE_RW, flags, &region), 0);
    address = address_of(region);
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_READ), -EPERM);
    ck_assert_int_eq(pkeyguard_region_associate(region, NULL), -EPERM);
    ck_assert_int_eq(pkeyguard_region_associate(region, key), -EPERM);
    ck_assert_int_eq(pkeyguard_region_prot(region), PAGE_RW);
    ck_assert_ptr_eq(pkeyguard_region_key(region), key);
    assert_kernel_changes_nothing(region, flags);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    ck_assert(is_secret(address));
    if (!(flags & PKEYGUARD_REGION_NO_GUARD_PAGES)) {
        /* Guard pages must hold although the kernel can take them out of a sealed mapping. */
        madvise(address - PAGE_BYTES, PAGE_BYTES, 103 /* MADV_GUARD_REMOVE */);
        madvise(address + PAGE_BYTES, PAGE_BYTES, 103);
        assert_guard_pages(region, flags, true);
    }
    pkeyguard_release(&guard);

    ck_assert_int_eq(pkeyguard_region_destroy(region), -EPERM);
    assert_key_is_kept(key, region, free_pkeys);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    for (int i = 0; i < PAGE_BYTES; i++)
        ck_assert_int_eq(address[i], 0);
    assert_allowed(WRITE_BYTE, address);
    pkeyguard_release(&guard);
    ck_assert_int_eq(pkeyguard_region_destroy(region), -EPERM);
}
END_TEST

START_TEST(sealed_read_only_region_is_not_wiped)
{
    struct pkeyguard_key *key = new_key_for_seals();
    static struct pkeyguard_region *region; /* never destroyed; static, so not reported as a leak */
    char secret[64];

    write_secret(secret);
    ck_assert_int_eq(pkeyguard_region_create_with(key, secret, sizeof(secret), PROT_READ,
                                                  PKEYGUARD_REGION_SEALED, &region),
                     0);
    ck_assert_int_eq(pkeyguard_region_destroy(region), -EPERM);
    pkeyguard_scoped_write (char[64], bytes, region) {
        ck_assert(is_secret(*bytes));
        assert_page_denied(WRITE_BYTE, *bytes);
    }
}
END_TEST

START_TEST(failed_seal_leaves_nothing_behind)
{
    static const struct {
        int from_kernel, expected;
    } errors[] = {{ENOSYS, -ENOTSUP}, {EINVAL, -ENOTSUP}, {EPERM, -ENOTSUP}, {ENOMEM, -ENOMEM}};
    struct pkeyguard_key *key = new_key_for_seals();
    struct resources before = count_resources();
    struct pkeyguard_region *region = NULL;

    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
        fail_call(CALL_MSEAL, 0, errors[i].from_kernel, 1);
        ck_assert_int_eq(
            pkeyguard_region_create(key, 1, PROT_READ, PKEYGUARD_REGION_SEALED, &region),
            errors[i].expected);
        ck_assert(stop_failing());
        ck_assert_ptr_null(region);
        assert_resources(before);
    }
    destroy(NULL, key);
}
END_TEST

/* Here nothing is pretended. */
START_TEST(seal_needs_a_key_that_owns_a_pkey)
{
    static const unsigned kinds[] = {PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_OPTIONAL, 0};
    struct pkeyguard_region *region = NULL;

    ck_assert_int_eq(pkeyguard_region_create(NULL, 1, PAGE_RW, PKEYGUARD_REGION_SEALED, &region),
                     -ENOTSUP);
    for (int i = 0; i < 3; i++) {
        struct pkeyguard_key *key = new_key(PKEYGUARD_READ_WRITE, kinds[i]);

        if (pkeyguard_key_enforcement(key) != PKEYGUARD_PKU || !test_platform()->sealing)
            ck_assert_int_eq(
                pkeyguard_region_create(key, 1, PAGE_RW, PKEYGUARD_REGION_SEALED, &region),
                -ENOTSUP);
        destroy(NULL, key);
    }
    ck_assert_ptr_null(region);
}
END_TEST

void add_seals(Suite *suite)
{
    TCase *tests = add_case(suite, "seals", NULL, NULL);
    bool can_seal = HAS_PKEYS && test_platform()->sealing;
    const char *cannot_seal = HAS_PKEYS ? "the kernel has no mseal" : NO_PKEYS;

    add_loop_test_if(can_seal, cannot_seal, tests, sealed_region_cannot_be_changed_or_destroyed, 0,
                     3);
    /* With PKEYGUARD_REGION_SECRET. */
    add_loop_test_if(can_seal && test_platform()->secret_memory,
                     can_seal ? NO_SECRET_MEMORY : cannot_seal, tests,
                     sealed_region_cannot_be_changed_or_destroyed, 3, 4);
    add_test_if(can_seal, cannot_seal, tests, sealed_read_only_region_is_not_wiped);
    add_test_if(HAS_PKEYS, NO_PKEYS, tests, failed_seal_leaves_nothing_behind);
    tcase_add_test(tests, seal_needs_a_key_that_owns_a_pkey);
}
