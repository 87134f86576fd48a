/* SPDX-License-Identifier: MIT */
/* Region flags: core dumps, locking, secret memory and fork. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failing.h"
#include "test_region.h"

START_TEST(only_dumpable_regions_are_marked_for_dumps)
{
    struct pkeyguard_region *region = region_with_flags(NULL, 1, each_flag[_i]);

    ck_assert(has_vm_flag(address_of(region), " dd") !=
              (each_flag[_i] == PKEYGUARD_REGION_DUMPABLE));
    destroy(region, NULL);
}
END_TEST

/* Asks the kernel to merge equal pages of this process (KSM, Linux 6.4). PR_SET_MEMORY_MERGE of
 * <linux/prctl.h>, which Debian 12's headers lack. */
enum { SET_MEMORY_MERGE = 67 };

static bool merging_is_possible(void)
{
    bool possible = prctl(SET_MEMORY_MERGE, 1, 0, 0, 0) == 0;

    prctl(SET_MEMORY_MERGE, 0, 0, 0, 0);
    return possible;
}

START_TEST(regions_are_never_merged)
{
    struct pkeyguard_region *region;
    struct pkeyguard_heap *heap = NULL;
    void *other;

    ck_assert_int_eq(prctl(SET_MEMORY_MERGE, 1, 0, 0, 0), 0);
    other = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(has_vm_flag(other, " mg"));
    munmap(other, PAGE_BYTES);
    region = region_with_flags(NULL, 1, each_flag[_i]);
    ck_assert(!has_vm_flag(address_of(region), " mg"));
    pkeyguard_scoped_write (char, byte, region)
        ck_assert(!has_vm_flag(byte, " mg"));
    destroy(region, NULL);
    ck_assert_int_eq(pkeyguard_heap_create(NULL, PAGE_BYTES, 0, &heap), 0);
    ck_assert(!has_vm_flag(address_of(pkeyguard_heap_region(heap)), " mg"));
    ck_assert(!has_vm_flag(address_of(pkeyguard_heap_region(heap)) + 2 * PAGE_BYTES, " mg"));
    ck_assert_int_eq(pkeyguard_heap_destroy(heap), 0);
}
END_TEST

/* A kernel without KSM does not know the advice. */
START_TEST(region_is_created_where_nothing_is_merged)
{
    struct pkeyguard_region *region = NULL;

    fail_advice(MADV_UNMERGEABLE, EINVAL);
    ck_assert_int_eq(pkeyguard_region_create(NULL, 1, PAGE_RW, 0, &region), 0);
    ck_assert(stop_failing());
    destroy(region, NULL);
    fail_advice(MADV_UNMERGEABLE, ENOMEM);
    ck_assert_int_eq(pkeyguard_region_create(NULL, 1, PAGE_RW, 0, &region), -ENOMEM);
    ck_assert(stop_failing());
}
END_TEST

static bool core_has_secret(const char *path)
{
    int file = open(path, O_RDONLY);
    struct stat status;
    const char *core;
    bool found = false;

    ck_assert_msg(file >= 0, "no core dump at %s", path);
    ck_assert_int_eq(fstat(file, &status), 0);
    ck_assert_int_gt(status.st_size, PAGE_BYTES);
    core = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    ck_assert(core != MAP_FAILED);
    /* Regions start at a page, and the dump has whole pages at multiples of 64 bytes. */
    for (off_t at = 0; at + PAGE_BYTES <= status.st_size && !found; at += 64)
        found = is_secret(core + at);
    munmap((void *)(uintptr_t)core, (size_t)status.st_size);
    close(file);
    return found;
}

/* A child process opens its region, and dies with a core dump in a directory of its own. */
START_TEST(core_dump_has_dumpable_regions_only)
{
    static const struct rlimit no_limit = {RLIM_INFINITY, RLIM_INFINITY};
    unsigned flags = each_flag[_i];
    char directory[] = "/tmp/pkeyguard-core-XXXXXX", path[64];
    DIR *entries;
    struct dirent *entry;
    int status;
    pid_t child;

    ck_assert_ptr_nonnull(mkdtemp(directory));
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct pkeyguard_region *region = region_with_flags(NULL, 64, flags);

        ck_assert_int_eq(chdir(directory), 0);
        ck_assert_int_eq(setrlimit(RLIMIT_CORE, &no_limit), 0);
        pkeyguard_scoped_write (char[64], secret, region) {
            write_secret(*secret);
            signal(SIGQUIT, SIG_DFL);
            raise(SIGQUIT);
        }
        _exit(1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WCOREDUMP(status));
    path[0] = '\0';
    entries = opendir(directory);
    ck_assert_ptr_nonnull(entries);
    while ((entry = readdir(entries)) != NULL) {
        if (strncmp(entry->d_name, "core", 4) == 0)
            snprintf(path, sizeof(path), "%s/%.20s", directory, entry->d_name);
    }
    closedir(entries);
    ck_assert_int_eq(core_has_secret(path), flags == PKEYGUARD_REGION_DUMPABLE);
    unlink(path);
    rmdir(directory);
}
END_TEST

/* Core dumps are files in the current directory if core_pattern is a plain file name. */
static bool cores_can_be_read(void)
{
    char pattern[256] = "|";
    FILE *file = fopen("/proc/sys/kernel/core_pattern", "r");

    if (file != NULL) {
        (void)!fgets(pattern, sizeof(pattern), file);
        fclose(file);
    }
    return strncmp(pattern, "core", 4) == 0 && strchr(pattern, '/') == NULL;
}

START_TEST(locked_region_is_locked_in_memory)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region =
        region_with_flags(key, 4 * PAGE_BYTES, PKEYGUARD_REGION_LOCKED);
    struct pkeyguard_region *other = region_with_flags(key, 4 * PAGE_BYTES, 0);
    char locked[64];

    ck_assert(has_vm_flag(address_of(region), " lo"));
    ck_assert(!has_vm_flag(address_of(other), " lo"));
    read_smaps(address_of(region), "Locked:", locked, sizeof(locked));
    ck_assert_int_eq(atoi(locked), 16);
    assert_denied(READ_BYTE, address_of(region), key);
    ck_assert_int_eq(pkeyguard_region_prot(region), PAGE_RW);
    pkeyguard_scoped_write (char, byte, region) {
        assert_allowed(WRITE_BYTE, byte);
    }
    ck_assert(has_vm_flag(address_of(region), " lo"));
    ck_assert_int_eq(pkeyguard_region_destroy(other), 0);
    destroy(region, key);
}
END_TEST

/* In a child process that is not root: the limit does not apply to root. */
START_TEST(locking_obeys_the_limit)
{
    static const struct {
        unsigned flag;
        rlim_t limit;
        int expected;
    } limits[] = {
        {PKEYGUARD_REGION_LOCKED, 0, -EPERM},
        {PKEYGUARD_REGION_LOCKED, PAGE_BYTES, -ENOMEM},
        {PKEYGUARD_REGION_LOCKED, 2 * PAGE_BYTES, 0},
        {PKEYGUARD_REGION_SECRET, PAGE_BYTES, -ENOMEM},
        {PKEYGUARD_REGION_SECRET, 2 * PAGE_BYTES, 0},
    };
    const struct rlimit limit = {limits[_i].limit, limits[_i].limit};
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    pid_t child = fork();

    if (child == 0) {
        struct pkeyguard_region *region = NULL;
        int error;

        ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &limit), 0);
        ck_assert(geteuid() != 0 || setresuid(65534, 65534, 65534) == 0);
        error = pkeyguard_region_create(key, 2 * PAGE_BYTES, PAGE_RW, limits[_i].flag, &region);
        ck_assert_int_eq(error, limits[_i].expected);
        ck_assert((region != NULL) == (error == 0));
        ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
        ck_assert_int_eq(pkeyguard_key_destroy(key), 0);
        _exit(0);
    }
    assert_exits(child, 0);
    destroy(NULL, key);
}
END_TEST

/*
 * Debuggers read and write memory in these two ways. True if both work for this byte, which is 's'.
 */
static bool proc_mem_reaches(void *address)
{
    int file = open("/proc/self/mem", O_RDWR);
    char byte = 0;
    bool reached;

    ck_assert_int_ge(file, 0);
    reached = pread(file, &byte, 1, (off_t)(uintptr_t)address) == 1 && byte == 's' &&
              pwrite(file, &byte, 1, (off_t)(uintptr_t)address) == 1;
    close(file);
    return reached;
}

static bool process_vm_reaches(void *address)
{
    char byte = 0;
    struct iovec local = {&byte, 1}, remote = {address, 1};

    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1 && byte == 's' &&
           process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == 1;
}

/* Neither obeys pkeys; process_vm_readv(2) obeys page rights. */
START_TEST(kernel_reaches_all_but_secret_memory)
{
    bool secret = each_flag[_i] == PKEYGUARD_REGION_SECRET;
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = region_with_flags(key, 1, each_flag[_i]);

    pkeyguard_scoped_write (char, byte, region) {
        *byte = 's';
        ck_assert(proc_mem_reaches(byte) == !secret);
        ck_assert(process_vm_reaches(byte) == !secret);
        ck_assert_int_eq(*byte, 's');
    }
    ck_assert(proc_mem_reaches(address_of(region)) == !secret);
    ck_assert(process_vm_reaches(address_of(region)) ==
              (!secret && pkeyguard_key_enforcement(key) == PKEYGUARD_PKU));
    destroy(region, key);
}
END_TEST

/*
 * Runs in a fork child: the region's content, and where the child has no such memory, every
 * operation on the region.
 */
static void check_region_in_child(struct pkeyguard_region *region, unsigned flags)
{
    struct pkeyguard_key *key = pkeyguard_region_key(region);
    struct pkeyguard_guard guard;
    char *address = address_of(region), *other;

    if (!(flags & (PKEYGUARD_REGION_NO_FORK | PKEYGUARD_REGION_SECRET))) {
        assert_denied(READ_BYTE, address, key);
        pkeyguard_scoped_read (char[64], bytes, region) {
            ck_assert(is_secret(*bytes) == !(flags & PKEYGUARD_REGION_FORK_WIPE));
            ck_assert((*bytes)[5] != 0 || flags & PKEYGUARD_REGION_FORK_WIPE);
        }
        ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
        return;
    }
    assert_fault_(READ_BYTE, address, SEGV_MAPERR, -1);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    assert_fault_(WRITE_BYTE, address, SEGV_MAPERR, -1);
    pkeyguard_release(&guard);
    /* Another mapping takes that place: the library must not touch it. */
    other = mmap(address, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    ck_assert_ptr_eq(other, address);
    *other = 'o';
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_NONE), 0);
    ck_assert_int_eq(pkeyguard_region_associate(region, NULL), 0);
    ck_assert_int_eq(pkeyguard_region_name(region, "gone"), 0);
    if (key != NULL) {
        ck_assert_int_eq(pkeyguard_region_associate(region, key), 0);
        ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_WRITE, &guard), 0);
        pkeyguard_release(&guard);
    }
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    ck_assert_int_eq(pkeyguard_key_destroy(key), 0);
    assert_allowed(WRITE_BYTE, other);
    if (pku())
        ck_assert_int_eq(pkey_of_mapping(other), 0);
}

static pthread_barrier_t barrier;

static void *hold_open(void *region)
{
    pkeyguard_scoped_read (char, byte, region) {
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        (void)*byte;
    }
    return NULL;
}

/* The second time another thread has a guard open. That guard is not open in the child. */
static void check_region_in_fork_children(struct pkeyguard_key *key, unsigned flags)
{
    struct pkeyguard_region *region = region_with_flags(key, 64, flags);
    pthread_t thread;

    pkeyguard_scoped_write (char[64], secret, region) {
        write_secret(*secret);
    }
    pthread_barrier_init(&barrier, NULL, 2);
    for (int threads = 0; threads < 2; threads++) {
        pid_t child;

        if (threads > 0) {
            ck_assert_int_eq(pthread_create(&thread, NULL, hold_open, region), 0);
            pthread_barrier_wait(&barrier);
        }
        child = fork();
        if (child == 0) {
            check_region_in_child(region, flags);
            _exit(0);
        }
        if (threads > 0) {
            pthread_barrier_wait(&barrier);
            pthread_join(thread, NULL);
        }
        assert_exits(child, 0);
    }
    pkeyguard_scoped_read (char[64], bytes, region) {
        ck_assert(is_secret(*bytes));
    }
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
}

START_TEST(fork_child_has_regions_as_their_flags_say)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_key *software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);

    check_region_in_fork_children(key, each_flag[_i]);
    check_region_in_fork_children(software, each_flag[_i]);
    check_region_in_fork_children(NULL, each_flag[_i]);
    destroy(NULL, key);
    destroy(NULL, software);
}
END_TEST

START_TEST(secret_region_leaves_no_descriptor_open)
{
    int next = dup(0);
    struct pkeyguard_region *region;

    ck_assert_int_ge(next, 0);
    close(next);
    region = region_with_flags(NULL, 1, PKEYGUARD_REGION_SECRET | PKEYGUARD_REGION_LOCKED);
    ck_assert_int_eq(dup(0), next);
    close(next);
    /* The kernel refuses to make such memory executable. */
    pkeyguard_scoped_write (char, byte, region) {
        ck_assert_int_eq(pkeyguard_region_protect(region, PROT_READ | PROT_EXEC), -EACCES);
        ck_assert_int_eq(pkeyguard_region_prot(region), PAGE_RW);
        assert_allowed(WRITE_BYTE, byte);
    }
    destroy(region, NULL);
}
END_TEST

START_TEST(secret_region_is_refused_without_kernel_support)
{
    struct pkeyguard_region *region = NULL;

    if (test_platform()->secret_memory)
        fail_call(CALL_MEMFD_SECRET, 0, ENOSYS, 1);
    ck_assert_int_eq(pkeyguard_region_create(NULL, 1, PAGE_RW, PKEYGUARD_REGION_SECRET, &region),
                     -ENOTSUP);
    ck_assert_ptr_null(region);
}
END_TEST

static bool can_hibernate(void)
{
    char modes[128];
    int file = open("/sys/power/disk", O_RDONLY);
    ssize_t length = file < 0 ? -1 : read(file, modes, sizeof(modes) - 1);

    close(file);
    modes[length < 0 ? 0 : length] = '\0';
    return length > 0 && strstr(modes, "[disabled]") == NULL;
}

START_TEST(secret_region_turns_hibernation_off)
{
    struct pkeyguard_region *region = region_with_flags(NULL, 1, PKEYGUARD_REGION_SECRET);

    ck_assert(!can_hibernate());
    destroy(region, NULL);
    /* Another program that runs now may have a secret region, too, for a moment. */
    while (!can_hibernate())
        usleep(1000);
}
END_TEST

void add_flags(Suite *suite)
{
    TCase *tests = add_case(suite, "flags", NULL, NULL);
    bool secret_memory = test_platform()->secret_memory, tool = under_tool(NULL);
    int flags = supported_flags();

    tcase_add_loop_test(tests, only_dumpable_regions_are_marked_for_dumps, 0, flags);
    add_loop_test_if(!tool && merging_is_possible(), "the kernel has no PR_SET_MEMORY_MERGE", tests,
                     regions_are_never_merged, 0, flags);
    tcase_add_test(tests, region_is_created_where_nothing_is_merged);
    add_loop_test_if(cores_can_be_read() && !tool, "core dumps are not files to be read here",
                     tests, core_dump_has_dumpable_regions_only, 0, flags);
    add_test_if(!tool, "sanitizers ignore mlock", tests, locked_region_is_locked_in_memory);
    add_loop_test_if(!tool, "the tool takes memory of its own", tests, locking_obeys_the_limit, 0,
                     3);
    add_loop_test_if(secret_memory && !tool, NO_SECRET_MEMORY, tests, locking_obeys_the_limit, 3,
                     5);
    tcase_add_loop_test(tests, kernel_reaches_all_but_secret_memory, 0, flags);
    tcase_add_loop_test(tests, fork_child_has_regions_as_their_flags_say, 0, flags);
    add_test_if(secret_memory, NO_SECRET_MEMORY, tests, secret_region_leaves_no_descriptor_open);
    add_test_if(secret_memory && can_hibernate(), "the kernel has no hibernation", tests,
                secret_region_turns_hibernation_off);
    tcase_add_test(tests, secret_region_is_refused_without_kernel_support);
}
