/* SPDX-License-Identifier: MIT */
/*
 * The kernel refuses what would close memory. Where the function cannot return an error, or an
 * error would leave the memory open, the library aborts.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test_failures.h"
#include "worker.h"

static struct pkeyguard_key *software;
static struct pkeyguard_region *region;

static void set_up(void)
{
    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    region = new_region(software);
}

static void tear_down(void)
{
    destroy(region, software);
}

/* From now on every such call fails, after `skip` that pass. */
static void refuse(enum call call, int skip)
{
    fail_call(call, skip, ENOMEM, 1 << 30);
}

static void enter_gate(void *unused)
{
    (void)unused;
    pkeyguard_scoped_write (char, byte, region) {
        refuse(CALL_MPROTECT, 0);
        pkeyguard_scoped_closed (gate)
            *byte = 1;
    }
}

static void leave_gate(void *unused)
{
    (void)unused;
    pkeyguard_scoped_write (char, byte, region) {
        pkeyguard_scoped_closed (gate)
            fail_call(CALL_MPROTECT, 0, ENOMEM, 1);
        *byte = 1;
    }
}

static int open_and_fault(void *unused)
{
    struct pkeyguard_region *other = new_region(NULL);
    struct pkeyguard_guard leaked;

    (void)unused;
    if (pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &leaked) == 0) {
        refuse(CALL_MPROTECT, 0);
        access_byte(WRITE_BYTE, address_of(other));
    }
    return 0;
}

static void try_call(void *unused)
{
    struct pkeyguard_fault fault;
    int result;

    (void)unused;
    if (pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_RECOVER) == 0)
        (void)!pkeyguard_try_call(open_and_fault, NULL, &result, &fault);
}

/* It opens a region that has content, to wipe it. */
static void destroy_region(void *unused)
{
    (void)unused;
    pkeyguard_scoped_write (char, byte, region)
        *byte = 1;
    refuse(ANY_CALL, 1);
    (void)!pkeyguard_region_destroy(region);
}

static struct pkeyguard_region *end_aligned;

/* It opens the region to look at its slack. */
static void check_region(void *unused)
{
    (void)unused;
    refuse(CALL_MPROTECT, 1);
    (void)!pkeyguard_region_check(end_aligned, 0, NULL);
}

START_TEST(region_that_cannot_be_opened_is_not_checked)
{
    ck_assert_int_eq(
        pkeyguard_region_create(software, 8, PAGE_RW, PKEYGUARD_REGION_END_ALIGNED, &end_aligned),
        0);
    fail_call(CALL_MPROTECT, 0, ENOMEM, 1);
    ck_assert_int_eq(pkeyguard_region_check(end_aligned, 0, NULL), -ENOMEM);
    ck_assert(stop_failing());
    assert_denied(READ_BYTE, address_of(end_aligned), software);
    ck_assert_int_eq(pkeyguard_region_check(end_aligned, 0, NULL), 0);
    assert_aborts(check_region, NULL,
                  "libpkeyguard: a region that was checked cannot be closed: out of memory, of "
                  "memory mappings, of file descriptors or of memory that may be locked, or memory "
                  "that is not mapped, as that of a destroyed region\n");
    destroy(end_aligned, NULL);
}
END_TEST

static void hold_region(void *unused)
{
    struct pkeyguard_guard guard;

    (void)unused;
    (void)!pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard);
}

/* What another thread of the parent has open. */
static void fork_child(void *unused)
{
    struct worker other;
    int status;
    pid_t child;

    start_worker(&other);
    run_on(&other, hold_region, unused);
    refuse(CALL_MPROTECT, 0);
    child = fork();
    if (child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status))
        raise(WTERMSIG(status));
    _exit(0);
}

static const struct {
    void (*call)(void *unused);
    const char *line;
} aborting[] = {
    {enter_gate,
     "libpkeyguard: a call gate cannot close the thread's guards, or open them again\n"},
    {leave_gate,
     "libpkeyguard: a call gate cannot close the thread's guards, or open them again\n"},
    {try_call, "libpkeyguard: a call gate cannot close the thread's guards, or open them again\n"},
    {destroy_region, "libpkeyguard: a region can be neither closed nor unmapped\n"},
    {fork_child, "libpkeyguard: a fork child cannot close what other threads had open\n"},
};
enum { ABORTING = sizeof(aborting) / sizeof(*aborting) };

START_TEST(memory_that_cannot_be_closed_ends_the_process)
{
    assert_aborts(aborting[_i].call, NULL, aborting[_i].line);
}
END_TEST

/* Not a signal, SIGXFSZ, that would kill the process. */
START_TEST(secret_memory_beyond_the_file_size_limit_is_refused)
{
    struct rlimit limit = {.rlim_cur = PAGE_BYTES, .rlim_max = PAGE_BYTES};
    struct pkeyguard_region *made = NULL;

    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(
        pkeyguard_region_create(software, PAGE_BYTES + 1, PAGE_RW, PKEYGUARD_REGION_SECRET, &made),
        -ENOMEM);
    ck_assert_ptr_null(made);
    ck_assert_int_eq(
        pkeyguard_region_create(software, PAGE_BYTES, PAGE_RW, PKEYGUARD_REGION_SECRET, &made), 0);
    destroy(made, NULL);
}
END_TEST

/* The kernel does not show the process its mappings. */
START_TEST(mappings_that_cannot_be_read_are_an_error)
{
    static const struct {
        int from_kernel, expected;
    } errors[] = {{ENOENT, -ENOTSUP}, {ENOMEM, -ENOMEM}, {EMFILE, -ENOMEM},
                  {ENFILE, -ENOMEM},  {EACCES, -EACCES}, {EPERM, -EACCES}};
    char *page = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct pkeyguard_region *adopted = NULL;

    ck_assert(page != MAP_FAILED);
    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
        refuse_call(CALL_OPENAT, errors[i].from_kernel);
        ck_assert_int_eq(pkeyguard_region_check(region, 0, NULL), errors[i].expected);
        ck_assert_int_eq(pkeyguard_region_adopt(software, page, PAGE_BYTES, PAGE_RW, 0, &adopted),
                         errors[i].expected);
        ck_assert_ptr_null(adopted);
        assert_allowed(WRITE_BYTE, page);
    }
    refuse_call(CALL_OPENAT, 0);
    ck_assert_int_eq(pkeyguard_region_check(region, 0, NULL), 0);
    munmap(page, PAGE_BYTES);
}
END_TEST

void add_fail_closed(Suite *suite)
{
    TCase *tests = add_case(suite, "fail closed", set_up, tear_down);

    tcase_add_loop_test(tests, memory_that_cannot_be_closed_ends_the_process, 0, ABORTING);
    tcase_add_test(tests, region_that_cannot_be_opened_is_not_checked);
    tcase_add_test(tests, mappings_that_cannot_be_read_are_an_error);
    add_test_if(test_platform()->secret_memory, "the kernel has no secret memory", tests,
                secret_memory_beyond_the_file_size_limit_is_refused);
}
