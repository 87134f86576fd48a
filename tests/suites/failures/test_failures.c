/* SPDX-License-Identifier: MIT */
/* Each system call fails once, at each place where the library makes one. */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "place.h"
#include "test_failures.h"

/* key has one region, and software, which mprotect enforces, has two. All are closed. */
static struct pkeyguard_key *key, *software;
static struct pkeyguard_region *region, *second, *third;

static void set_up(void)
{
    key = new_key(PKEYGUARD_NO_ACCESS, 0);
    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    region = new_region(key);
    second = new_region(software);
    third = new_region(software);
}

static void tear_down(void)
{
    destroy(region, key);
    destroy(second, NULL);
    destroy(third, software);
}

static void assert_all_closed(void)
{
    ck_assert_ptr_eq(pkeyguard_region_key(region), key);
    ck_assert_int_eq(pkeyguard_region_prot(region), PAGE_RW);
    ck_assert_ptr_eq(pkeyguard_region_key(second), software);
    ck_assert_int_eq(pkeyguard_key_rights(software), PKEYGUARD_NO_ACCESS);
    assert_denied(READ_BYTE, address_of(region), key);
    assert_denied(READ_BYTE, address_of(second), software);
    assert_denied(READ_BYTE, address_of(third), software);
}

/* Created by the operations below. */
static struct pkeyguard_key *made_key;
static struct pkeyguard_region *made_region;
static struct pkeyguard_guard guard;

static void assert_nothing_made(void)
{
    ck_assert_ptr_null(made_key);
    ck_assert_ptr_null(made_region);
    assert_all_closed();
}

static void destroy_made(void)
{
    destroy(made_region, made_key);
    made_region = NULL;
    made_key = NULL;
}

static int create_plain_key(void)
{
    return pkeyguard_key_create(PKEYGUARD_READ_ONLY, 0, &made_key);
}

static int create_region(void)
{
    return pkeyguard_region_create(key, 3 * PAGE_BYTES, PAGE_RW, 0, &made_region);
}

/* The library maps more at first, and then unmaps what is too much. */
static int create_large_region(void)
{
    return pkeyguard_region_create(key, 3 << 20, PAGE_RW, PKEYGUARD_REGION_HUGE_PAGES,
                                   &made_region);
}

static int create_private_region_with(void)
{
    return pkeyguard_region_create_with(NULL, "content", 8, PROT_READ, 0, &made_region);
}

static int create_region_with(void)
{
    return pkeyguard_region_create_with(key, "content", 8, PROT_READ, 0, &made_region);
}

static int create_end_aligned_region(void)
{
    return pkeyguard_region_create(key, 8, PROT_READ, PKEYGUARD_REGION_END_ALIGNED, &made_region);
}

static int create_locked_region(void)
{
    return pkeyguard_region_create(
        key, 8, PROT_READ, PKEYGUARD_REGION_LOCKED | PKEYGUARD_REGION_NO_FORK, &made_region);
}

static int create_wiped_region(void)
{
    return pkeyguard_region_create_with(key, "content", 8, PROT_READ, PKEYGUARD_REGION_FORK_WIPE,
                                        &made_region);
}

static int create_secret_region(void)
{
    return pkeyguard_region_create_with(key, "content", 8, PROT_READ, PKEYGUARD_REGION_SECRET,
                                        &made_region);
}

static void open_software(void)
{
    ck_assert_int_eq(pkeyguard_key_set_rights(software, PKEYGUARD_READ_WRITE), 0);
}

static void close_software(void)
{
    ck_assert_int_eq(pkeyguard_key_set_rights(software, PKEYGUARD_NO_ACCESS), 0);
}

static int create_open_region(void)
{
    return pkeyguard_region_create(software, 1, PAGE_RW, PKEYGUARD_REGION_NO_GUARD_PAGES,
                                   &made_region);
}

static int create_open_guarded_region(void)
{
    open_software();
    return pkeyguard_region_create(software, 1, PAGE_RW, 0, &made_region);
}

static void assert_nothing_made_but_open(void)
{
    ck_assert_ptr_null(made_region);
    assert_allowed(WRITE_BYTE, address_of(second));
}

static void destroy_made_and_close(void)
{
    destroy_made();
    close_software();
}

static void make_read_only(void)
{
    ck_assert_int_eq(create_region_with(), 0);
}

static int destroy_read_only(void)
{
    return pkeyguard_region_destroy(made_region);
}

static void forget_made(void)
{
    made_region = NULL;
}

static void assert_still_read_only(void)
{
    struct pkeyguard_guard reading;

    ck_assert_int_eq(pkeyguard_region_prot(made_region), PROT_READ);
    assert_denied(READ_BYTE, address_of(made_region), key);
    ck_assert_int_eq(pkeyguard_acquire(made_region, PKEYGUARD_READ_WRITE, &reading), 0);
    assert_allowed(READ_BYTE, address_of(made_region));
    assert_page_denied(WRITE_BYTE, address_of(made_region));
    pkeyguard_release(&reading);
}

static int associate_with_open_software(void)
{
    return pkeyguard_region_associate(region, software);
}

static void assert_not_associated(void)
{
    ck_assert_ptr_eq(pkeyguard_region_key(region), key);
    assert_denied(READ_BYTE, address_of(region), key);
}

static void associate_back(void)
{
    ck_assert_int_eq(pkeyguard_region_associate(region, key), 0);
    close_software();
}

static int associate_with_none(void)
{
    return pkeyguard_region_associate(region, NULL);
}

static void open_key(void)
{
    ck_assert_int_eq(pkeyguard_key_set_rights(key, PKEYGUARD_READ_WRITE), 0);
}

static void assert_key_still_open(void)
{
    ck_assert_int_eq(pkeyguard_region_prot(region), PAGE_RW);
    ck_assert_int_eq(pkeyguard_key_rights(key), PKEYGUARD_READ_WRITE);
    assert_allowed(WRITE_BYTE, address_of(region));
}

static void close_key(void)
{
    ck_assert_int_eq(pkeyguard_region_associate(region, key), 0);
    ck_assert_int_eq(pkeyguard_region_protect(region, PAGE_RW), 0);
    ck_assert_int_eq(pkeyguard_key_set_rights(key, PKEYGUARD_NO_ACCESS), 0);
}

static char *foreign_page;

static void map_foreign(void)
{
    foreign_page = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(foreign_page != MAP_FAILED);
}

static int adopt(void)
{
    return pkeyguard_region_adopt(key, foreign_page, PAGE_BYTES, PROT_READ, 0, &made_region);
}

static void assert_not_adopted(void)
{
    ck_assert_ptr_null(made_region);
    assert_allowed(WRITE_BYTE, foreign_page);
}

static void destroy_made_and_unmap(void)
{
    destroy_made();
    munmap(foreign_page, PAGE_BYTES);
}

static void adopt_foreign(void)
{
    map_foreign();
    ck_assert_int_eq(adopt(), 0);
}

static void assert_still_adopted(void)
{
    assert_still_read_only();
    ck_assert_ptr_eq(address_of(made_region), foreign_page);
}

static void forget_made_and_unmap(void)
{
    made_region = NULL;
    assert_allowed(WRITE_BYTE, foreign_page);
    munmap(foreign_page, PAGE_BYTES);
}

static int protect(void)
{
    return pkeyguard_region_protect(region, PROT_READ);
}

static int acquire(void)
{
    return pkeyguard_acquire(second, PKEYGUARD_READ_WRITE, &guard);
}

static int acquire_key(void)
{
    return pkeyguard_key_acquire(software, PKEYGUARD_READ_ONLY, &guard);
}

static void assert_guard_empty(void)
{
    ck_assert_uint_eq(guard.undo | guard.cleared, 0);
    assert_all_closed();
}

static void release(void)
{
    pkeyguard_release(&guard);
}

static int set_rights(void)
{
    return pkeyguard_key_set_rights(software, PKEYGUARD_READ_WRITE);
}

static int take_rights_back(void)
{
    return pkeyguard_key_set_rights(software, PKEYGUARD_NO_ACCESS);
}

static void assert_software_still_open(void)
{
    ck_assert_int_eq(pkeyguard_key_rights(software), PKEYGUARD_READ_WRITE);
    assert_allowed(WRITE_BYTE, address_of(second));
    assert_allowed(WRITE_BYTE, address_of(third));
}

static int restrict_open(void)
{
    return pkeyguard_restrict(second, PKEYGUARD_NO_ACCESS, &guard);
}

static void release_and_close(void)
{
    pkeyguard_release(&guard);
    close_software();
}

static void do_nothing(void)
{
}

/*
 * `run` is made to fail at its first system call, then at its second, and so on, until it makes no
 * more. `least` is the least number of calls that it makes, because a test of no call proves
 * nothing. `absorbed` is the number of those calls that may fail without failing it, under mprotect
 * and under PKU. For example, a region can do without guard pages inside its mapping.
 */
static const struct operation {
    void (*prepare)(void);
    int (*run)(void);
    void (*assert_unchanged)(void);
    void (*undo)(void);
    int least, absorbed, absorbed_pku;
} operations[] = {
    {do_nothing, create_plain_key, assert_nothing_made, destroy_made, 1, 0, 1},
    {do_nothing, create_region, assert_nothing_made, destroy_made, 3, 1, 1},
    {do_nothing, create_large_region, assert_nothing_made, destroy_made, 5, 1, 1},
    {do_nothing, create_region_with, assert_nothing_made, destroy_made, 5, 1, 1},
    {do_nothing, create_private_region_with, assert_nothing_made, destroy_made, 5, 1, 1},
    {do_nothing, create_end_aligned_region, assert_nothing_made, destroy_made, 5, 1, 1},
    {do_nothing, create_locked_region, assert_nothing_made, destroy_made, 4, 0, 0},
    {do_nothing, create_wiped_region, assert_nothing_made, destroy_made, 5, 0, 0},
    {open_software, create_open_region, assert_nothing_made_but_open, destroy_made_and_close, 2, 0,
     0},
    {make_read_only, destroy_read_only, assert_still_read_only, forget_made, 2, 1, 0},
    /* /proc/self/smaps is read if the kernel does not answer a query. */
    {map_foreign, adopt, assert_not_adopted, destroy_made_and_unmap, 2, 2, 3},
    {adopt_foreign, destroy_read_only, assert_still_adopted, forget_made_and_unmap, 1, 0, 0},
    {open_software, associate_with_open_software, assert_not_associated, associate_back, 1, 0, 0},
    {open_key, associate_with_none, assert_key_still_open, close_key, 1, 0, 0},
    {open_key, protect, assert_key_still_open, close_key, 1, 0, 0},
    {do_nothing, acquire, assert_guard_empty, release, 1, 0, 0},
    {do_nothing, acquire_key, assert_guard_empty, release, 2, 0, 0},
    {do_nothing, set_rights, assert_all_closed, close_software, 2, 0, 0},
    {open_software, take_rights_back, assert_software_still_open, do_nothing, 2, 0, 0},
    {open_software, restrict_open, assert_software_still_open, release_and_close, 1, 0, 0},
    {do_nothing, create_secret_region, assert_nothing_made, destroy_made, 7, 0,
     0}, /* last, because main() leaves it out without secret memory */
};
enum { OPERATIONS = sizeof(operations) / sizeof(*operations) };

START_TEST(failed_operation_changes_nothing)
{
    const struct operation *operation = &operations[_i / 2];
    int error = _i % 2 == 0 ? ENOMEM : EACCES, calls = 0, absorbed = 0;
    struct resources before;

    /* Under mprotect a key needs nothing that could be refused. */
    if (operation->run == create_plain_key && test_enforcement() != PKEYGUARD_PKU)
        return;
    operation->prepare();
    before = count_resources();
    for (;; calls++) {
        int result;
        bool failed;

        fail_call(ANY_CALL, calls, error, 1);
        result = operation->run();
        failed = stop_failing();
        if (!failed)
            break;
        if (result != 0) {
            ck_assert(result == -ENOMEM || (error == EACCES && result == -EACCES));
            operation->assert_unchanged();
        } else {
            absorbed++;
            operation->undo();
            operation->prepare();
        }
        assert_resources(before);
        ck_assert_int_lt(calls, 100);
    }
    ck_assert_int_ge(calls, operation->least);
    ck_assert_int_eq(absorbed, test_enforcement() == PKEYGUARD_PKU ? operation->absorbed_pku
                                                                   : operation->absorbed);
    operation->undo();
    assert_all_closed();
}
END_TEST

/* The first key or region of a process needs memory for records. */
START_TEST(first_record_without_memory_is_refused)
{
    fail_call(CALL_MMAP, 0, ENOMEM, 1);
    ck_assert_int_eq(_i == 0 ? pkeyguard_region_create(NULL, 1, PAGE_RW, 0, &made_region)
                             : create_plain_key(),
                     -ENOMEM);
    ck_assert(stop_failing());
    ck_assert_ptr_null(made_region);
    ck_assert_ptr_null(made_key);
    destroy(new_region(NULL), new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE));
}
END_TEST

/*
 * The records of a thread's guards move into a page of their own when there are many, and then
 * grow. A guard that they have no room for is refused. The pages are unmapped after the last guard.
 */
START_TEST(guard_without_memory_for_its_record_is_refused)
{
    enum { MANY = 400 };
    static struct pkeyguard_region *regions[MANY];
    static struct pkeyguard_guard guards[MANY];
    enum call call = _i == 0 ? CALL_MMAP : CALL_MREMAP;
    struct pkeyguard_guard one_more;
    struct resources before;
    bool refused = false;

    for (int i = 0; i < MANY; i++)
        regions[i] = new_region(NULL);
    before = count_resources();
    fail_call(call, 0, ENOMEM, 1);
    for (int i = 0; i < MANY; i++) {
        int error = pkeyguard_acquire(regions[i], PKEYGUARD_READ_ONLY, &guards[i]);

        if (error != 0) {
            ck_assert_int_eq(error, -ENOMEM);
            ck_assert(!refused);
            refused = true;
            assert_denied(READ_BYTE, address_of(regions[i]), NULL);
            ck_assert_int_eq(pkeyguard_acquire(regions[0], PKEYGUARD_READ_WRITE, &one_more), 0);
            pkeyguard_release(&one_more);
            ck_assert_int_eq(pkeyguard_acquire(regions[i], PKEYGUARD_READ_ONLY, &guards[i]), 0);
        }
    }
    ck_assert(stop_failing());
    ck_assert(refused);
    for (int i = 0; i < MANY; i++) {
        assert_allowed(READ_BYTE, address_of(regions[i]));
        pkeyguard_release(&guards[i]);
        assert_denied(READ_BYTE, address_of(regions[i]), NULL);
    }
    assert_resources(before);
    for (int i = 0; i < MANY; i++)
        destroy(regions[i], NULL);
}
END_TEST

/* Operations that succeed leave nothing behind either. */
START_TEST(operations_leak_nothing)
{
    struct resources before = count_resources();

    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(create_plain_key(), 0);
        ck_assert_int_eq(create_region_with(), 0);
        ck_assert_int_eq(pkeyguard_region_associate(made_region, made_key), 0);
        ck_assert_int_eq(pkeyguard_region_associate(made_region, NULL), 0);
        destroy_made();
    }
    assert_resources(before);
}
END_TEST

static void set_rights_with_failing_undo(void *error)
{
    fail_call(CALL_MPROTECT, 1, *(int *)error, 1000);
    (void)!pkeyguard_key_set_rights(software, PKEYGUARD_READ_WRITE);
}

/*
 * The kernel lets the first region be opened, refuses the second, and then refuses to close the
 * first again. EACCES is a sandbox's, which has changed nothing of the second.
 */
START_TEST(change_that_cannot_be_undone_aborts)
{
    int errors[] = {ENOMEM, EACCES};

    assert_aborts(set_rights_with_failing_undo, &errors[_i],
                  "libpkeyguard: cannot restore page rights after a failed change\n");
}
END_TEST

/*
 * Where the kernel refuses guard pages inside the mapping, the pages around the region are mapped
 * inaccessible.
 */
START_TEST(refused_guard_pages_are_replaced)
{
    static const struct {
        int from_kernel, expected;
    } errors[] = {{EINVAL, 0}, {ENOMEM, -ENOMEM}, {EAGAIN, -ENOMEM}};
    struct resources before = count_resources();

    for (size_t skip = 0; skip < 2; skip++) {
        for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
            fail_call(CALL_MADVISE, 1 + (int)skip, errors[i].from_kernel, 1);
            ck_assert_int_eq(create_open_guarded_region(), errors[i].expected);
            ck_assert(stop_failing());
            if (errors[i].expected != 0) {
                ck_assert_ptr_null(made_region);
                continue;
            }
            assert_page_denied(READ_BYTE, address_of(made_region) - 1);
            assert_page_denied(READ_BYTE, address_of(made_region) + PAGE_BYTES);
            destroy_made();
        }
    }
    close_software();
    assert_resources(before);
}
END_TEST

static char *next_to_region;

static void map_next_page(void *address, unsigned long length)
{
    (void)length;
    next_to_region = mmap((char *)address + 3 * PAGE_BYTES, PAGE_BYTES, PAGE_RW,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
}

static void map_next_page_after_one_call(void *address, unsigned long length)
{
    (void)address, (void)length;
    before_call(CALL_MADVISE, map_next_page);
}

/*
 * While a creation fails, another thread may map the page after the region. The library must leave
 * it alone.
 */
START_TEST(failed_creation_leaves_the_next_page_alone)
{
    fail_call(CALL_MADVISE, 1, ENOMEM, 1);
    before_call(CALL_MADVISE, map_next_page_after_one_call);
    ck_assert_int_eq(pkeyguard_region_create(key, 1, PAGE_RW, 0, &made_region), -ENOMEM);
    ck_assert(stop_failing());
    ck_assert(next_to_region != NULL && next_to_region != MAP_FAILED);
    assert_allowed(WRITE_BYTE, next_to_region);
    munmap(next_to_region, PAGE_BYTES);
}
END_TEST

/* Errors of single system calls, and what the library makes of them. */
START_TEST(refused_flags_create_nothing)
{
    static const struct {
        unsigned flag;
        enum call call;
        int from_kernel, expected;
    } refusals[] = {
        {PKEYGUARD_REGION_SECRET, CALL_MEMFD_SECRET, ENOSYS, -ENOTSUP},
        {PKEYGUARD_REGION_SECRET, CALL_MEMFD_SECRET, EPERM, -ENOTSUP},
        {PKEYGUARD_REGION_SECRET, CALL_MEMFD_SECRET, EMFILE, -ENOMEM},
        {PKEYGUARD_REGION_LOCKED, CALL_MLOCK, EPERM, -EPERM},
        {PKEYGUARD_REGION_LOCKED, CALL_MLOCK, ENOMEM, -ENOMEM},
        {PKEYGUARD_REGION_LOCKED, CALL_MLOCK, EAGAIN, -ENOMEM},
    };
    struct resources before = count_resources();

    for (size_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
        fail_call(refusals[i].call, 0, refusals[i].from_kernel, 1);
        ck_assert_int_eq(pkeyguard_region_create_with(key, "content", 8, PROT_READ,
                                                      refusals[i].flag, &made_region),
                         refusals[i].expected);
        ck_assert(stop_failing());
        assert_nothing_made();
    }
    assert_resources(before);
}
END_TEST

/* A process that locks all its memory, and may lock no more, gets EAGAIN. */
START_TEST(memory_that_would_be_locked_is_refused)
{
    fail_call(CALL_MMAP, 0, EAGAIN, 1);
    ck_assert_int_eq(create_region(), -ENOMEM);
    ck_assert(stop_failing());
    assert_nothing_made();
}
END_TEST

/*
 * Beyond RLIMIT_MEMLOCK mmap fails with EAGAIN, or a write to the page with EFAULT. The descriptor
 * is closed all the same.
 */
START_TEST(secret_memory_beyond_the_limit_is_refused)
{
    static const struct {
        enum call call;
        int skip, from_kernel;
    } refusals[] = {{CALL_FTRUNCATE, 0, EINVAL}, {CALL_MMAP, 1, EAGAIN}, {CALL_GETCPU, 0, EFAULT}};
    int next = dup(0);

    close(next);
    for (int i = 0; i < 3; i++) {
        fail_call(refusals[i].call, refusals[i].skip, refusals[i].from_kernel, 1);
        ck_assert_int_eq(create_secret_region(), -ENOMEM);
        ck_assert(stop_failing());
        assert_nothing_made();
    }
    ck_assert_int_eq(create_secret_region(), 0);
    destroy_made();
    ck_assert_int_eq(dup(0), next);
    close(next);
}
END_TEST

/* The kernel refuses the advice, or a sandbox refuses the system call. */
START_TEST(refused_advice_creates_nothing)
{
    static const struct {
        unsigned flag;
        int advice, unknown; /* unknown: what EINVAL becomes */
    } advices[] = {{0, MADV_DONTDUMP, -ENOMEM},
                   {PKEYGUARD_REGION_FORK_WIPE, MADV_WIPEONFORK, -ENOMEM},
                   {PKEYGUARD_REGION_NO_FORK, MADV_DONTFORK, -ENOMEM},
                   {PKEYGUARD_REGION_HUGE_PAGES, MADV_HUGEPAGE, -ENOTSUP}};
    static const struct {
        int from_kernel, expected;
    } errors[] = {{EINVAL, 0}, {EAGAIN, -ENOMEM}, {EPERM, -EACCES}, {ENOSYS, -EACCES}};

    for (size_t i = 0; i < sizeof(advices) / sizeof(*advices); i++) {
        for (size_t j = 0; j < sizeof(errors) / sizeof(*errors); j++) {
            fail_advice(advices[i].advice, errors[j].from_kernel);
            ck_assert_int_eq(
                pkeyguard_region_create(key, 1, PAGE_RW, advices[i].flag, &made_region),
                errors[j].from_kernel == EINVAL ? advices[i].unknown : errors[j].expected);
            ck_assert(stop_failing());
            assert_nothing_made();
        }
    }
}
END_TEST

enum { CALLS_OF_A_CREATION = 16 };

/*
 * A sandbox that begins while a region is made refuses all system calls from then on, also those
 * that would undo what was done. That is an error like any other: the key can be used and destroyed
 * as if there had been no region.
 */
START_TEST(creation_fails_when_nothing_can_be_undone)
{
    static const unsigned flags[] = {0, PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_VIRTUAL};
    struct pkeyguard_key *of = new_key(PKEYGUARD_NO_ACCESS, flags[_i % 3]);
    struct pkeyguard_region *created = NULL;
    int error;

    fail_call(ANY_CALL, _i / 3, EPERM, 1 << 30);
    error = pkeyguard_region_create_with(of, "content", 8, PROT_READ, PKEYGUARD_REGION_LOCKED,
                                         &created);
    ck_assert(stop_failing() == (error != 0));
    ck_assert((created == NULL) == (error != 0));
    destroy(created, NULL);
    destroy(new_region(of), of);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("failures");
    TCase *tests = add_case(suite, "failures", set_up, tear_down);
    TCase *first = add_case(suite, "the first region", NULL, NULL);
    const struct pkeyguard_platform *platform = test_platform();

    tcase_add_loop_test(tests, failed_operation_changes_nothing, 0,
                        platform->secret_memory ? 2 * OPERATIONS : 2 * (OPERATIONS - 1));
    add_test_if(platform->secret_memory, "the kernel has no secret memory", tests,
                secret_memory_beyond_the_limit_is_refused);
    add_test_if(platform->guard_madvise, "the kernel has no guard pages", tests,
                refused_guard_pages_are_replaced);
    add_test_if(platform->guard_madvise, "the kernel has no guard pages", tests,
                failed_creation_leaves_the_next_page_alone);
    tcase_add_test(tests, memory_that_would_be_locked_is_refused);
    tcase_add_test(tests, refused_flags_create_nothing);
    tcase_add_test(tests, refused_advice_creates_nothing);
    tcase_add_loop_test(tests, guard_without_memory_for_its_record_is_refused, 0, 2);
    tcase_add_loop_test(tests, creation_fails_when_nothing_can_be_undone, 0,
                        3 * CALLS_OF_A_CREATION);
    tcase_add_test(tests, operations_leak_nothing);
    tcase_add_loop_test(tests, change_that_cannot_be_undone_aborts, 0, 2);
    tcase_add_loop_test(first, first_record_without_memory_is_refused, 0, 2);
    add_fail_closed(suite);
    add_first_use(suite);
    add_held_lock(suite);
    return run_suite(suite);
}
