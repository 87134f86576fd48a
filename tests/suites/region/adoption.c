/* SPDX-License-Identifier: MIT */
/* pkeyguard_region_adopt(): memory that the program has mapped itself. */
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
#include <sys/shm.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failing.h"
#include "place.h"
#include "test_region.h"

/* MAP_HUGE_2MB of <linux/mman.h>: log2 of the page size (mmap(2)). */
enum { TWO_MIB_PAGES = 21 << MAP_HUGE_SHIFT };

/*
 * Far from the addresses that the kernel chooses: when a test unmaps a page here, no mapping of the
 * C library takes its place.
 */
#define LONELY_ADDRESS ((void *)(UINT64_C(1) << 45))

/* Memory of each kind that a program can have mapped itself: some pages, full of 'm'. */
enum { ANONYMOUS, SHARED, FILE_BACKED, POSIX_SHM, SYSV_SHM, MEMFD, SECRET_FD, HUGE_PAGES, KINDS };
struct memory {
    char *address, *elsewhere; /* elsewhere: a second mapping of the memory, or NULL */
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
        memory.address = mmap(LONELY_ADDRESS, memory.size, PAGE_RW,
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

/* How a page is mapped, as /proc/self/smaps says. */
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

/* Adopts all of the memory, then the page in its middle. */
START_TEST(adopted_memory_is_given_back_as_it_was)
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
    /* Only where the kernel merges the mappings again that the page in the middle has split. */
    if (_i != SYSV_SHM && _i != HUGE_PAGES)
        assert_resources(resources);
    destroy(NULL, key);
    destroy(NULL, other);
}
END_TEST

START_TEST(adopted_region_with_an_open_guard_is_not_destroyed)
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

/* Bad arguments, memory whose page rights differ, and memory with a hole at the third page. */
START_TEST(refused_adoption_changes_nothing)
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
        {address, PAGE_BYTES, PAGE_RW, PKEYGUARD_REGION_HUGE_PAGES},
        {address, PAGE_BYTES, PAGE_RW, PKEYGUARD_REGION_END_ALIGNED},
        {address, PAGE_BYTES, PAGE_RW, 512},
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

    /* The third page has other rights than the rest. */
    ck_assert_int_eq(mprotect(third, PAGE_BYTES, PROT_READ), 0);
    before = mapping_of(address);
    after = mapping_of(third + PAGE_BYTES);
    ck_assert_int_eq(pkeyguard_region_adopt(key, address, memory.size, PAGE_RW, 0, &region),
                     -EINVAL);
    assert_mapped_as(address, &before);
    assert_mapped_as(third + PAGE_BYTES, &after);

    /*
     * The hole is at the end of the range, in its middle or at its start, or is all of the range.
     */
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

/* The kernel changes the first mapping and then refuses to change the second, a read-only file. */
START_TEST(adoption_that_fails_half_way_is_undone)
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
    /* Memory in two mappings can be adopted with the rights that both may have. */
    ck_assert_int_eq(
        pkeyguard_region_adopt(key, memory.address, 3 * PAGE_BYTES, PROT_READ, 0, &region), 0);
    ck_assert_int_eq(pkeyguard_region_protect(region, PAGE_RW), -EACCES);
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    assert_mapped_as(memory.address, &first);
    assert_mapped_as(third, &second);
    destroy(NULL, key);
}
END_TEST

START_TEST(memory_is_not_adopted_twice)
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
    /* Memory beside an adopted region can be adopted. */
    region = adopt(other, address, PAGE_BYTES);
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    ck_assert_int_eq(pkeyguard_region_destroy(adopted), 0);
    region = adopt(other, address, memory.size);
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    destroy(created, key);
    destroy(NULL, other);
}
END_TEST

/* The record that was meant for the region serves the next one: more tries than a chunk has. */
START_TEST(refused_adoptions_take_no_memory)
{
    struct pkeyguard_region *taken = new_region(NULL), *region;

    fail_call(CALL_MMAP, 0, ENOMEM, 1);
    for (int i = 0; i < 200; i++)
        ck_assert_int_eq(
            pkeyguard_region_adopt(NULL, address_of(taken), PAGE_BYTES, PAGE_RW, 0, &region),
            -EBUSY);
    ck_assert(stop_failing() == false);
    destroy(taken, NULL);
}
END_TEST

START_TEST(memory_with_a_foreign_pkey_is_not_adopted)
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

/* The kernel tells of the memory's own mappings, and smaps is not read. */
START_TEST(other_mappings_are_not_looked_at)
{
    struct memory memory = map_memory(ANONYMOUS);
    struct pkeyguard_region *region = NULL;

    fail_call(CALL_OPENAT, 1, EACCES, 1);
    region = adopt(NULL, memory.address, memory.size);
    ck_assert(!stop_failing());
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    /* Of memory that cannot be read the kernel does not show that it has no pkey. */
    ck_assert_int_eq(mprotect(memory.address, memory.size, PROT_NONE), 0);
    fail_call(CALL_OPENAT, 1, EACCES, 1);
    ck_assert_int_eq(pkeyguard_region_adopt(NULL, memory.address, memory.size, PAGE_RW, 0, &region),
                     pkeyguard_pkru_supported() ? -EACCES : 0);
    ck_assert(stop_failing() == pkeyguard_pkru_supported());
    if (!pkeyguard_pkru_supported())
        ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
}
END_TEST

START_TEST(huge_page_is_adopted_only_as_a_whole)
{
    struct memory memory = map_memory(HUGE_PAGES);
    struct mapping before = mapping_of(memory.address);
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *region = NULL;

    ck_assert_int_eq(pkeyguard_region_adopt(key, memory.address, PAGE_BYTES, PAGE_RW, 0, &region),
                     -EINVAL);
    ck_assert_int_eq(pkeyguard_region_adopt(key, memory.address + PAGE_BYTES,
                                            memory.page - PAGE_BYTES, PAGE_RW, 0, &region),
                     -EINVAL);
    ck_assert_int_eq(
        pkeyguard_region_adopt(key, memory.address, memory.page + PAGE_BYTES, PAGE_RW, 0, &region),
        -EINVAL);
    ck_assert_ptr_null(region);
    assert_mapped_as(memory.address, &before);
    destroy(NULL, key);
}
END_TEST

START_TEST(adoption_fails_without_proc)
{
    static const struct {
        int from_kernel, expected;
    } errors[] = {{ENOENT, -ENOTSUP}, {EACCES, -EACCES}, {EMFILE, -ENOMEM}, {ENOMEM, -ENOMEM}};
    struct memory memory = map_memory(ANONYMOUS);
    struct pkeyguard_region *region = NULL;

    refuse_call(CALL_IOCTL, ENOTTY);
    for (size_t i = 0; i < sizeof(errors) / sizeof(*errors); i++) {
        /* maps, for which there is no query, can be opened, and smaps cannot. */
        fail_call(CALL_OPENAT, 1, errors[i].from_kernel, 1);
        ck_assert_int_eq(
            pkeyguard_region_adopt(NULL, memory.address, memory.size, PAGE_RW, 0, &region),
            errors[i].expected);
        ck_assert(stop_failing());
    }
    ck_assert_ptr_null(region);
    assert_allowed(WRITE_BYTE, memory.address);
}
END_TEST

static struct memory shared_memory;
static atomic_int reads_done, stop;

static void *read_shared_memory(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop)) {
        for (size_t i = 0; i < shared_memory.size; i += 64) {
            if (((volatile char *)shared_memory.address)[i] != 'm')
                abort();
        }
        atomic_fetch_add(&reads_done, 1);
    }
    return NULL;
}

/*
 * The readers are threads that were created with the key's default rights, and another process. No
 * read may fault or see another value.
 */
START_TEST(memory_is_adopted_while_others_read_it)
{
    static const unsigned kinds[] = {0, PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_OPTIONAL};
    enum { READERS = 3, ADOPTIONS = 10 };
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_ONLY, kinds[_i]);
    pthread_t readers[READERS];
    pid_t child;

    shared_memory = map_memory(MEMFD);
    child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        read_shared_memory(NULL);
    }
    for (int i = 0; i < READERS; i++)
        ck_assert_int_eq(pthread_create(&readers[i], NULL, read_shared_memory, NULL), 0);
    for (int i = 0; i < ADOPTIONS; i++) {
        struct pkeyguard_region *region = adopt(key, shared_memory.address, shared_memory.size);
        int seen = atomic_load(&reads_done);

        ck_assert_ptr_eq(pkeyguard_region_address(region), shared_memory.address);
        while (atomic_load(&reads_done) == seen)
            sched_yield();
        if (pkeyguard_key_enforcement(key) != PKEYGUARD_UNENFORCED)
            assert_denied(WRITE_BYTE, shared_memory.address + 1, key);
        pkeyguard_scoped_write (char, bytes, region) {
            bytes[shared_memory.size - 1] = 'w'; /* the readers read other bytes */
        }
        ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
        assert_allowed(WRITE_BYTE, shared_memory.address + 1);
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

/* Some pages of the stack, this function's frame among them. */
static void *own_stack(void)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);

    return (void *)(here - here % PAGE_BYTES - 8 * PAGE_BYTES);
}

static void adopt_own_stack(void *default_rights)
{
    struct pkeyguard_key *key = new_key(*(enum pkeyguard_rights *)default_rights, 0);
    struct pkeyguard_region *region;

    /* It has an alternate stack, and yet cannot report. */
    signal(SIGSEGV, SIG_DFL);
    if (pkeyguard_fault_reporter_install(0) != 0 ||
        pkeyguard_region_adopt(key, own_stack(), 9 * PAGE_BYTES, PAGE_RW, 0, &region) != 0)
        _exit(1);
    _exit(0);
}

/* With the key closed. Where the key leaves it open the same function ends well. */
START_TEST(adopting_the_own_stack_ends_the_process)
{
    enum pkeyguard_rights closed = PKEYGUARD_NO_ACCESS, open = PKEYGUARD_READ_WRITE;

    assert_ends(adopt_own_stack, &closed, "", SIGSEGV);
    assert_ends(adopt_own_stack, &open, "", 0);
}
END_TEST

/* Since Linux 6.3; <linux/prctl.h> of Debian 12 lacks them. */
enum { SET_MDWE = 65, GET_MDWE = 66, REFUSE_EXEC_GAIN = 1 };

static bool has_mdwe(void)
{
    return prctl(GET_MDWE, 0UL, 0UL, 0UL, 0UL) >= 0;
}

enum { CODE = PROT_READ | PROT_EXEC };

static char *map_code(void)
{
    char *code = mmap(NULL, PAGE_BYTES, CODE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_ptr_ne(code, MAP_FAILED);
    return code;
}

static void forbid_new_code(void)
{
    ck_assert_int_eq(prctl(SET_MDWE, (unsigned long)REFUSE_EXEC_GAIN, 0UL, 0UL, 0UL), 0);
}

/* The process can take the right to execute from memory, but never give it back. */
START_TEST(code_is_not_lost_where_none_can_be_made)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_ONLY, 0);
    struct pkeyguard_key *software = new_key(PKEYGUARD_READ_ONLY, PKEYGUARD_KEY_SOFTWARE);
    struct pkeyguard_key *virtual = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    char *code = map_code();
    struct pkeyguard_region *region;

    forbid_new_code();
    ck_assert_int_eq(pkeyguard_region_adopt(key, code, PAGE_BYTES, PROT_READ, 0, &region), -EACCES);
    ck_assert_int_eq(pkeyguard_region_adopt(software, code, PAGE_BYTES, CODE, 0, &region), -EACCES);
    ck_assert_int_eq(pkeyguard_region_adopt(key, code, PAGE_BYTES, CODE, 0, &region), 0);
    ck_assert_int_eq(pkeyguard_region_associate(region, software), -EACCES);
    ck_assert_int_eq(pkeyguard_region_associate(region, virtual), -EACCES);
    ck_assert_int_eq(pkeyguard_region_associate(region, NULL), -EACCES);
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_READ), -EACCES);
    ck_assert_int_eq(pkeyguard_region_prot(region), CODE);
    ck_assert_ptr_eq(pkeyguard_region_key(region), key);
    destroy(region, key);
    destroy(NULL, software);
    destroy(NULL, virtual);
    ck_assert_int_eq(mprotect(code, PAGE_BYTES, CODE), 0);
}
END_TEST

/* A region that the library has mapped. Its owner may take the right to execute away. */
START_TEST(code_of_a_region_is_not_lost_by_a_change_of_keys)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_READ_ONLY, 0);
    struct pkeyguard_region *region;

    ck_assert_int_eq(pkeyguard_region_create(key, PAGE_BYTES, CODE, 0, &region), 0);
    forbid_new_code();
    ck_assert_int_eq(pkeyguard_region_associate(region, NULL), -EACCES);
    ck_assert_ptr_eq(pkeyguard_region_key(region), key);
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_READ), 0);
    ck_assert_int_eq(pkeyguard_region_protect(region, CODE), -EACCES);
    ck_assert_int_eq(pkeyguard_region_associate(region, NULL), 0);
    destroy(region, key);
}
END_TEST

/* The kernel does not know PROCMAP_QUERY: the library reads /proc/self/smaps. */
static void refuse_query(void)
{
    refuse_call(CALL_IOCTL, ENOTTY);
}

/* What the library finds out about the memory. */
static void add_inspection(TCase *tests)
{
    bool huge_pages = huge_pages_can_be_had();
    const char *no_huge_pages = "no huge pages are set aside (vm.nr_hugepages)";

    tcase_add_loop_test(tests, adopted_memory_is_given_back_as_it_was, 0, SECRET_FD);
    add_loop_test_if(test_platform()->secret_memory, NO_SECRET_MEMORY, tests,
                     adopted_memory_is_given_back_as_it_was, SECRET_FD, HUGE_PAGES);
    add_loop_test_if(huge_pages, no_huge_pages, tests, adopted_memory_is_given_back_as_it_was,
                     HUGE_PAGES, KINDS);
    add_test_if(huge_pages, no_huge_pages, tests, huge_page_is_adopted_only_as_a_whole);
    tcase_add_test(tests, refused_adoption_changes_nothing);
    tcase_add_test(tests, adoption_that_fails_half_way_is_undone);
}

static void add_mdwe_test(TCase *tests, const TTest *test)
{
    if (has_mdwe())
        add_pku_test(tests, test);
    else
        add_test_if(false, "the kernel has no PR_SET_MDWE", tests, test);
}

static bool has_query(void)
{
    struct utsname kernel;
    int major, minor;

    return uname(&kernel) == 0 && sscanf(kernel.release, "%d.%d", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 11));
}

void add_adoption(Suite *suite)
{
    TCase *tests = add_case(suite, "adoption", NULL, NULL);
    TCase *without_query = add_case(suite, "adoption without query", refuse_query, NULL);

    add_inspection(tests);
    add_inspection(without_query);
    tcase_add_test(tests, adopted_region_with_an_open_guard_is_not_destroyed);
    add_mdwe_test(tests, code_is_not_lost_where_none_can_be_made);
    add_mdwe_test(tests, code_of_a_region_is_not_lost_by_a_change_of_keys);
    tcase_add_loop_test(tests, memory_is_not_adopted_twice, 0, 3);
    tcase_add_test(tests, refused_adoptions_take_no_memory);
    add_pku_test(tests, memory_with_a_foreign_pkey_is_not_adopted);
    tcase_add_test(tests, adoption_fails_without_proc);
    add_test_if(HAS_PKEYS && has_query(), HAS_PKEYS ? "the kernel has no PROCMAP_QUERY" : NO_PKEYS,
                tests, other_mappings_are_not_looked_at);
    /* Sanitizers use the stack, and valgrind makes signal frames, in ways of their own. */
    add_test_if(!under_tool(NULL), "the tool uses the stack", tests,
                adopting_the_own_stack_ends_the_process);
    tcase_add_loop_test(tests, memory_is_adopted_while_others_read_it, 0, 3);
}
