/* SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "failing.h"
#include "place.h"
#include "support.h"

/* From the kernel's own headers, which not every libc comes with. */
#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

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

/* Each flag that a region can have by itself on any key. SECRET is last: not every machine has it.
 */
static const unsigned each_flag[] = {0,
                                     PKEYGUARD_REGION_LOCKED,
                                     PKEYGUARD_REGION_DUMPABLE,
                                     PKEYGUARD_REGION_FORK_WIPE,
                                     PKEYGUARD_REGION_NO_FORK,
                                     PKEYGUARD_REGION_SECRET};
enum { SECRET_FLAG = 5, FLAGS = 6 };

/* Guard pages have a mapping of their own, or are inside the region's and share its key. */
static bool guards_inside(unsigned flags)
{
    return test_platform()->guard_madvise &&
           !(flags & (PKEYGUARD_REGION_SECRET | PKEYGUARD_REGION_LOCKED |
                      PKEYGUARD_REGION_FORK_WIPE | PKEYGUARD_REGION_SEALED));
}

static void assert_ends_guarded(const struct pkeyguard_region *region, unsigned flags, bool open)
{
    const struct pkeyguard_key *key = pkeyguard_region_key(region);
    size_t pages = (pkeyguard_region_size(region) + PAGE_BYTES - 1) / PAGE_BYTES;
    char *ends[] = {address_of(region) - PAGE_BYTES, address_of(region) - 1,
                    address_of(region) + pages * PAGE_BYTES,
                    address_of(region) + pages * PAGE_BYTES + PAGE_BYTES - 1};

    for (int i = 0; i < 4; i++) {
        for (enum access access = READ_BYTE; access <= WRITE_BYTE; access++) {
            if (!guards_inside(flags))
                assert_page_denied(access, ends[i]);
            else if (open)
                assert_fault_(access, ends[i], SEGV_MAPERR, -1);
            else
                assert_denied(access, ends[i], key);
        }
    }
}

static struct pkeyguard_region *region_with_flags(struct pkeyguard_key *key, size_t size,
                                                  unsigned flags)
{
    struct pkeyguard_region *region = NULL;

    ck_assert_int_eq(pkeyguard_region_create(key, size, PAGE_RW, flags, &region), 0);
    ck_assert_ptr_nonnull(region);
    return region;
}

START_TEST(new_memory_is_zero)
{
    static const char zero[3 * PAGE_BYTES];
    struct pkeyguard_region *region;
    cpu_set_t second;

    /* On a processor whose number is not zero, if there is one, for creation may ask for it. */
    CPU_ZERO(&second);
    CPU_SET(1, &second);
    sched_setaffinity(0, sizeof(second), &second);
    region = region_with_flags(NULL, sizeof(zero), each_flag[_i]);
    pkeyguard_scoped_read (char[sizeof(zero)], bytes, region) {
        ck_assert_mem_eq(*bytes, zero, sizeof(zero));
    }
    destroy(region, NULL);
}
END_TEST

START_TEST(running_off_either_end_faults)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = region_with_flags(key, PAGE_BYTES + 1, each_flag[_i]);
    char *address = address_of(region);
    pid_t child;

    ck_assert_uint_eq(pkeyguard_region_size(region), PAGE_BYTES + 1);
    assert_ends_guarded(region, each_flag[_i], false);
    for (int round = 0; round < 2; round++) {
        pkeyguard_scoped_write (char[PAGE_BYTES + 1], bytes, region) {
            assert_ends_guarded(region, each_flag[_i], true);
            assert_allowed(WRITE_BYTE, *bytes);
            assert_allowed(WRITE_BYTE, address + 2 * PAGE_BYTES - 1);
        }
        assert_ends_guarded(region, each_flag[_i], false);
        ck_assert_int_eq(pkeyguard_region_associate(region, NULL), 0);
    }
    if (each_flag[_i] != PKEYGUARD_REGION_NO_FORK && each_flag[_i] != PKEYGUARD_REGION_SECRET) {
        child = fork();
        if (child == 0) {
            pkeyguard_scoped_write (char, byte, region) {
                assert_allowed(WRITE_BYTE, byte);
                assert_ends_guarded(region, each_flag[_i], true);
            }
            _exit(0);
        }
        assert_exits(child, 0);
    }
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

/* Where guard pages are inside, a region is one mapping, and stays it whatever its neighbours do.
 */
START_TEST(regions_cost_few_mappings)
{
    enum { MANY = 8 };
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, _i & PKEYGUARD_KEY_SOFTWARE);
    struct resources before = count_resources();
    struct pkeyguard_region *regions[MANY];

    for (int i = 0; i < MANY; i++)
        regions[i] =
            region_with_flags(key, PAGE_BYTES, _i % 2 == 0 ? 0 : PKEYGUARD_REGION_DUMPABLE);
    /* valgrind puts mappings where it likes. */
    for (int i = 0; i < MANY && guards_inside(0) && getenv("PKEYGUARD_TEST_TOOL") == NULL; i++) {
        ck_assert_int_eq(bytes_of_mapping(address_of(regions[i])), 3 * PAGE_BYTES);
        pkeyguard_scoped_write (char, byte, regions[i]) {
            *byte = 1;
            ck_assert_int_eq(bytes_of_mapping(byte), 3 * PAGE_BYTES);
        }
        ck_assert_int_eq(pkeyguard_region_name(regions[i], "one of many"), 0);
        ck_assert_int_eq(bytes_of_mapping(address_of(regions[i])), 3 * PAGE_BYTES);
    }
    ck_assert_int_le(count_resources().mappings - before.mappings,
                     guards_inside(0) ? MANY : 3 * MANY);
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(pkeyguard_region_destroy(regions[i]), 0);
    assert_resources(before);
    destroy(NULL, key);
}
END_TEST

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

static bool has_vm_flag(const void *address, const char *flag)
{
    char flags[256];

    read_smaps(address, "VmFlags:", flags, sizeof(flags));
    ck_assert_str_ne(flags, "");
    return strstr(flags, flag) != NULL;
}

START_TEST(only_dumpable_regions_may_be_dumped)
{
    struct pkeyguard_region *region = region_with_flags(NULL, 1, each_flag[_i]);

    ck_assert(has_vm_flag(address_of(region), " dd") !=
              (each_flag[_i] == PKEYGUARD_REGION_DUMPABLE));
    destroy(region, NULL);
}
END_TEST

/* What stands in these tests' regions, and nowhere else in this process or its programs. */
static void write_secret(char *secret)
{
    for (int i = 0; i < 64; i++)
        ((volatile char *)secret)[i] = (char)(i * i + 7 * i + 131);
}

static bool is_secret(const char *bytes)
{
    for (int i = 0; i < 64; i++) {
        if (bytes[i] != (char)(i * i + 7 * i + 131))
            return false;
    }
    return true;
}

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
    /* A region's start is a page's start, and so it is in the dump. */
    for (off_t at = 0; at + PAGE_BYTES <= status.st_size && !found; at += 64)
        found = is_secret(core + at);
    munmap((void *)(uintptr_t)core, (size_t)status.st_size);
    close(file);
    return found;
}

/* A child that dies with a core dump, with its region open, in a directory of its own. */
START_TEST(core_dumps_have_what_is_dumpable)
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

/* A core dump is a file here if the pattern names one without a directory. */
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

START_TEST(locked_regions_are_in_memory)
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

/* In a child that is not root, for root may lock whatever it likes. */
START_TEST(locking_keeps_to_the_limit)
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

/* Reads or writes a byte of this process as a debugger would. */
static bool reached_by_proc_mem(void *address)
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

static bool reached_by_process_vm(void *address)
{
    char byte = 0;
    struct iovec local = {&byte, 1}, remote = {address, 1};

    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == 1 && byte == 's' &&
           process_vm_writev(getpid(), &local, 1, &remote, 1, 0) == 1;
}

/* Neither looks at pkeys; process_vm_readv(2) does look at page rights. */
START_TEST(the_kernel_reaches_all_but_secret_memory)
{
    bool secret = each_flag[_i] == PKEYGUARD_REGION_SECRET;
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = region_with_flags(key, 1, each_flag[_i]);

    pkeyguard_scoped_write (char, byte, region) {
        *byte = 's';
        ck_assert(reached_by_proc_mem(byte) == !secret);
        ck_assert(reached_by_process_vm(byte) == !secret);
        ck_assert_int_eq(*byte, 's');
    }
    ck_assert(reached_by_proc_mem(address_of(region)) == !secret);
    ck_assert(reached_by_process_vm(address_of(region)) ==
              (!secret && pkeyguard_key_enforcement(key) == PKEYGUARD_PKU));
    destroy(region, key);
}
END_TEST

/* What a fork child finds, before and after it has opened the region itself. */
static void look_from_child(struct pkeyguard_region *region, unsigned flags)
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
    /* Whatever takes that place is not the library's. */
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

static void *hold_open(void *region)
{
    pkeyguard_scoped_read (char, byte, region) {
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
        (void)*byte;
    }
    return NULL;
}

/* Once with a guard of another thread open, which the child loses. */
static void look_in_fork_children(struct pkeyguard_key *key, unsigned flags)
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
            look_from_child(region, flags);
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

START_TEST(what_a_fork_child_finds)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_key *software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);

    look_in_fork_children(key, each_flag[_i]);
    look_in_fork_children(software, each_flag[_i]);
    look_in_fork_children(NULL, each_flag[_i]);
    destroy(NULL, key);
    destroy(NULL, software);
}
END_TEST

START_TEST(secret_memory_leaves_no_descriptor)
{
    int next = dup(0);
    struct pkeyguard_region *region;

    ck_assert_int_ge(next, 0);
    close(next);
    region = region_with_flags(NULL, 1, PKEYGUARD_REGION_SECRET | PKEYGUARD_REGION_LOCKED);
    ck_assert_int_eq(dup(0), next);
    close(next);
    /* There is nothing to execute from it. */
    pkeyguard_scoped_write (char, byte, region) {
        ck_assert_int_eq(pkeyguard_region_protect(region, PROT_READ | PROT_EXEC), -EACCES);
        ck_assert_int_eq(pkeyguard_region_prot(region), PAGE_RW);
        assert_allowed(WRITE_BYTE, byte);
    }
    destroy(region, NULL);
}
END_TEST

START_TEST(secret_memory_is_refused_where_there_is_none)
{
    struct pkeyguard_region *region = NULL;

    if (test_platform()->secret_memory)
        fail_call(CALL_MEMFD_SECRET, 0, ENOSYS, 1);
    ck_assert_int_eq(pkeyguard_region_create(NULL, 1, PAGE_RW, PKEYGUARD_REGION_SECRET, &region),
                     -ENOTSUP);
    ck_assert_ptr_null(region);
}
END_TEST

/* A kernel that seals, and a CPU that keeps PKRU, are hardly found together yet. */
#if defined(__x86_64__)
static void on_pkru_instruction(int signal, siginfo_t *info, void *context)
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

/* What is missing of the two is pretended: PKRU that protects nothing, or a seal that does not
 * hold.
 */
static bool pkru_pretended;

static struct pkeyguard_key *key_for_seals(void)
{
    struct pkeyguard_key *key;

    unsetenv("PKEYGUARD_ENFORCEMENT");
#if defined(__x86_64__)
    if (!pkeyguard_pkru_supported()) {
        struct sigaction action = {.sa_sigaction = on_pkru_instruction, .sa_flags = SA_SIGINFO};

        sigaction(SIGILL, &action, NULL);
        pretend_call(CALL_PKEY_ALLOC);
        pkru_pretended = true;
    }
#endif
    key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE);
    if (!test_platform()->sealing)
        pretend_call(CALL_MSEAL);
    return key;
}

START_TEST(a_sealed_region_stays)
{
    static const unsigned more[] = {0, PKEYGUARD_REGION_LOCKED, PKEYGUARD_REGION_NO_GUARD_PAGES,
                                    PKEYGUARD_REGION_SECRET};
    unsigned flags = PKEYGUARD_REGION_SEALED | more[_i];
    struct pkeyguard_key *key = key_for_seals();
    static struct pkeyguard_region *region; /* for good, so not a leak */
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
    if (test_platform()->sealing) {
        int guard_bytes = flags & PKEYGUARD_REGION_NO_GUARD_PAGES ? 0 : PAGE_BYTES;

        for (char *page = address - guard_bytes; page <= address + guard_bytes;
             page += PAGE_BYTES) {
            ck_assert_int_eq(munmap(page, PAGE_BYTES), -1);
            ck_assert_int_eq(errno, EPERM);
            ck_assert_int_eq(mprotect(page, PAGE_BYTES, PROT_READ), -1);
            ck_assert_int_eq(errno, EPERM);
            ck_assert(mmap(page, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
                           0) == MAP_FAILED);
            ck_assert_int_eq(errno, EPERM);
        }
    }
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    ck_assert(is_secret(address));
    if (!(flags & PKEYGUARD_REGION_NO_GUARD_PAGES)) {
        /* The kernel takes guard pages out of sealed mappings, too. */
        madvise(address - PAGE_BYTES, PAGE_BYTES, 103 /* MADV_GUARD_REMOVE */);
        madvise(address + PAGE_BYTES, PAGE_BYTES, 103);
        assert_ends_guarded(region, flags, true);
    }
    pkeyguard_release(&guard);

    ck_assert_int_eq(pkeyguard_region_destroy(region), -EPERM);
    ck_assert_int_eq(pkeyguard_key_destroy(key), -EBUSY);
    if (!pkru_pretended)
        assert_denied(READ_BYTE, address, key);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    for (int i = 0; i < PAGE_BYTES; i++)
        ck_assert_int_eq(address[i], 0);
    assert_allowed(WRITE_BYTE, address);
    pkeyguard_release(&guard);
    ck_assert_int_eq(pkeyguard_region_destroy(region), -EPERM);
}
END_TEST

START_TEST(a_frozen_region_cannot_even_be_wiped)
{
    struct pkeyguard_key *key = key_for_seals();
    static struct pkeyguard_region *region; /* for good, so not a leak */
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

START_TEST(a_seal_that_cannot_be_had_leaves_nothing)
{
    static const struct {
        int from_kernel, expected;
    } errors[] = {{ENOSYS, -ENOTSUP}, {EINVAL, -ENOTSUP}, {EPERM, -ENOTSUP}, {ENOMEM, -ENOMEM}};
    struct pkeyguard_key *key = key_for_seals();
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

/* Nobody pretends here. */
START_TEST(seals_are_for_dedicated_keys)
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
        {1, PAGE_RW, PKEYGUARD_REGION_FORK_WIPE | PKEYGUARD_REGION_NO_FORK},
        {1, PAGE_RW, PKEYGUARD_REGION_FORK_WIPE | PKEYGUARD_REGION_SECRET},
        {1, PAGE_RW, PKEYGUARD_REGION_SECRET | PKEYGUARD_REGION_DUMPABLE},
        {0, PAGE_RW, PKEYGUARD_REGION_LOCKED},
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
        if (pku()) {
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

    if (pku())
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

    ck_assert_int_eq(pkeyguard_region_create_with(key, secret, sizeof(secret), _i % 4,
                                                  each_flag[_i / 4], &region),
                     0);
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

/* Memory that somebody else mapped, a few (huge) pages of it, full of 'm'. */
/* log2 of the size (mmap(2)) */
enum { TWO_MIB_PAGES = 21 << MAP_HUGE_SHIFT };

enum { ANONYMOUS, SHARED, FILE_BACKED, POSIX_SHM, SYSV_SHM, MEMFD, SECRET_FD, HUGE_PAGES, KINDS };
struct memory {
    char *address, *elsewhere; /* a second mapping of it, where there can be one */
    size_t page, size;
};

static char *map_file(int file, size_t size)
{
    char *address = mmap(NULL, size, PAGE_RW, MAP_SHARED, file, 0);

    ck_assert(address != MAP_FAILED);
    return address;
}

static bool huge_pages_can_be_had(void)
{
    void *address = mmap(NULL, 4 << 20, PAGE_RW,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | TWO_MIB_PAGES, -1, 0);

    return address != MAP_FAILED && munmap(address, 4 << 20) == 0;
}

static struct memory map_memory(int kind)
{
    struct memory memory = {.page = kind == HUGE_PAGES ? 2 << 20 : PAGE_BYTES};
    char path[] = "/tmp/pkeyguard-adopt-XXXXXX", name[32];
    int file = -1, id;

    memory.size = (kind == HUGE_PAGES ? 2 : 5) * memory.page;
    switch (kind) {
    case ANONYMOUS:
    case SHARED:
    case HUGE_PAGES:
        memory.address = mmap(NULL, memory.size, PAGE_RW,
                              MAP_ANONYMOUS | (kind == SHARED ? MAP_SHARED : MAP_PRIVATE) |
                                  (kind == HUGE_PAGES ? MAP_HUGETLB | TWO_MIB_PAGES : 0),
                              -1, 0);
        break;
    case SYSV_SHM:
        id = shmget(IPC_PRIVATE, memory.size, IPC_CREAT | 0600);
        memory.address = shmat(id, NULL, 0);
        memory.elsewhere = shmat(id, NULL, 0);
        shmctl(id, IPC_RMID, NULL);
        break;
    case FILE_BACKED:
        file = mkstemp(path);
        unlink(path);
        break;
    case POSIX_SHM:
        snprintf(name, sizeof(name), "/pkeyguard-%d", (int)getpid());
        file = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
        shm_unlink(name);
        break;
    case MEMFD:
        file = memfd_create("pkeyguard", MFD_CLOEXEC);
        break;
    default:
        file = (int)syscall(447, 0); /* memfd_secret(2) */
    }
    if (file >= 0) {
        ck_assert_int_eq(ftruncate(file, (off_t)memory.size), 0);
        memory.address = map_file(file, memory.size);
        memory.elsewhere = map_file(file, memory.size);
        close(file);
    }
    ck_assert(memory.address != NULL && memory.address != MAP_FAILED);
    memset(memory.address, 'm', memory.size);
    return memory;
}

static bool is_full_of(const char *address, size_t size, char byte)
{
    for (size_t i = 0; i < size; i++) {
        if (address[i] != byte)
            return false;
    }
    return true;
}

/* How a page is mapped, as smaps says. */
struct mapping {
    char rights[8], flags[256];
    int pkey;
};
static struct mapping mapping_of(const void *address)
{
    struct mapping mapping = {.pkey = pkey_of_mapping(address)};
    char line[512];

    read_smaps(address, NULL, line, sizeof(line));
    ck_assert_int_eq(sscanf(line, "%*s %7s", mapping.rights), 1);
    read_smaps(address, "VmFlags:", mapping.flags, sizeof(mapping.flags));
    return mapping;
}

static void assert_mapped_as(const void *address, const struct mapping *before)
{
    struct mapping now = mapping_of(address);

    ck_assert_str_eq(now.rights, before->rights);
    ck_assert_str_eq(now.flags, before->flags);
    ck_assert_int_eq(now.pkey, before->pkey);
}

static struct pkeyguard_region *adopt(struct pkeyguard_key *key, void *address, size_t size)
{
    struct pkeyguard_region *region = NULL;

    ck_assert_int_eq(pkeyguard_region_adopt(key, address, size, PAGE_RW, 0, &region), 0);
    ck_assert_ptr_nonnull(region);
    return region;
}

/* All of it, then the page in its middle. */
START_TEST(adopted_memory_joins_and_leaves_as_it_came)
{
    struct memory memory = map_memory(_i);
    struct mapping before = mapping_of(memory.address);
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_key *other = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    struct resources resources = count_resources();
    char line[512];

    for (int part = 0; part < 2; part++) {
        char *start =
            memory.address + (part == 0 ? 0 : memory.size / memory.page / 2 * memory.page);
        size_t size = part == 0 ? memory.size : memory.page;
        struct pkeyguard_region *region = adopt(key, start, size);

        ck_assert_ptr_eq(address_of(region), start);
        ck_assert_uint_eq(pkeyguard_region_size(region), size);
        ck_assert_int_eq(pkeyguard_region_prot(region), PAGE_RW);
        ck_assert_ptr_eq(pkeyguard_region_key(region), key);
        assert_denied(READ_BYTE, start, key);
        assert_denied(WRITE_BYTE, start + size - 1, key);
        if (part == 1) {
            assert_allowed(READ_BYTE, start - 1);
            ck_assert(start + size == memory.address + memory.size ||
                      !try_access(READ_BYTE, start + size).happened);
        }
        pkeyguard_scoped_read (char, bytes, region) {
            ck_assert(is_full_of(bytes, size, 'm'));
            assert_denied(WRITE_BYTE, bytes, key);
        }
        pkeyguard_scoped_write (char, byte, region) {
            *byte = 'n';
        }
        ck_assert_int_eq(pkeyguard_region_name(region, "adopted"), 0);
        read_smaps(start, NULL, line, sizeof(line));
        ck_assert_ptr_null(strstr(line, "adopted"));
        ck_assert_int_eq(pkeyguard_region_associate(region, other), 0);
        assert_denied(READ_BYTE, start, other);
        ck_assert_int_eq(pkeyguard_region_associate(region, NULL), 0);
        ck_assert_int_eq(pkeyguard_region_protect(region, PROT_READ), 0);
        ck_assert_int_eq(pkeyguard_region_associate(region, key), 0);
        pkeyguard_scoped_write (char, byte, region) {
            assert_page_denied(WRITE_BYTE, byte);
            ck_assert_int_eq(*byte, 'n');
        }
        if (memory.elsewhere != NULL) {
            ck_assert_int_eq(memory.elsewhere[start - memory.address], 'n');
            memory.elsewhere[start - memory.address] = 'm';
        }
        ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
        assert_mapped_as(start, &before);
        assert_mapped_as(start + size - 1, &before);
        ck_assert_int_eq(*start, memory.elsewhere != NULL ? 'm' : 'n');
        memset(start, 'm', size);
        ck_assert(is_full_of(memory.address, memory.size, 'm'));
    }
    /* The kernel does not join others again when a part was different. */
    if (_i != SYSV_SHM && _i != HUGE_PAGES)
        assert_resources(resources);
    destroy(NULL, key);
    destroy(NULL, other);
}
END_TEST

START_TEST(adopted_memory_is_not_freed_under_a_guard)
{
    struct memory memory = map_memory(ANONYMOUS);
    struct pkeyguard_region *region = adopt(NULL, memory.address, memory.size);
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &guard), 0);
    ck_assert_int_eq(pkeyguard_region_destroy(region), -EBUSY);
    assert_page_denied(WRITE_BYTE, memory.address);
    pkeyguard_release(&guard);
    destroy(region, NULL);
    assert_allowed(WRITE_BYTE, memory.address);
}
END_TEST

/* A range of the memory, which is whole but for what a case does to its third page. */
START_TEST(what_cannot_be_adopted_is_left_alone)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct memory memory = map_memory(ANONYMOUS);
    char *address = memory.address, *third = address + 2 * PAGE_BYTES;
    const struct {
        void *address;
        size_t size;
        int prot;
        unsigned flags;
    } bad[] = {
        {NULL, PAGE_BYTES, PAGE_RW, 0},
        {address, 0, PAGE_RW, 0},
        {address + 1, PAGE_BYTES, PAGE_RW, 0},
        {address + 16, PAGE_BYTES - 16, PAGE_RW, 0},
        {address, PAGE_BYTES + 1, PAGE_RW, 0},
        {address, SIZE_MAX - PAGE_BYTES + 1, PAGE_RW, 0},
        {address, PAGE_BYTES, 8, 0},
        {address, PAGE_BYTES, PAGE_RW, PKEYGUARD_REGION_SECRET},
        {address, PAGE_BYTES, PAGE_RW, PKEYGUARD_REGION_LOCKED},
        {address, PAGE_BYTES, PAGE_RW, PKEYGUARD_REGION_DUMPABLE},
        {address, PAGE_BYTES, PAGE_RW, PKEYGUARD_REGION_FORK_WIPE},
        {address, PAGE_BYTES, PAGE_RW, PKEYGUARD_REGION_NO_FORK},
        {address, PAGE_BYTES, PAGE_RW, PKEYGUARD_REGION_SEALED},
        {address, PAGE_BYTES, PAGE_RW, 128},
    };
    struct mapping before = mapping_of(address), after;
    struct pkeyguard_region *region = NULL;

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        ck_assert_int_eq(pkeyguard_region_adopt(key, bad[i].address, bad[i].size, bad[i].prot,
                                                bad[i].flags, &region),
                         -EINVAL);
    if (pkeyguard_key_enforcement(key) != PKEYGUARD_PKU)
        ck_assert_int_eq(pkeyguard_region_adopt(key, address, memory.size, PROT_EXEC, 0, &region),
                         -ENOTSUP);
    assert_mapped_as(address, &before);

    /* Rights that differ. */
    ck_assert_int_eq(mprotect(third, PAGE_BYTES, PROT_READ), 0);
    before = mapping_of(address);
    after = mapping_of(third + PAGE_BYTES);
    ck_assert_int_eq(pkeyguard_region_adopt(key, address, memory.size, PAGE_RW, 0, &region),
                     -EINVAL);
    assert_mapped_as(address, &before);
    assert_mapped_as(third + PAGE_BYTES, &after);

    /* A hole at the end, in the middle, at the start, and nothing else. */
    ck_assert_int_eq(munmap(third, PAGE_BYTES), 0);
    before = mapping_of(address);
    for (int first = 0; first < 4; first++) {
        for (int pages = 3 - first; pages <= 5 - first; pages++) {
            if (first <= 2 && first + pages >= 3)
                ck_assert_int_eq(pkeyguard_region_adopt(key, address + first * PAGE_BYTES,
                                                        (size_t)pages * PAGE_BYTES, PAGE_RW, 0,
                                                        &region),
                                 -ENOMEM);
        }
    }
    assert_mapped_as(address, &before);
    assert_mapped_as(third + PAGE_BYTES, &after);
    ck_assert_ptr_null(region);
    ck_assert(is_full_of(address, 2 * PAGE_BYTES, 'm'));
    destroy(NULL, key);
}
END_TEST

/* The kernel changes the first mapping and then refuses the second. */
START_TEST(a_half_done_adoption_is_undone)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_WRITE, 0);
    struct memory memory = map_memory(ANONYMOUS);
    char *third = memory.address + 2 * PAGE_BYTES;
    int file = open("/proc/self/exe", O_RDONLY);
    struct pkeyguard_region *region = NULL;
    struct mapping first, second;

    ck_assert(mmap(third, PAGE_BYTES, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0) == third);
    close(file);
    ck_assert_int_eq(mprotect(memory.address, 2 * PAGE_BYTES, PROT_READ), 0);
    first = mapping_of(memory.address);
    second = mapping_of(third);
    ck_assert_int_eq(
        pkeyguard_region_adopt(key, memory.address, 3 * PAGE_BYTES, PAGE_RW, 0, &region), -EACCES);
    ck_assert_ptr_null(region);
    assert_mapped_as(memory.address, &first);
    assert_mapped_as(third, &second);
    /* With the rights it has it can be had, although it is two mappings. */
    ck_assert_int_eq(
        pkeyguard_region_adopt(key, memory.address, 3 * PAGE_BYTES, PROT_READ, 0, &region), 0);
    ck_assert_int_eq(pkeyguard_region_protect(region, PAGE_RW), -EACCES);
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    assert_mapped_as(memory.address, &first);
    assert_mapped_as(third, &second);
    destroy(NULL, key);
}
END_TEST

START_TEST(no_memory_is_adopted_twice)
{
    static const unsigned kinds[] = {0, PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_OPTIONAL};
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_WRITE, kinds[_i]);
    struct pkeyguard_key *other = new_key(PKEYGUARD_READ_WRITE, PKEYGUARD_KEY_SOFTWARE);
    struct memory memory = map_memory(ANONYMOUS);
    char *address = memory.address;
    struct pkeyguard_region *adopted = adopt(key, address + PAGE_BYTES, 2 * PAGE_BYTES);
    struct pkeyguard_region *created = new_region(key), *region = NULL;
    const struct {
        char *address;
        size_t size;
    } taken[] = {
        {address, memory.size},
        {address, 2 * PAGE_BYTES},
        {address + PAGE_BYTES, PAGE_BYTES},
        {address + PAGE_BYTES, 2 * PAGE_BYTES},
        {address + 2 * PAGE_BYTES, 2 * PAGE_BYTES},
        {address_of(created), PAGE_BYTES},
    };

    for (size_t i = 0; i < sizeof(taken) / sizeof(*taken); i++)
        ck_assert_int_eq(
            pkeyguard_region_adopt(other, taken[i].address, taken[i].size, PAGE_RW, 0, &region),
            -EBUSY);
    ck_assert_int_eq(pkeyguard_region_adopt(other, address_of(created) - PAGE_BYTES, PAGE_BYTES,
                                            PROT_NONE, 0, &region),
                     -EBUSY);
    ck_assert_ptr_null(region);
    /* Beside it is not in it. */
    region = adopt(other, address, PAGE_BYTES);
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    ck_assert_int_eq(pkeyguard_region_destroy(adopted), 0);
    region = adopt(other, address, memory.size);
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    destroy(created, key);
    destroy(NULL, other);
}
END_TEST

START_TEST(foreign_pkeys_are_left_alone)
{
    struct memory memory = map_memory(ANONYMOUS);
    int pkey = pkey_alloc(0, 0);
    struct pkeyguard_region *region = NULL;

    ck_assert_int_gt(pkey, 0);
    ck_assert_int_eq(pkey_mprotect(memory.address + PAGE_BYTES, PAGE_BYTES, PAGE_RW, pkey), 0);
    ck_assert_int_eq(pkeyguard_region_adopt(NULL, memory.address, memory.size, PAGE_RW, 0, &region),
                     -EBUSY);
    ck_assert_int_eq(pkey_of_mapping(memory.address + PAGE_BYTES), pkey);
    ck_assert_int_eq(pkey_of_mapping(memory.address), 0);
}
END_TEST

START_TEST(huge_pages_are_adopted_whole)
{
    struct memory memory = map_memory(HUGE_PAGES);
    struct mapping before = mapping_of(memory.address);
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = NULL;

    ck_assert_int_eq(pkeyguard_region_adopt(key, memory.address, PAGE_BYTES, PAGE_RW, 0, &region),
                     -EINVAL);
    ck_assert_int_eq(
        pkeyguard_region_adopt(key, memory.address + PAGE_BYTES, memory.page, PAGE_RW, 0, &region),
        -EINVAL);
    ck_assert_int_eq(
        pkeyguard_region_adopt(key, memory.address, memory.page + PAGE_BYTES, PAGE_RW, 0, &region),
        -EINVAL);
    ck_assert_ptr_null(region);
    assert_mapped_as(memory.address, &before);
    destroy(NULL, key);
}
END_TEST

START_TEST(adoption_needs_proc)
{
    static const struct {
        int from_libc, expected;
    } errors[] = {{ENOENT, -ENOTSUP}, {EACCES, -EACCES}, {EMFILE, -ENOMEM}, {ENOMEM, -ENOMEM}};
    struct memory memory = map_memory(ANONYMOUS);
    struct pkeyguard_region *region = NULL;

    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
        fail_call(CALL_FOPEN, 0, errors[i].from_libc, 1);
        ck_assert_int_eq(
            pkeyguard_region_adopt(NULL, memory.address, memory.size, PAGE_RW, 0, &region),
            errors[i].expected);
        ck_assert(stop_failing());
    }
    ck_assert_ptr_null(region);
    assert_allowed(WRITE_BYTE, memory.address);
}
END_TEST

static struct memory pool;
static atomic_int rounds, stop;

static void *read_pool(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) {
        for (size_t i = 0; i < pool.size; i += 64) {
            if (((volatile char *)pool.address)[i] != 'm')
                abort();
        }
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

/*
 * Readers in threads that were born with the key's default, and in another process; none of their
 * reads may fault or see anything else.
 */
START_TEST(a_pool_is_adopted_under_its_readers)
{
    static const unsigned kinds[] = {0, PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_OPTIONAL};
    enum { READERS = 3, ADOPTIONS = 10 };
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_ONLY, kinds[_i]);
    pthread_t readers[READERS];
    pid_t child;

    pool = map_memory(MEMFD);
    child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        read_pool(NULL);
    }
    for (int i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_create(&readers[i], NULL, read_pool, NULL), 0);
    for (int i = 0; i < ADOPTIONS; i++) {
        struct pkeyguard_region *region = adopt(key, pool.address, pool.size);
        int seen = atomic_load(&rounds);

        ck_assert_ptr_eq(pkeyguard_region_address(region), pool.address);
        while (atomic_load(&rounds) == seen)
            sched_yield();
        if (pkeyguard_key_enforcement(key) != PKEYGUARD_UNENFORCED)
            assert_denied(WRITE_BYTE, pool.address + 1, key);
        pkeyguard_scoped_write (char, bytes, region) {
            bytes[pool.size - 1] = 'w'; /* the readers look at other bytes */
        }
        ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
        assert_allowed(WRITE_BYTE, pool.address + 1);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < READERS; i++)
        pthread_join(readers[i], NULL);
    ck_assert_int_eq(waitpid(child, NULL, WNOHANG), 0);
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    destroy(NULL, key);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("region");
    TCase *regions = tcase_create("regions"), *fit = tcase_create("flags");
    TCase *adoption = tcase_create("adoption");
    const struct pkeyguard_platform *platform = test_platform();
    int flags = platform->secret_memory ? FLAGS : SECRET_FLAG;
    const char *no_secret = "the kernel has no secret memory";
    const char *no_huge = "no huge pages are set aside (vm.nr_hugepages)";
    bool huge = huge_pages_can_be_had(), tool = getenv("PKEYGUARD_TEST_TOOL") != NULL;

    suite_add_tcase(suite, regions);
    tcase_add_loop_test(regions, page_rights_bound_what_guards_give, 0, 8);
    tcase_add_test(regions, protect_changes_page_rights);
    tcase_add_test(regions, protect_revokes_from_every_thread);
    tcase_add_test(regions, content_is_given_at_creation);
    tcase_add_loop_test(regions, new_memory_is_zero, 0, flags);
    tcase_add_test(regions, a_region_without_a_key_is_guarded_by_mprotect);
    tcase_add_loop_test(regions, running_off_either_end_faults, 0, flags);
    /* With no flag and with PKEYGUARD_KEY_SOFTWARE, not dumpable and dumpable. */
    tcase_add_loop_test(regions, regions_cost_few_mappings, 0, 4);
    tcase_add_test(regions, guard_pages_can_be_left_out);
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
    /* PROT_NONE to PROT_READ | PROT_WRITE, for each flag. */
    tcase_add_loop_test(regions, content_is_wiped_on_destroy, 0, 4 * flags);
    tcase_add_test(regions, system_calls_get_efault);

    suite_add_tcase(suite, fit);
    tcase_add_loop_test(fit, only_dumpable_regions_may_be_dumped, 0, flags);
    add_loop_test_if(cores_can_be_read() && !tool, "core dumps are not files to be read here", fit,
                     core_dumps_have_what_is_dumpable, 0, flags);
    add_test_if(!tool, "sanitizers make nothing of mlock", fit, locked_regions_are_in_memory);
    add_loop_test_if(!tool, "the tool takes memory of its own", fit, locking_keeps_to_the_limit, 0,
                     3);
    add_loop_test_if(platform->secret_memory && !tool, no_secret, fit, locking_keeps_to_the_limit,
                     3, 5);
    tcase_add_loop_test(fit, the_kernel_reaches_all_but_secret_memory, 0, flags);
    tcase_add_loop_test(fit, what_a_fork_child_finds, 0, flags);
    add_test_if(platform->secret_memory, no_secret, fit, secret_memory_leaves_no_descriptor);
    add_loop_test_if(platform->secret_memory && HAS_PKEYS, HAS_PKEYS ? no_secret : NO_PKEYS, fit,
                     a_sealed_region_stays, 3, 4);
    tcase_add_test(fit, secret_memory_is_refused_where_there_is_none);
    add_loop_test_if(HAS_PKEYS, NO_PKEYS, fit, a_sealed_region_stays, 0, 3);
    add_test_if(HAS_PKEYS, NO_PKEYS, fit, a_frozen_region_cannot_even_be_wiped);
    add_test_if(HAS_PKEYS, NO_PKEYS, fit, a_seal_that_cannot_be_had_leaves_nothing);
    tcase_add_test(fit, seals_are_for_dedicated_keys);

    suite_add_tcase(suite, adoption);
    tcase_set_timeout(adoption, 20);
    tcase_add_loop_test(adoption, adopted_memory_joins_and_leaves_as_it_came, 0, SECRET_FD);
    add_loop_test_if(platform->secret_memory, no_secret, adoption,
                     adopted_memory_joins_and_leaves_as_it_came, SECRET_FD, HUGE_PAGES);
    add_loop_test_if(huge, no_huge, adoption, adopted_memory_joins_and_leaves_as_it_came,
                     HUGE_PAGES, KINDS);
    add_test_if(huge, no_huge, adoption, huge_pages_are_adopted_whole);
    tcase_add_test(adoption, adopted_memory_is_not_freed_under_a_guard);
    tcase_add_test(adoption, what_cannot_be_adopted_is_left_alone);
    tcase_add_test(adoption, a_half_done_adoption_is_undone);
    tcase_add_loop_test(adoption, no_memory_is_adopted_twice, 0, 3);
    add_pku_test(adoption, foreign_pkeys_are_left_alone);
    tcase_add_test(adoption, adoption_needs_proc);
    tcase_add_loop_test(adoption, a_pool_is_adopted_under_its_readers, 0, 3);
    return run_suite(suite);
}
