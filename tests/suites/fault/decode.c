/* SPDX-License-Identifier: MIT */
/*
 * Surprise: SIGSEGV says little. pkeyguard_fault_decode() tells the access, the region and the
 * rights.
 */
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "failing.h"
#include "test_fault.h"

START_TEST(decode_tells_rights_and_access)
{
    assert_decoded(READ_BYTE, 0, kind_of_guard_fault(), PKEYGUARD_NO_ACCESS);
    assert_decoded(WRITE_BYTE, 16, kind_of_guard_fault(), PKEYGUARD_NO_ACCESS);
    assert_decoded(READ_BYTE, LENGTH - 1, kind_of_guard_fault(), PKEYGUARD_NO_ACCESS);
    pkeyguard_scoped_read (int, number, region) {
        assert_decoded(WRITE_BYTE, 16, kind_of_guard_fault(), PKEYGUARD_READ_ONLY);
        ck_assert_int_eq(*number, 0);
    }
    assert_decoded(WRITE_BYTE, 16, kind_of_guard_fault(), PKEYGUARD_NO_ACCESS);
    /* The same pages, enforced by mprotect. */
    ck_assert_int_eq(pkeyguard_region_associate(region, NULL), 0);
    assert_decoded(WRITE_BYTE, 1, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_NO_ACCESS);
    pkeyguard_scoped_read (int, number, region) {
        assert_decoded(WRITE_BYTE, 16, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_READ_ONLY);
        ck_assert_int_eq(*number, 0);
    }
}
END_TEST

static int load_address(struct dl_phdr_info *info, size_t size, void *ret_address)
{
    (void)size;
    *(uintptr_t *)ret_address = info->dlpi_addr;
    return 1; /* the first is the program */
}

/* The path under which the program was started, or its end if there is no room for all of it. */
static void assert_is_program(const char *file)
{
    const char *path = (const char *)getauxval(AT_EXECFN);
    size_t length = strlen(path), room = sizeof(last_fault.code_file) - 1;

    ck_assert_str_eq(file, path + (length > room ? length - room : 0));
}

static void *decode_in_thread(void *unused)
{
    prctl(PR_SET_NAME, "second thread's");
    ck_assert_int_eq(decode_access(READ_BYTE, address), 0);
    ck_assert_int_eq(last_fault.thread, (int)syscall(SYS_gettid));
    ck_assert_str_eq(last_fault.thread_name, "second thread's");
    return unused;
}

START_TEST(decode_tells_thread_and_code)
{
    uintptr_t function = (uintptr_t)access_byte, loaded, code;
    pthread_t thread;

    prctl(PR_SET_NAME, "first");
    ck_assert_int_eq(decode_access(WRITE_BYTE, address), 0);
    ck_assert_int_eq(last_fault.thread, (int)getpid());
    ck_assert_str_eq(last_fault.thread_name, "first");
    code = (uintptr_t)last_fault.code;
    ck_assert(code >= function && code < function + 256);
#ifdef __GLIBC__
    dl_iterate_phdr(load_address, &loaded);
    ck_assert_uint_eq(last_fault.code_offset, code - loaded);
    assert_is_program(last_fault.code_file);
#else
    (void)load_address, (void)assert_is_program, (void)loaded;
    ck_assert_str_eq(last_fault.code_file, "");
#endif
    ck_assert_int_eq(pthread_create(&thread, NULL, decode_in_thread, NULL), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    /* A jump to memory that is no file's. */
    if (!under_tool("valgrind")) {
        ck_assert_int_eq(decode_access(EXECUTE, address), 0);
        ck_assert_ptr_eq(last_fault.code, address);
        ck_assert_str_eq(last_fault.code_file, "");
    }
}
END_TEST

START_TEST(decode_tells_page_rights)
{
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_READ), 0);
    assert_decoded(READ_BYTE, 0, kind_of_guard_fault(), PKEYGUARD_NO_ACCESS);
    ck_assert(!last_fault.page_rights_forbid);
    /* Where both the key and the page rights forbid the access, the CPU reports the key. */
    assert_decoded(WRITE_BYTE, 0, kind_of_guard_fault(), PKEYGUARD_NO_ACCESS);
    ck_assert(last_fault.page_rights_forbid);
    pkeyguard_scoped_write (int, number, region) {
        assert_decoded(WRITE_BYTE, 0, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_READ_WRITE);
        ck_assert(last_fault.page_rights_forbid);
        if (!under_tool("valgrind")) /* its signal frames do not tell execution */
            assert_decoded(EXECUTE, 0, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_READ_WRITE);
        ck_assert_int_eq(*number, 0);
    }
    pkeyguard_scoped_read (int, number, region) {
        if (!under_tool("valgrind"))
            assert_decoded(EXECUTE, 0, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_READ_ONLY);
        ck_assert_int_eq(*number, 0);
    }
    /* The CPU lets a program read pages that it may write. */
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_WRITE), 0);
    assert_decoded(READ_BYTE, 0, kind_of_guard_fault(), PKEYGUARD_NO_ACCESS);
    ck_assert(!last_fault.page_rights_forbid);
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_NONE), 0);
    pkeyguard_scoped_key_write (guard, key) {
        assert_decoded(READ_BYTE, 0, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_READ_WRITE);
        ck_assert(last_fault.page_rights_forbid);
    }
}
END_TEST

/* Where nothing enforces the key, every thread has its rights, and page rights still forbid. */
START_TEST(decode_tells_an_optional_keys_rights)
{
    struct pkeyguard_key *optional = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_OPTIONAL);

    ck_assert_int_eq(pkeyguard_region_associate(region, optional), 0);
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_READ), 0);
    assert_decoded(WRITE_BYTE, 0, kind_of_guard_fault(),
                   pku() ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_WRITE);
    ck_assert(last_fault.page_rights_forbid);
    ck_assert_int_eq(pkeyguard_region_associate(region, key), 0);
    destroy(NULL, optional);
}
END_TEST

START_TEST(decode_tells_guard_pages)
{
    assert_decoded(WRITE_BYTE, -1, PKEYGUARD_FAULT_GUARD_PAGE, PKEYGUARD_NO_ACCESS);
    ck_assert(!last_fault.page_rights_forbid);
    assert_decoded(READ_BYTE, -PAGE_BYTES, PKEYGUARD_FAULT_GUARD_PAGE, PKEYGUARD_NO_ACCESS);
    pkeyguard_scoped_write (char, bytes, region) {
        bytes[LENGTH - 1] = 'x';
        assert_decoded(WRITE_BYTE, LENGTH, PKEYGUARD_FAULT_GUARD_PAGE, PKEYGUARD_READ_WRITE);
        assert_decoded(READ_BYTE, LENGTH + PAGE_BYTES - 1, PKEYGUARD_FAULT_GUARD_PAGE,
                       PKEYGUARD_READ_WRITE);
    }
}
END_TEST

/* An access to the page between a heap's objects and its metadata. The heap has a guard open. */
static void assert_ran_off_the_objects(struct pkeyguard_heap *heap, enum access access,
                                       ptrdiff_t past_the_end)
{
    struct pkeyguard_region *objects = pkeyguard_heap_region(heap);
    char *end = address_of(objects) + pkeyguard_region_size(objects);

    ck_assert_int_eq(decode_access(access, end + past_the_end), 0);
    ck_assert_int_eq(last_fault.kind, PKEYGUARD_FAULT_GUARD_PAGE);
    ck_assert_int_eq(last_fault.access, reported_access[access]);
    ck_assert_ptr_eq(last_fault.address, end + past_the_end);
    ck_assert_int_eq(last_fault.offset, PAGE_BYTES + past_the_end);
    ck_assert_uint_eq(last_fault.region_size, PAGE_BYTES);
    ck_assert_str_eq(last_fault.region_name, "objects");
}

/* Its start is 3996 bytes into its page. */
START_TEST(decode_tells_the_end_of_an_end_aligned_region)
{
    struct pkeyguard_region *plain = region;
    char text[PKEYGUARD_FAULT_TEXT_SIZE];

    ck_assert_int_eq(
        pkeyguard_region_create(key, 100, PAGE_RW, PKEYGUARD_REGION_END_ALIGNED, &region), 0);
    ck_assert_int_eq(decode_access(WRITE_BYTE, address_of(region) + 99), 0);
    ck_assert_int_eq(last_fault.kind, kind_of_guard_fault());
    ck_assert_int_eq(last_fault.offset, 99);
    ck_assert_int_eq(decode_access(READ_BYTE, address_of(region) - 3996), 0);
    ck_assert_int_eq(last_fault.kind, kind_of_guard_fault());
    ck_assert_int_eq(last_fault.offset, -3996);
    ck_assert_int_eq(decode_access(READ_BYTE, address_of(region) - 3997), 0);
    ck_assert_int_eq(last_fault.kind, PKEYGUARD_FAULT_GUARD_PAGE);
    pkeyguard_scoped_write (char[100], bytes, region) {
        (*bytes)[99] = 'e';
        ck_assert_int_eq(decode_access(WRITE_BYTE, *bytes + 100), 0);
    }
    ck_assert_int_eq(last_fault.kind, PKEYGUARD_FAULT_GUARD_PAGE);
    ck_assert_int_eq(last_fault.offset, 100);
    ck_assert_uint_eq(last_fault.region_size, 100);
    ck_assert_int_eq(pkeyguard_fault_format(&last_fault, text, sizeof(text)), 0);
    ck_assert_ptr_nonnull(strstr(text, "write 1 byte past the end of "));
    destroy(region, NULL);
    region = plain;
}
END_TEST

/* With guard pages inside the mapping, and, for a locked heap, as mappings of their own. */
START_TEST(decode_tells_the_page_after_a_heaps_objects)
{
    unsigned flags[] = {0, PKEYGUARD_REGION_LOCKED};
    struct pkeyguard_heap *heap = NULL;
    char text[PKEYGUARD_FAULT_TEXT_SIZE];
    struct pkeyguard_region *objects;

    ck_assert_int_eq(pkeyguard_heap_create(key, PAGE_BYTES, flags[_i], &heap), 0);
    objects = pkeyguard_heap_region(heap);
    ck_assert_int_eq(pkeyguard_region_name(objects, "objects"), 0);
    pkeyguard_scoped_write (char[PAGE_BYTES], bytes, objects) {
        (*bytes)[PAGE_BYTES - 1] = 'x';
        assert_ran_off_the_objects(heap, WRITE_BYTE, 0);
        assert_ran_off_the_objects(heap, READ_BYTE, PAGE_BYTES - 1);
        ck_assert_int_eq(pkeyguard_fault_format(&last_fault, text, sizeof(text)), 0);
        ck_assert_ptr_nonnull(strstr(text, "read 4096 bytes past the end of region 'objects'"));
        /* The metadata lies behind that page, and is open, too. */
        access_byte(READ_BYTE, *bytes + PAGE_BYTES + PAGE_BYTES);
    }
    ck_assert_int_eq(decode_access(READ_BYTE, address_of(objects) + 2 * PAGE_BYTES), 0);
    ck_assert_int_eq(last_fault.kind, kind_of_guard_fault());
    ck_assert_int_eq(pkeyguard_heap_destroy(heap), 0);
}
END_TEST

static void assert_not_decoded(enum access access, const volatile void *target)
{
    struct pkeyguard_fault untouched;

    memset(&untouched, 0x5a, sizeof(untouched));
    ck_assert_int_eq(decode_access(access, target), -ENOENT);
    ck_assert_mem_eq(&last_fault, &untouched, sizeof(last_fault));
}

/* Other code has unmapped the page: no rights of the library's stopped the access. */
START_TEST(decode_refuses_faults_of_missing_pages)
{
    siginfo_t info = {.si_signo = SIGSEGV, .si_code = SEGV_MAPERR, .si_addr = address};
    ucontext_t no_registers = {0};
    struct pkeyguard_fault fault;

    ck_assert_int_eq(pkeyguard_fault_decode(&info, &no_registers, &fault), -ENOENT);
    info.si_code = SEGV_ACCERR;
    ck_assert_int_eq(pkeyguard_fault_decode(&info, &no_registers, &fault), 0);
    ck_assert_ptr_null(fault.code);
    ck_assert_str_eq(fault.code_file, "");
#if defined(__GLIBC__) && defined(__x86_64__)
    /* A function of a shared library, whose file is named in another way than the program's. */
    no_registers.uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)getppid;
    ck_assert_int_eq(pkeyguard_fault_decode(&info, &no_registers, &fault), 0);
    ck_assert_ptr_nonnull(strstr(fault.code_file, "libc.so"));
#endif
}
END_TEST

START_TEST(decode_refuses_other_faults)
{
    char *closed = mmap(NULL, PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct pkeyguard_region *gone = new_region(NULL);
    char *was_at = address_of(gone);

    ck_assert_int_eq(decode_access(READ_BYTE, was_at), 0);
    ck_assert_str_eq(last_fault.region_name, "");
    destroy(gone, NULL);
    assert_not_decoded(READ_BYTE, was_at);
    ck_assert_ptr_eq(
        mmap(was_at, PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
        was_at);
    assert_not_decoded(WRITE_BYTE, was_at);
    assert_not_decoded(WRITE_BYTE, closed);
    assert_not_decoded(READ_BYTE, (char *)8);
    ck_assert_int_eq(decode_raised(SIGSEGV), -ENOENT);
    ck_assert_int_eq(decode_raised(SIGUSR1), -ENOENT);
    munmap(closed, PAGE_BYTES);
    munmap(was_at, PAGE_BYTES);
}
END_TEST

/* The child does not have the region. It maps other memory in that place and adopts it. */
START_TEST(decode_in_a_fork_child_skips_missing_regions)
{
    struct pkeyguard_region *unforked, *adopted;
    char *place, *mapped;
    pid_t child;

    ck_assert_int_eq(
        pkeyguard_region_create(key, LENGTH, PAGE_RW, PKEYGUARD_REGION_NO_FORK, &unforked), 0);
    place = address_of(unforked);
    child = fork();
    if (child == 0) {
        assert_not_decoded(READ_BYTE, place);
        mapped = mmap(place, LENGTH, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        ck_assert_ptr_eq(mapped, place);
        ck_assert_int_eq(pkeyguard_region_adopt(key, place, LENGTH, PAGE_RW, 0, &adopted), 0);
        ck_assert_int_eq(pkeyguard_region_name(adopted, "adopted"), 0);
        ck_assert_int_eq(decode_access(WRITE_BYTE, place + 16), 0);
        ck_assert_str_eq(last_fault.region_name, "adopted");
        ck_assert_int_eq(pkeyguard_region_destroy(unforked), 0);
        ck_assert_int_eq(decode_access(WRITE_BYTE, place + 16), 0);
        destroy(adopted, NULL);
        _exit(0);
    }
    assert_exits(child, 0);
    ck_assert_int_eq(decode_access(READ_BYTE, place), 0);
    destroy(unforked, NULL);
}
END_TEST

/*
 * More regions than one chunk of records holds. In the second round every other one is destroyed;
 * in the third their records are used again.
 */
START_TEST(decode_finds_one_of_many_regions)
{
    enum { MANY = 500 };
    static struct pkeyguard_region *regions[MANY];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            char name[8];

            if (round == 1 && i % 2 == 0) {
                destroy(regions[i], NULL);
                regions[i] = NULL;
            }
            if (regions[i] == NULL && round != 1)
                regions[i] = new_region(NULL);
            if (regions[i] != NULL) {
                snprintf(name, sizeof(name), "%d", i);
                ck_assert_int_eq(pkeyguard_region_name(regions[i], name), 0);
            }
        }
        for (int i = 0; i < MANY; i++) {
            char name[8];

            if (regions[i] == NULL)
                continue;
            snprintf(name, sizeof(name), "%d", i);
            ck_assert_int_eq(decode_access(READ_BYTE, address_of(regions[i]) + i), 0);
            ck_assert_str_eq(last_fault.region_name, name);
            ck_assert_int_eq(last_fault.offset, i);
        }
    }
    for (int i = 0; i < MANY; i++)
        destroy(regions[i], NULL);
}
END_TEST

static void fault_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    assert_decoded(WRITE_BYTE, 16, kind_of_guard_fault(), PKEYGUARD_NO_ACCESS);
}

START_TEST(decode_works_inside_the_library)
{
    static const enum call calls[] = {CALL_MMAP, CALL_MADVISE, CALL_MUNMAP, CALL_MPROTECT};
    struct pkeyguard_region *other;

    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
        decode_result = 1;
        before_call(calls[i], fault_inside_library);
        other = new_region(NULL);
        pkeyguard_scoped_write (char, byte, other) {
            *byte = 1;
        }
        destroy(other, NULL);
        ck_assert_int_eq(decode_result, 0);
    }
}
END_TEST

static void fault_in_handler(int signal)
{
    (void)signal;
    ck_assert_int_eq(decode_access(WRITE_BYTE, address), 0);
}

/*
 * A signal handler starts with the kernel's initial PKRU: access-disable alone, which no code has
 * chosen.
 */
START_TEST(decode_tells_initial_rights)
{
    signal(SIGUSR1, fault_in_handler);
    raise(SIGUSR1);
    ck_assert_int_eq(last_fault.kind, PKEYGUARD_FAULT_BY_KEY);
    ck_assert_int_eq(last_fault.rights, PKEYGUARD_NO_ACCESS);
    ck_assert(last_fault.initial_rights);
    ck_assert_int_eq(decode_access(WRITE_BYTE, address), 0);
    ck_assert(!last_fault.initial_rights);
}
END_TEST

static atomic_bool churning;

static void *churn_regions(void *unused)
{
    struct pkeyguard_region *regions[8];

    (void)unused;
    while (churning) {
        for (int i = 0; i < 8; i++)
            regions[i] = new_region(i % 2 ? key : NULL);
        for (int i = 0; i < 8; i++)
            destroy(regions[i], NULL);
    }
    return NULL;
}

START_TEST(decode_works_while_other_regions_come_and_go)
{
    pthread_t threads[2];

    churning = true;
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, churn_regions, NULL), 0);
    for (int i = 0; i < 200; i++)
        assert_decoded(WRITE_BYTE, 16, kind_of_guard_fault(), PKEYGUARD_NO_ACCESS);
    churning = false;
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
}
END_TEST

static void open_and_close(void)
{
    pkeyguard_scoped_read (char, bytes, region)
        (void)bytes;
}

/* The key has no pkey until the first guard opens it. */
START_TEST(decode_tells_a_virtual_keys_pkey)
{
    struct pkeyguard_key *virtual_key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    char text[PKEYGUARD_FAULT_TEXT_SIZE], expected[PKEYGUARD_FAULT_TEXT_SIZE];

    ck_assert_int_eq(pkeyguard_region_associate(region, virtual_key), 0);
    ck_assert_int_eq(pkeyguard_key_number(virtual_key), -1);
    assert_decoded(WRITE_BYTE, 16, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_NO_ACCESS);
    assert_decoded(READ_BYTE, 16, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_NO_ACCESS);
    ck_assert_int_eq(pkeyguard_fault_format(&last_fault, text, sizeof(text)), 0);
    snprintf(expected, sizeof(expected),
             "read of region 'session keys' + 0x10: no guard has it open; open a read scope "
             "(address %p) in thread ",
             (void *)(address + 16));
    ck_assert_mem_eq(text, expected, strlen(expected));
    before_decode = open_and_close;
    ck_assert_int_eq(decode_access(WRITE_BYTE, address), 0);
    before_decode = NULL;
    ck_assert_int_gt(pkeyguard_key_number(virtual_key), 0);
    ck_assert_int_eq(last_fault.key_number, -1);
    ck_assert_int_eq(last_fault.rights, PKEYGUARD_NO_ACCESS);
    pkeyguard_scoped_read (char, bytes, region) {
        ck_assert_int_eq(bytes[16], 0);
        assert_decoded(WRITE_BYTE, 16, PKEYGUARD_FAULT_BY_KEY, PKEYGUARD_READ_ONLY);
    }
    assert_decoded(READ_BYTE, 16, PKEYGUARD_FAULT_BY_KEY, PKEYGUARD_NO_ACCESS);
    assert_decoded(READ_BYTE, -1, PKEYGUARD_FAULT_GUARD_PAGE, PKEYGUARD_NO_ACCESS);
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_READ), 0);
    pkeyguard_scoped_read (char, bytes, region) {
        ck_assert_int_eq(bytes[16], 0);
        assert_decoded(EXECUTE, 16, PKEYGUARD_FAULT_BY_PAGE, PKEYGUARD_READ_ONLY);
    }
    ck_assert_int_eq(pkeyguard_region_associate(region, key), 0);
    ck_assert_int_eq(pkeyguard_key_destroy(virtual_key), 0);
}
END_TEST

void add_decode(Suite *suite)
{
    TCase *tests = add_case(suite, "decode", set_up_named_region, tear_down);

    tcase_add_test(tests, decode_tells_rights_and_access);
    tcase_add_test(tests, decode_tells_thread_and_code);
    tcase_add_test(tests, decode_tells_page_rights);
    tcase_add_test(tests, decode_tells_an_optional_keys_rights);
    tcase_add_test(tests, decode_tells_guard_pages);
    tcase_add_test(tests, decode_tells_the_end_of_an_end_aligned_region);
    tcase_add_loop_test(tests, decode_tells_the_page_after_a_heaps_objects, 0, 2);
    tcase_add_test(tests, decode_refuses_faults_of_missing_pages);
    tcase_add_test(tests, decode_refuses_other_faults);
    tcase_add_test(tests, decode_in_a_fork_child_skips_missing_regions);
    tcase_add_test(tests, decode_finds_one_of_many_regions);
    tcase_add_test(tests, decode_works_inside_the_library);
    add_pku_test(tests, decode_tells_initial_rights);
    tcase_add_test(tests, decode_works_while_other_regions_come_and_go);
    add_pku_test(tests, decode_tells_a_virtual_keys_pkey);
}
