/* SPDX-License-Identifier: MIT */
/*
 * What Linux tests of its own pkeys, in tools/testing/selftests/mm/protection_keys.c, through this
 * library. The comments name the functions there. Elsewhere in this suite are
 * test_pkey_alloc_free_attach_pkey0 (pkey_0_is_never_a_key) and more of
 * test_implicit_mprotect_exec_only_memory (execute_only_mapping_..., protect_keeps_the_pkey).
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "place.h"
#include "test_pitfalls.h"

/* ---- accesses ---- */

/* Each with the access that a thread makes that has these rights, before and after it used the
 * page. */
static const struct row {
    const char *selftest;
    enum pkeyguard_rights rights;
    enum access access;
    bool page_already_mapped;
    bool denied;
} rows[] = {
    {"test_read_of_write_disabled_region", PKEYGUARD_READ_ONLY, READ_BYTE, false, false},
    {"test_read_of_access_disabled_region", PKEYGUARD_NO_ACCESS, READ_BYTE, false, true},
    {"test_read_of_access_disabled_region_with_page_already_mapped", PKEYGUARD_NO_ACCESS, READ_BYTE,
     true, true},
    {"test_write_of_write_disabled_region", PKEYGUARD_READ_ONLY, WRITE_BYTE, false, true},
    {"test_write_of_write_disabled_region_with_page_already_mapped", PKEYGUARD_READ_ONLY,
     WRITE_BYTE, true, true},
    {"test_write_of_access_disabled_region", PKEYGUARD_NO_ACCESS, WRITE_BYTE, false, true},
    {"test_write_of_access_disabled_region_with_page_already_mapped", PKEYGUARD_NO_ACCESS,
     WRITE_BYTE, true, true},
};
enum { ROWS = sizeof(rows) / sizeof(*rows) };

static void check_row(const struct row *row, struct pkeyguard_region *checked)
{
    char *byte = address_of(checked);
    struct pkeyguard_guard guard = {0};

    if (row->page_already_mapped) {
        pkeyguard_scoped_write (char, first, checked) {
            *first = 'm';
        }
    }
    if (row->rights != PKEYGUARD_NO_ACCESS)
        ck_assert_int_eq(pkeyguard_acquire(checked, row->rights, &guard), 0);
    if (row->denied)
        assert_denied(row->access, byte, key);
    else
        assert_allowed(row->access, byte);
    pkeyguard_release(&guard);
    pkeyguard_scoped_write (char, first, checked) {
        assert_allowed(row->access, first);
    }
}

static void *map_file(int flags, int prot, const char *content, size_t size)
{
    int file = memfd_create("pitfalls", 0);
    void *page;

    ck_assert_int_ge(file, 0);
    ck_assert_int_eq(ftruncate(file, PAGE_BYTES), 0);
    ck_assert_int_eq(write(file, content, size), (ssize_t)size);
    page = mmap(NULL, PAGE_BYTES, prot, flags, file, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
    close(file);
    return page;
}

/* The selftest has kinds of memory, too: here its own, with huge pages, and a shared file's. */
START_TEST(rights_hold_for_every_kind_of_memory)
{
    struct pkeyguard_region *checked = new_region(key);
    char *shared;

    check_row(&rows[_i], checked);
    destroy(checked, NULL);
    ck_assert_int_eq(pkeyguard_region_create(key, 4 << 20, PAGE_RW, 0, &checked), 0);
    check_row(&rows[_i], checked);
    destroy(checked, NULL);
    shared = map_file(MAP_SHARED, PAGE_RW, "", 0);
    ck_assert_int_eq(pkeyguard_region_adopt(key, shared, PAGE_BYTES, PAGE_RW, 0, &checked), 0);
    check_row(&rows[_i], checked);
    destroy(checked, NULL);
    munmap(shared, PAGE_BYTES);
}
END_TEST

/*
 * test_kernel_write_of_access_disabled_region, test_kernel_write_of_write_disabled_region,
 * test_kernel_gup_of_access_disabled_region, test_kernel_gup_write_to_write_disabled_region: the
 * kernel's own accesses have the thread's rights. A system call gets EFAULT; what only reads is
 * served in a read scope. A futex that may be shared needs memory that can be written.
 */
enum { SHARED_WAIT = 0, PRIVATE_WAIT = 128 }; /* FUTEX_WAIT, FUTEX_WAIT_PRIVATE */
START_TEST(kernel_has_the_rights_of_the_thread)
{
    struct iovec vector = {.iov_base = address, .iov_len = PAGE_BYTES};
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(write(ends[1], "data", 4), 4);
    assert_efault(syscall(SYS_read, ends[0], address, 1));
    assert_efault(syscall(SYS_vmsplice, ends[1], &vector, 1, 0));
    assert_efault(syscall(SYS_futex, address, PRIVATE_WAIT, 1, NULL, NULL, 0));
    pkeyguard_scoped_read (char, byte, region) {
        assert_efault(syscall(SYS_read, ends[0], byte, 1));
        assert_efault(syscall(SYS_futex, byte, SHARED_WAIT, 1, NULL, NULL, 0));
        ck_assert_int_eq(syscall(SYS_futex, byte, PRIVATE_WAIT, 1, NULL, NULL, 0), -1);
        ck_assert_int_eq(errno, EAGAIN); /* it has read that the value is not 1 */
    }
    pkeyguard_scoped_write (char, byte, region) {
        ck_assert_int_eq(syscall(SYS_read, ends[0], byte, 4), 4);
        ck_assert_mem_eq(byte, "data", 4);
        ck_assert_int_eq(syscall(SYS_vmsplice, ends[1], &vector, 1, 0), PAGE_BYTES);
    }
}
END_TEST

/* ---- code ---- */

/*
 * test_executing_on_unreadable_memory: a closed key does not stop execution, also when the page
 * must first be read from its file.
 */
START_TEST(closed_code_runs_and_cannot_be_read)
{
    const char *code = "\xc3"; /* ret */
    char *page = map_file(MAP_PRIVATE, PROT_READ | PROT_EXEC, code, 1);
    struct pkeyguard_region *adopted;

    ck_assert_int_eq(
        pkeyguard_region_adopt(key, page, PAGE_BYTES, PROT_READ | PROT_EXEC, 0, &adopted), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(madvise(page, PAGE_BYTES, MADV_DONTNEED), 0);
        assert_allowed(EXECUTE, page);
        assert_denied(READ_BYTE, page, key);
        ck_assert_int_eq(pkeyguard_region_protect(adopted, PROT_EXEC), 0);
    }
    pkeyguard_scoped_read (char, byte, adopted) {
        ck_assert_int_eq(*byte, *code);
    }
    destroy(adopted, NULL);
    munmap(page, PAGE_BYTES);
}
END_TEST

/*
 * test_implicit_mprotect_exec_only_memory: mprotect(PROT_EXEC) makes memory unreadable by a pkey of
 * the kernel's, and PROT_NONE after it takes the pkey off. A region that goes the same way has its
 * own pkey all the time.
 */
START_TEST(execute_only_ends_at_prot_none)
{
    static const int prots[] = {PROT_EXEC, PROT_NONE, PROT_READ | PROT_EXEC};
    char *page = map_file(MAP_PRIVATE, PAGE_RW, "\xc3", 1);
    struct fault fault;

    ck_assert_int_eq(mprotect(page, PAGE_BYTES, PROT_EXEC), 0);
    assert_allowed(EXECUTE, page);
    fault = try_access(READ_BYTE, page);
    ck_assert_int_eq(fault.code, SEGV_PKUERR);
    ck_assert_ptr_eq(fault.address, page);
    ck_assert_int_ne(fault.pkey, pkeyguard_key_number(key));
    ck_assert_int_eq(mprotect(page, PAGE_BYTES, PROT_NONE), 0);
    ck_assert_int_eq(mprotect(page, PAGE_BYTES, PROT_READ | PROT_EXEC), 0);
    assert_allowed(READ_BYTE, page);
    munmap(page, PAGE_BYTES);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(pkeyguard_region_protect(region, prots[i]), 0);
        assert_denied(READ_BYTE, address, key);
    }
    pkeyguard_scoped_read (char, byte, region) {
        ck_assert_int_eq(*byte, 0);
    }
}
END_TEST

/* ---- pkeys and system calls on them ---- */

/*
 * test_mprotect_with_pkey_0: pages can get pkey 0 and their own again. A region without a key of
 * its own has pkey 0, and is closed by its page rights instead.
 */
START_TEST(region_goes_to_pkey_0_and_back)
{
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pkeyguard_region_associate(region, NULL), 0);
        ck_assert_int_eq(pkey_of_mapping(address), 0);
        assert_page_denied(READ_BYTE, address);
        ck_assert_int_eq(pkeyguard_region_associate(region, key), 0);
        ck_assert_int_eq(pkey_of_mapping(address), pkeyguard_key_number(key));
        assert_denied(READ_BYTE, address, key);
        pkeyguard_scoped_write (char, byte, region) {
            *byte = 'z';
        }
    }
}
END_TEST

static void assert_einval(long result)
{
    ck_assert_int_eq(result, -1);
    ck_assert_int_eq(errno, EINVAL);
}

/*
 * test_pkey_syscalls_on_non_allocated_pkey, test_pkey_syscalls_bad_args: such calls fail. They do
 * not disturb a key, also if they name its region's pages.
 */
START_TEST(calls_with_bad_pkeys_disturb_no_key)
{
    int own = pkeyguard_key_number(key);

    for (int pkey = 1; pkey < 16; pkey++) {
        if (pkey == own)
            continue;
        assert_einval(pkey_free(pkey));
        assert_einval(pkey_free(pkey));
        assert_einval(pkey_mprotect(address, PAGE_BYTES, PROT_READ, pkey));
    }
    assert_einval(pkey_free(16 + 99));
    assert_einval(pkey_mprotect(address, PAGE_BYTES, PROT_READ, 16 + 99));
    ck_assert_int_eq(pkey_of_mapping(address), own);
    assert_denied(READ_BYTE, address, key);
    pkeyguard_scoped_write (char, byte, region) {
        *byte = 'b';
    }
}
END_TEST

/* In a child of a process with every pkey taken. */
static int create_in_child(struct pkeyguard_key *keys[16], int count)
{
    struct pkeyguard_key *one_more;

    if (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &one_more) != -ENOSPC ||
        pkey_alloc(0, 0) != -1 || errno != ENOSPC)
        return 1;
    if (pkeyguard_key_destroy(keys[count - 1]) != 0)
        return 2;
    return pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &one_more) == 0 ? 42 : 3;
}

/* test_pkey_alloc_exhaust: a child of fork(3) has the same pkeys allocated, and the same keys. */
START_TEST(no_pkey_is_left_in_a_fork_child_either)
{
    struct pkeyguard_key *keys[16];
    int count = create_keys(keys);
    pid_t child = fork();

    if (child == 0)
        _exit(create_in_child(keys, count));
    assert_exits(child, 42);
    ck_assert_int_eq(pkey_alloc(0, 0), -1);
    ck_assert_int_eq(errno, ENOSPC);
    destroy_keys(keys, count);
    ck_assert_int_eq(create_keys(keys), count);
    destroy_keys(keys, count);
}
END_TEST

/* test_mprotect_pkey_on_unsupported_cpu: pkey_mprotect fails there, and no key uses PKU. */
START_TEST(without_pkeys_no_key_uses_pku)
{
    struct pkeyguard_key *hardware;
    int error = pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_HARDWARE, &hardware);

    ck_assert_int_eq(error, pku() ? 0 : -ENOTSUP);
    if (error == 0)
        destroy(NULL, hardware);
    else if (!pkeyguard_pkru_supported())
        ck_assert_int_eq(syscall(SYS_pkey_mprotect, address, PAGE_BYTES, PROT_READ, 1), -1);
    assert_denied(READ_BYTE, address, key);
    pkeyguard_scoped_write (char, byte, region) {
        *byte = 'u';
    }
}
END_TEST

/* ---- PKRU changed by others: XRSTOR, a debugger ---- */

/* A child that waits for its tracer. */
static pid_t stopped_child(void (*then)(void))
{
    pid_t child = fork();

    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        then();
        _exit(42);
    }
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    return child;
}

static void do_nothing(void)
{
}

/*
 * test_ptrace_of_child: a debugger reads what is closed, as the threat model says (pkeyguard.h).
 * The tracer's own rights are not concerned.
 */
START_TEST(debugger_reads_closed_memory)
{
    pid_t child;

    pkeyguard_scoped_write (long, word, region) {
        *word = 0x5eaf00d;
    }
    child = stopped_child(do_nothing);
    errno = 0;
    ck_assert_int_eq(ptrace(PTRACE_PEEKDATA, child, address, NULL), 0x5eaf00d);
    ck_assert_int_eq(errno, 0);
    assert_denied(READ_BYTE, address, key);
    ck_assert_int_eq(ptrace(PTRACE_DETACH, child, NULL, NULL), 0);
    assert_exits(child, 42);
}
END_TEST

#ifdef __x86_64__
/* Offsets in the XSAVE area: XSTATE_BV, whose bit 9 is PKRU's (Intel SDM vol. 1, 13.4). */
enum { XSTATE_BV = 512, PKRU_BIT = 9, NUMBER_OF_XSTATE_SET = 0x202 /* NT_X86_XSTATE */ };

static unsigned offset_of_pkru(void)
{
    unsigned eax = 0xd, ebx, ecx = PKRU_BIT, edx;

    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    return ebx;
}

static void check_opened_by_others(void)
{
    ck_assert_uint_eq(pkeyguard_pkru_read(), 0);
    for (int i = 0; i < 100; i++)
        sched_yield();
    ck_assert_int_eq(pkeyguard_key_rights(key), PKEYGUARD_READ_WRITE);
    assert_allowed(WRITE_BYTE, address);
    pkeyguard_thread_reset();
    assert_denied(WRITE_BYTE, address, key);
}

/*
 * test_pkey_init_state: XRSTOR may bring PKRU to its initial state, 0, which opens everything.
 * pkeyguard_key_rights() tells so, and a reset closes.
 */
START_TEST(initial_state_of_pkru_opens_everything)
{
    static _Alignas(64) char state[1 << 14];

    __asm__ volatile("xsave %0" : "+m"(state) : "a"(1 << PKRU_BIT), "d"(0));
    state[XSTATE_BV + 1] &= ~(1 << (PKRU_BIT - 8));
    __asm__ volatile("xrstor %0" : : "m"(state), "a"(1 << PKRU_BIT), "d"(0) : "memory");
    check_opened_by_others();
}
END_TEST

/*
 * test_ptrace_modifies_pkru: a debugger sets PKRU of its tracee, with _i 0 by its value, with _i 1
 * by its initial state.
 */
START_TEST(debugger_opens_everything)
{
    static char state[1 << 14];
    struct iovec vector = {.iov_base = state, .iov_len = sizeof(state)};
    pid_t child = stopped_child(check_opened_by_others);
    uint32_t pkru;

    ck_assert_int_eq(ptrace(PTRACE_GETREGSET, child, (void *)NUMBER_OF_XSTATE_SET, &vector), 0);
    memcpy(&pkru, state + offset_of_pkru(), sizeof(pkru));
    ck_assert_uint_eq(pkru, pkeyguard_pkru_read());
    if (_i == 0)
        memset(state + offset_of_pkru(), 0, sizeof(pkru));
    else
        state[XSTATE_BV + 1] &= ~(1 << (PKRU_BIT - 8));
    ck_assert_int_eq(ptrace(PTRACE_SETREGSET, child, (void *)NUMBER_OF_XSTATE_SET, &vector), 0);
    ck_assert_int_eq(ptrace(PTRACE_DETACH, child, NULL, NULL), 0);
    assert_exits(child, 42);
}
END_TEST
#else
START_TEST(initial_state_of_pkru_opens_everything)
{
    ck_abort();
}
END_TEST
START_TEST(debugger_opens_everything)
{
    ck_abort();
}
END_TEST
#endif

void add_kernels_key_tests(Suite *suite)
{
    TCase *tests = add_case(suite, "the kernel's tests of pkeys", set_up, tear_down);

    tcase_add_loop_test(tests, rights_hold_for_every_kind_of_memory, 0, ROWS);
    if (!under_tool("valgrind")) /* it reports each of these system calls */
        tcase_add_test(tests, kernel_has_the_rights_of_the_thread);
    add_pku_test(tests, closed_code_runs_and_cannot_be_read);
    add_pku_test(tests, execute_only_ends_at_prot_none);
    add_pku_test(tests, region_goes_to_pkey_0_and_back);
    add_pku_test(tests, calls_with_bad_pkeys_disturb_no_key);
    add_pku_test(tests, no_pkey_is_left_in_a_fork_child_either);
    tcase_add_test(tests, without_pkeys_no_key_uses_pku);
    add_pku_test(tests, debugger_reads_closed_memory);
    add_pkeys_test(tests, initial_state_of_pkru_opens_everything, 1);
    add_pkeys_test(tests, debugger_opens_everything, 2);
}
