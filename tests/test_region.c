/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "failing.h"
#include "support.h"

/* A function that returns. */
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

static void assert_if(bool allowed, enum access access, const void *address)
{
    if (allowed)
        assert_allowed(access, address);
    else
        assert_page_denied(access, address);
}

/* The eight combinations, under no guard, a read guard and a write guard. */
START_TEST(page_rights_bound_what_guards_give)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    bool pku = pkeyguard_key_enforcement(key) == PKEYGUARD_PKU;
    int prot = _i;
    /* The CPU cannot have pages that are written or executed and not read. */
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
    assert_if(pku && execute, EXECUTE, address);

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &guard), 0);
    assert_if(read, READ_BYTE, address);
    if (write)
        assert_denied(WRITE_BYTE, address, key);
    assert_if(execute, EXECUTE, address);
    pkeyguard_release(&guard);

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    assert_if(read, READ_BYTE, address);
    assert_if(execute, EXECUTE, address);
    assert_if(write, WRITE_BYTE, address);
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
        assert_if(prot & PROT_EXEC, EXECUTE, address);
        assert_if(prot != PROT_NONE, READ_BYTE, address);
        assert_if(prot & PROT_WRITE, WRITE_BYTE, address + sizeof(return_code));
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

static void *read_before_and_after(void *unused)
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

START_TEST(protect_revokes_from_every_thread)
{
    pthread_t thread;

    shared_key = new_key(PKEYGUARD_NO_ACCESS, 0);
    shared_region = new_region(shared_key);
    pthread_barrier_init(&barrier, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, read_before_and_after, NULL), 0);
    pthread_barrier_wait(&barrier);
    ck_assert_int_eq(pkeyguard_region_protect(shared_region, PROT_NONE), 0);
    pthread_barrier_wait(&barrier);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    destroy(shared_region, shared_key);
}
END_TEST

START_TEST(content_is_given_at_creation)
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

START_TEST(new_memory_is_zero)
{
    static const char zero[3 * PAGE_BYTES];
    struct pkeyguard_region *region;

    ck_assert_int_eq(pkeyguard_region_create(NULL, sizeof(zero), PAGE_RW, 0, &region), 0);
    pkeyguard_scoped_read (char[sizeof(zero)], bytes, region) {
        ck_assert_mem_eq(*bytes, zero, sizeof(zero));
    }
    destroy(region, NULL);
}
END_TEST

START_TEST(a_region_without_a_key_is_guarded_by_mprotect)
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

START_TEST(running_off_either_end_faults)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_WRITE, 0);
    struct pkeyguard_region *region;
    char *address;

    ck_assert_int_eq(pkeyguard_region_create(key, PAGE_BYTES + 1, PAGE_RW, 0, &region), 0);
    ck_assert_uint_eq(pkeyguard_region_size(region), PAGE_BYTES + 1);
    address = address_of(region);
    assert_page_denied(READ_BYTE, address - 1);
    assert_page_denied(WRITE_BYTE, address - 1);
    assert_allowed(WRITE_BYTE, address);
    assert_allowed(WRITE_BYTE, address + 2 * PAGE_BYTES - 1);
    assert_page_denied(READ_BYTE, address + 2 * PAGE_BYTES);
    assert_page_denied(WRITE_BYTE, address + 2 * PAGE_BYTES);
    destroy(region, key);
}
END_TEST

static int bytes_of_mapping(const void *address)
{
    char line[512];
    unsigned long start, end;

    read_smaps(address, NULL, line, sizeof(line));
    ck_assert_int_eq(sscanf(line, "%lx-%lx", &start, &end), 2);
    return (int)(end - start);
}

START_TEST(guard_pages_can_be_left_out)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region;

    ck_assert_int_eq(pkeyguard_region_create(key, 8 * PAGE_BYTES, PAGE_RW,
                                             PKEYGUARD_REGION_NO_GUARD_PAGES, &region),
                     0);
    ck_assert_int_eq(bytes_of_mapping(address_of(region)), 8 * PAGE_BYTES);
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    destroy(NULL, key);
}
END_TEST

START_TEST(only_dumpable_regions_are_dumped)
{
    struct pkeyguard_region *hidden = new_region(NULL), *dumpable;
    char flags[256];

    ck_assert_int_eq(
        pkeyguard_region_create(NULL, 1, PAGE_RW, PKEYGUARD_REGION_DUMPABLE, &dumpable), 0);
    read_smaps(address_of(hidden), "VmFlags:", flags, sizeof(flags));
    ck_assert_ptr_nonnull(strstr(flags, " dd"));
    read_smaps(address_of(dumpable), "VmFlags:", flags, sizeof(flags));
    ck_assert_str_ne(flags, "");
    ck_assert_ptr_null(strstr(flags, " dd"));
    destroy(hidden, NULL);
    destroy(dumpable, NULL);
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
        {1, PAGE_RW, 128},
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
    /* More than there is address space. */
    ck_assert_int_eq(pkeyguard_region_create(key, SIZE_MAX / 2, PAGE_RW, 0, &region), -ENOMEM);
    ck_assert_ptr_eq(region, untouched);
    assert_resources(before);
    destroy(NULL, key);
}
END_TEST

START_TEST(null_regions)
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

START_TEST(address_is_for_readable_defaults)
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

/* Key to key to none to key, content intact; at each step the key that counts is the last one. */
START_TEST(regions_move_between_keys)
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
        if (test_enforcement() == PKEYGUARD_PKU) {
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

START_TEST(a_region_joins_a_key_that_is_open)
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

START_TEST(a_guarded_region_stays)
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

START_TEST(execute_alone_needs_a_pkey)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE);
    struct pkeyguard_region *region = region_with_prot(key, PROT_EXEC);
    unsigned pkeys = (unsigned)count_resources().pkeys;

    assert_allowed(EXECUTE, address_of(region));
    assert_denied(READ_BYTE, address_of(region), key);
    ck_assert_int_eq(pkeyguard_region_associate(region, NULL), -ENOTSUP);
    ck_assert_ptr_eq(pkeyguard_region_key(region), key);
    assert_allowed(EXECUTE, address_of(region));
    /* The kernel took no pkey of its own for it. */
    ck_assert_int_eq(count_resources().pkeys, (int)pkeys);
    destroy(region, key);
}
END_TEST

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

START_TEST(names_show_in_maps)
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

static int wiped;

/* In the place of munmap: the content, through page rights and pkey of its own. */
static void look_at_content(void *address, unsigned long length)
{
    const char *content = (char *)address + PAGE_BYTES;

    if (test_enforcement() == PKEYGUARD_PKU)
        ck_assert_int_eq(pkey_mprotect(address, length, PROT_READ, 0), 0);
    else
        ck_assert_int_eq(mprotect(address, length, PROT_READ), 0);
    wiped = 1;
    for (unsigned long i = 0; i < length - 2 * PAGE_BYTES; i++)
        wiped = wiped && content[i] == 0;
}

START_TEST(content_is_wiped_on_destroy)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region;
    static const char secret[6000] = {[0] = 's', [5999] = 's'};

    ck_assert_int_eq(pkeyguard_region_create_with(key, secret, sizeof(secret), _i, 0, &region), 0);
    wiped = -1;
    before_call(CALL_MUNMAP, look_at_content);
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    ck_assert_int_eq(wiped, 1);
    destroy(NULL, key);
}
END_TEST

START_TEST(system_calls_get_efault)
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

int main(void)
{
    Suite *suite = suite_create("region");
    TCase *regions = tcase_create("regions");

    suite_add_tcase(suite, regions);
    tcase_add_loop_test(regions, page_rights_bound_what_guards_give, 0, 8);
    tcase_add_test(regions, protect_changes_page_rights);
    tcase_add_test(regions, protect_revokes_from_every_thread);
    tcase_add_test(regions, content_is_given_at_creation);
    tcase_add_test(regions, new_memory_is_zero);
    tcase_add_test(regions, a_region_without_a_key_is_guarded_by_mprotect);
    tcase_add_test(regions, running_off_either_end_faults);
    tcase_add_test(regions, guard_pages_can_be_left_out);
    tcase_add_test(regions, only_dumpable_regions_are_dumped);
    tcase_add_test(regions, bad_arguments_create_nothing);
    tcase_add_test(regions, null_regions);
    tcase_add_loop_test(regions, address_is_for_readable_defaults, 0, 3);
    /* The second key with no flag and with PKEYGUARD_KEY_SOFTWARE. */
    add_pku_loop_test(regions, regions_move_between_keys, 0, 1);
    tcase_add_loop_test(regions, regions_move_between_keys, 2, 3);
    tcase_add_test(regions, a_region_joins_a_key_that_is_open);
    tcase_add_test(regions, a_guarded_region_stays);
    add_pku_test(regions, execute_alone_needs_a_pkey);
    tcase_add_test(regions, names_show_in_maps);
    /* PROT_NONE to PROT_READ | PROT_WRITE. */
    tcase_add_loop_test(regions, content_is_wiped_on_destroy, PROT_NONE, PAGE_RW + 1);
    tcase_add_test(regions, system_calls_get_efault);
    return run_suite(suite);
}
