/* SPDX-License-Identifier: MIT */
/*
 * Surprises about protection keys: a test for each shows the surprise, where that is possible, and
 * what the library does about it. Other suites have more; grep for "Surprise:".
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "place.h"
#include "test_pitfalls.h"

/* ---- signal handlers start with the kernel's rights ---- */

static enum pkeyguard_rights in_outer_handler[2], in_nested_handler;

static void handle_nested_signal(int signal)
{
    struct pkeyguard_guard guard;

    (void)signal;
    in_nested_handler = pkeyguard_key_rights(key);
    if (pkeyguard_key_acquire(key, PKEYGUARD_READ_ONLY, &guard) != 0)
        _exit(1);
    (void)*(volatile char *)address;
    pkeyguard_release(&guard);
}

static void handle_signal(int signal)
{
    (void)signal;
    pkeyguard_scoped_key_write (guard, key) {
        in_outer_handler[0] = pkeyguard_key_rights(key);
        raise(SIGUSR2);
        in_outer_handler[1] = pkeyguard_key_rights(key);
        *(volatile char *)address = 'h';
    }
}

static void raise_nested_signals(void)
{
    signal(SIGUSR1, handle_signal);
    signal(SIGUSR2, handle_nested_signal);
    raise(SIGUSR1);
    ck_assert_int_eq(in_outer_handler[0], PKEYGUARD_READ_WRITE);
    ck_assert_int_eq(in_nested_handler, pku() ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_WRITE);
    ck_assert_int_eq(in_outer_handler[1], PKEYGUARD_READ_WRITE);
    assert_denied(READ_BYTE, address, key);
}

/*
 * Surprise: nested handlers each start with the kernel's rights. When one returns, the rights of
 * the interrupted code come back.
 */
START_TEST(nested_handlers_have_their_own_rights)
{
    raise_nested_signals();
    pkeyguard_scoped_read (char, byte, region) {
        raise(SIGUSR1);
        ck_assert_int_eq(*byte, 'h');
        assert_denied(WRITE_BYTE, address, key);
    }
}
END_TEST

/*
 * Surprise: a handler on an alternate stack starts with the kernel's rights, too. It can open
 * scopes.
 */
START_TEST(scope_opens_on_an_alternate_stack)
{
    static char memory[1 << 16];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof(memory)};
    struct sigaction action = {.sa_handler = handle_signal, .sa_flags = SA_ONSTACK};

    ck_assert_int_eq(sigaltstack(&stack, NULL), 0);
    signal(SIGUSR2, handle_nested_signal);
    ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
    raise(SIGUSR1);
    ck_assert_int_eq(in_outer_handler[1], PKEYGUARD_READ_WRITE);
    assert_denied(READ_BYTE, address, key);
}
END_TEST

/* ---- stacks in regions ---- */

static volatile sig_atomic_t handled;

__attribute__((used)) static void count_handled_signal(int signal)
{
    (void)signal;
    handled++;
}

#ifdef __x86_64__
/* Opens every key before it uses its stack. */
void open_stack_and_count(int signal);
__asm__(".text\n"
        "open_stack_and_count:\n\t"
        "xorl %eax, %eax\n\t"
        "xorl %ecx, %ecx\n\t"
        "xorl %edx, %edx\n\t"
        "wrpkru\n\t"
        "jmp count_handled_signal");

static void (*const stack_handlers[])(int) = {open_stack_and_count, count_handled_signal};
#else
static void (*const stack_handlers[2])(int);
#endif

enum { STACK_BYTES = 1 << 16 };

static void raise_on_closed_stack(void *handler)
{
    struct sigaction action = {.sa_handler = *(void (*const *)(int))handler,
                               .sa_flags = SA_ONSTACK};
    struct pkeyguard_region *closed;
    stack_t stack = {.ss_size = STACK_BYTES};

    if (pkeyguard_region_create(key, STACK_BYTES, PAGE_RW, 0, &closed) != 0)
        _exit(1);
    stack.ss_sp = address_of(closed);
    sigaltstack(&stack, NULL);
    sigaction(SIGUSR1, &action, NULL);
    signal(SIGSEGV, SIG_DFL);
    raise(SIGUSR1);
    assert_denied(READ_BYTE, stack.ss_sp, key);
    _exit(handled == 1 ? 0 : 1);
}

bool kernel_writes_to_closed_stacks(void)
{
    struct utsname kernel;
    int major, minor;

    ck_assert_int_eq(uname(&kernel), 0);
    ck_assert_int_eq(sscanf(kernel.release, "%d.%d", &major, &minor), 2);
    return major > 6 || (major == 6 && minor >= 12);
}

/*
 * Surprise: a signal whose alternate stack lies in a closed region kills the process before Linux
 * 6.12. Later kernels write the frame and start the handler, with the region closed: it must open
 * it before it uses its stack, which no function in C does.
 */
START_TEST(alternate_stack_in_a_closed_region_is_useless)
{
    bool delivered = kernel_writes_to_closed_stacks() && _i == 0;

    assert_ends(raise_on_closed_stack, (void *)(uintptr_t)&stack_handlers[_i], "",
                delivered ? 0 : SIGSEGV);
}
END_TEST

/* ---- fork copies rights, exec does not ---- */

/* Surprise: fork copies rights. pkeyguard_thread_reset() closes the child's copy. */
START_TEST(fork_child_has_the_scope_open)
{
    pkeyguard_scoped_write (char, byte, region) {
        pid_t child = fork();

        if (child == 0) {
            struct pkeyguard_key *second = new_key(PKEYGUARD_NO_ACCESS, 0);

            *byte = 'c';
            if (pku()) {
                ck_assert_int_ne(pkeyguard_key_number(second), pkeyguard_key_number(key));
                pkeyguard_thread_reset();
                assert_denied(READ_BYTE, address, key);
            }
            _exit(42);
        }
        assert_exits(child, 42);
        ck_assert_int_eq(*byte, 0);
    }
    assert_denied(READ_BYTE, address, key);
}
END_TEST

/* This program, run again, exits with 42 if every pkey but 0 is closed when it starts. */
static int starts_closed(void)
{
    for (int pkey = 1; pkey < 16; pkey++) {
        if (!(pkeyguard_pkru_read() & 1u << (2 * pkey)))
            return 1;
    }
    return 42;
}

static char *const run_again[] = {(char *)"/proc/self/exe", (char *)"--starts-closed", NULL};

static pid_t vfork_and_exec(void)
{
    pid_t child = vfork();

    if (child == 0) {
        execv(run_again[0], run_again);
        _exit(1);
    }
    return child;
}

/* Surprise: exec and posix_spawn reset rights, also inside a scope. */
START_TEST(exec_and_posix_spawn_start_closed)
{
    pkeyguard_scoped_write (char, byte, region) {
        pid_t child;

        ck_assert_int_eq(posix_spawn(&child, run_again[0], NULL, NULL, run_again, NULL), 0);
        assert_exits(child, 42);
        assert_exits(vfork_and_exec(), 42);
        *byte = 's';
    }
    assert_denied(READ_BYTE, address, key);
}
END_TEST

/* ---- the kernel frees pkey 0 ---- */

/*
 * Surprise: pkey_free(0) succeeds, although pkey 0 is that of all other memory, and then pkey_alloc
 * returns 0.
 */
START_TEST(pkey_0_is_never_a_key)
{
    struct pkeyguard_platform platform;
    struct pkeyguard_key *second;
    struct pkeyguard_region *of_second;

    ck_assert_int_eq(pkey_free(0), 0);
    ck_assert_int_eq(pkeyguard_platform_probe(&platform), 0);
    ck_assert_uint_eq(platform.hardware_keys_free, 14);
    second = new_key(PKEYGUARD_NO_ACCESS, 0);
    ck_assert_int_gt(pkeyguard_key_number(second), 0);
    of_second = new_region(second);
    assert_denied(READ_BYTE, address_of(of_second), second);
    destroy(of_second, second);
    /* The library has allocated pkey 0 again: pages without a key must carry it. */
    ck_assert_int_eq(pkeyguard_region_associate(region, NULL), 0);
    ck_assert_int_eq(pkey_of_mapping(address), 0);
}
END_TEST

/* ---- signal frames without PKRU, from which the kernel restores 0: every key open ---- */

#ifdef __x86_64__
enum frame { UNTOUCHED, WITHOUT_STATE, WITHOUT_PKRU };
static enum frame frame;
static struct sigaction reporter;

/* A handler of SIGSEGV that hands the reporter a changed copy of its frame. */
static void pass_frame_on(int signal, siginfo_t *info, void *ucontext)
{
    static char state[1 << 14];
    ucontext_t *context = ucontext, copy = *context;
    uint32_t size;

    if (frame != UNTOUCHED) {
        /*
         * struct _fpx_sw_bytes tells the size of the state; the bits of XSTATE_BV tell which parts
         * of it are valid.
         */
        memcpy(&size, (char *)context->uc_mcontext.fpregs + 468, sizeof(size));
        if (size > sizeof(state))
            _exit(1);
        memcpy(state, context->uc_mcontext.fpregs, size);
        state[513] &= ~(1 << (9 - 8));
        copy.uc_mcontext.fpregs = frame == WITHOUT_PKRU ? (fpregset_t)(void *)state : NULL;
        context = &copy;
    }
    reporter.sa_sigaction(signal, info, context);
}

static pthread_barrier_t created;

static void *read_when_created(void *unused)
{
    pthread_barrier_wait(&created);
    pthread_barrier_wait(&created);
    access_byte(READ_BYTE, address);
    return unused;
}

static void grant_through_frame(void *unused)
{
    struct sigaction action = {.sa_sigaction = pass_frame_on, .sa_flags = SA_SIGINFO};
    pthread_t thread;

    (void)unused;
    close(STDERR_FILENO);
    signal(SIGSEGV, SIG_DFL);
    if (pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_GRANT_DEFAULTS) != 0)
        _exit(1);
    sigaction(SIGSEGV, &action, &reporter);
    pthread_barrier_init(&created, NULL, 2);
    if (pthread_create(&thread, NULL, read_when_created, NULL) != 0)
        _exit(1);
    pthread_barrier_wait(&created);
    address = address_of(new_region(new_key(PKEYGUARD_READ_ONLY, 0)));
    pthread_barrier_wait(&created);
    pthread_join(thread, NULL);
}

/*
 * Surprise: a signal frame without PKRU means that every key is open. The reporter grants no rights
 * through one.
 */
START_TEST(signal_frame_without_pkru_grants_nothing)
{
    frame = (enum frame)_i;
    assert_ends(grant_through_frame, NULL, "", frame == UNTOUCHED ? 0 : SIGSEGV);
}
END_TEST

static int read_byte_at(void *byte)
{
    access_byte(READ_BYTE, byte);
    return 1;
}

/* After a tried call the thread has what the frame says, also on pkeys that are not the library's.
 */
START_TEST(signal_frame_without_pkru_gives_everything_back)
{
    struct sigaction action = {.sa_sigaction = pass_frame_on, .sa_flags = SA_SIGINFO};
    int foreign = pkey_alloc(0, PKEY_DISABLE_ACCESS), result;
    uint32_t ad = 1u << (2 * foreign);
    struct pkeyguard_fault fault;

    frame = (enum frame)_i;
    ck_assert_int_gt(foreign, 0);
    ck_assert_int_eq(pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_RECOVER), 0);
    sigaction(SIGSEGV, &action, &reporter);
    ck_assert_int_eq(pkeyguard_try_call(read_byte_at, address, &result, &fault), -EFAULT);
    ck_assert_int_eq(fault.rights, frame == UNTOUCHED ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_WRITE);
    ck_assert_uint_eq(pkeyguard_pkru_read() & 3 * ad, frame == UNTOUCHED ? ad : 0);
    assert_denied(READ_BYTE, address, key);
    pkey_free(foreign);
}
END_TEST
#else
enum { UNTOUCHED, WITHOUT_PKRU = 2 };
START_TEST(signal_frame_without_pkru_grants_nothing)
{
    ck_abort();
}
END_TEST

START_TEST(signal_frame_without_pkru_gives_everything_back)
{
    ck_abort();
}
END_TEST
#endif

/* ---- system calls ---- */

static atomic_int reader_id;
static int pipe_ends[2];

static void *read_into_region(void *unused)
{
    (void)unused;
    pkeyguard_scoped_write (char[PAGE_BYTES], bytes, region) {
        reader_id = (int)syscall(SYS_gettid);
        ck_assert_int_eq(syscall(SYS_read, pipe_ends[0], *bytes, 4), -1);
        ck_assert_int_eq(errno, EFAULT);
    }
    return NULL;
}

/*
 * Surprise: revoking must reach calls that are blocked. Here a read(2) that began inside an open
 * scope.
 */
START_TEST(blocked_read_gets_efault_after_revocation)
{
    char bytes[5] = "";
    pthread_t thread;

    ck_assert_int_eq(pipe(pipe_ends), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, read_into_region, NULL), 0);
    while (reader_id == 0)
        sched_yield();
    wait_until_asleep(reader_id);
    ck_assert_int_eq(pkeyguard_region_protect(region, PROT_NONE), 0);
    ck_assert_int_eq(write(pipe_ends[1], "data", 4), 4);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(read(pipe_ends[0], bytes, 4), 4);
    ck_assert_str_eq(bytes, "data");
}
END_TEST

void assert_efault(long result)
{
    ck_assert_int_eq(result, -1);
    ck_assert_int_eq(errno, EFAULT);
}

/*
 * Surprise: a system call on closed memory gets EFAULT, not SIGSEGV. What it was to read is not
 * lost. Raw system calls, because sanitizers check the arguments of libc's functions.
 */
START_TEST(system_call_on_closed_memory_loses_nothing)
{
    struct iovec vector = {.iov_base = address, .iov_len = 4};
    int sockets[2];

    ck_assert_int_eq(pipe(pipe_ends), 0);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    ck_assert_int_eq(write(pipe_ends[1], "pipe", 4), 4);
    ck_assert_int_eq(write(sockets[1], "sock", 4), 4);
    assert_efault(syscall(SYS_read, pipe_ends[0], address, 4));
    assert_efault(syscall(SYS_readv, pipe_ends[0], &vector, 1));
    assert_efault(syscall(SYS_recvfrom, sockets[0], address, 4, 0, NULL, NULL));
    assert_efault(syscall(SYS_write, pipe_ends[1], address, 4));
    assert_efault(syscall(SYS_sendto, sockets[1], address, 4, 0, NULL, 0));
    assert_efault(syscall(SYS_getrandom, address, 4, 0));
    assert_efault(syscall(SYS_openat, AT_FDCWD, address, O_RDONLY));
    assert_efault(syscall(SYS_futex, address, 0 /* FUTEX_WAIT */, 1, NULL, NULL, 0));
    pkeyguard_scoped_write (char[8], bytes, region) {
        ck_assert_int_eq(syscall(SYS_read, pipe_ends[0], *bytes, 8), 4);
        ck_assert_int_eq(syscall(SYS_recvfrom, sockets[0], *bytes + 4, 4, 0, NULL, NULL), 4);
        ck_assert_mem_eq(*bytes, "pipesock", 8);
        ck_assert_int_eq(syscall(SYS_getrandom, *bytes, 4, 0), 4);
    }
}
END_TEST

/* ---- execute-only memory ---- */

static const unsigned char return_code[] = {0xc3};

static char *map_execute_only(void)
{
    char *page = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    memcpy(page, return_code, sizeof(return_code));
    ck_assert_int_eq(mprotect(page, PAGE_BYTES, PROT_EXEC), 0);
    return page;
}

int create_keys(struct pkeyguard_key *keys[16])
{
    int count = 0, error = 0;

    while (error == 0) {
        error = pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &keys[count]);
        count += error == 0;
    }
    ck_assert_int_eq(error, -ENOSPC);
    return count;
}

void destroy_keys(struct pkeyguard_key *keys[16], int count)
{
    while (count > 0)
        destroy(NULL, keys[--count]);
}

/* Surprise: execute-only memory takes a pkey. */
START_TEST(execute_only_mapping_takes_a_pkey)
{
    struct pkeyguard_key *keys[16];
    char *page = map_execute_only();
    struct fault fault = try_access(READ_BYTE, page);
    int count = create_keys(keys);

    ck_assert_int_eq(fault.code, SEGV_PKUERR);
    ck_assert_int_eq(count, 13); /* of 15: the suite has one, the kernel took one for the mapping */
    destroy_keys(keys, count);
    munmap(page, PAGE_BYTES);
}
END_TEST

/*
 * Surprise: execute-only memory is silently readable when no pkey is left for it. A region with
 * PROT_EXEC alone is not, because it has its key's pkey.
 */
START_TEST(execute_only_mapping_is_readable_without_a_free_pkey)
{
    struct pkeyguard_key *keys[16];
    int count = create_keys(keys);
    char *page = map_execute_only();
    struct pkeyguard_region *code;

    assert_allowed(READ_BYTE, page);
    ck_assert_int_eq(pkeyguard_region_create_with(keys[0], return_code, sizeof(return_code),
                                                  PROT_EXEC, 0, &code),
                     0);
    assert_allowed(EXECUTE, address_of(code));
    assert_denied(READ_BYTE, address_of(code), keys[0]);
    destroy(code, NULL);
    destroy_keys(keys, count);
    munmap(page, PAGE_BYTES);
}
END_TEST

/* Surprise: mprotect(PROT_EXEC) replaces a page's pkey. pkeyguard_region_protect() keeps it. */
START_TEST(protect_keeps_the_pkey)
{
    static const int prots[] = {PROT_EXEC, PAGE_RW, PROT_NONE, PROT_EXEC, PROT_READ};
    int pkey = pkeyguard_key_number(key);
    char *page = mmap(NULL, PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    ck_assert_int_eq(pkey_mprotect(page, PAGE_BYTES, PAGE_RW, pkey), 0);
    ck_assert_int_eq(mprotect(page, PAGE_BYTES, PROT_EXEC), 0);
    ck_assert_int_ne(pkey_of_mapping(page), pkey);
    munmap(page, PAGE_BYTES);
    for (size_t i = 0; i < sizeof(prots) / sizeof(*prots); i++) {
        ck_assert_int_eq(pkeyguard_region_protect(region, prots[i]), 0);
        ck_assert_int_eq(pkey_of_mapping(address), pkey);
        assert_denied(READ_BYTE, address, key);
    }
}
END_TEST

/* ---- what SIGSEGV says ---- */

static sigjmp_buf after_fault;
static struct pkeyguard_fault fault;

static void decode(int signal, siginfo_t *info, void *ucontext)
{
    (void)signal;
    if (pkeyguard_fault_decode(info, ucontext, &fault) != 0)
        _exit(1);
    siglongjmp(after_fault, 1);
}

/*
 * Surprise: SIGSEGV says little. Its address is the first byte that is forbidden, not the first one
 * that was accessed.
 */
START_TEST(straddling_access_reports_the_first_forbidden_byte)
{
    struct unaligned {
        uint64_t word;
    } __attribute__((packed)) *last = (struct unaligned *)(void *)(address + PAGE_BYTES - 4);
    struct sigaction action = {.sa_sigaction = decode, .sa_flags = SA_SIGINFO}, before;
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_key_acquire(key, PKEYGUARD_READ_WRITE, &guard), 0);
    sigaction(SIGSEGV, &action, &before);
    if (sigsetjmp(after_fault, 1) == 0) {
        *(volatile struct unaligned *)last = (struct unaligned){UINT64_MAX};
        ck_abort_msg("it did not fault");
    }
    sigaction(SIGSEGV, &before, NULL);
    pkeyguard_release(&guard);
    ck_assert_int_eq(fault.kind, PKEYGUARD_FAULT_GUARD_PAGE);
    ck_assert_int_eq(fault.access, PKEYGUARD_WRITE_ACCESS);
    ck_assert_int_eq(fault.offset, PAGE_BYTES);
}
END_TEST

void add_pkeys_test(TCase *tests, const TTest *test, int times)
{
    if (HAS_PKEYS)
        add_pku_loop_test(tests, test, 0, times);
    else
        add_loop_test_if(false, NO_PKEYS, tests, test, 0, times);
}

int main(int argc, char *argv[])
{
    Suite *suite = suite_create("pitfalls");
    TCase *tests = add_case(suite, "pitfalls", set_up, tear_down);

    if (argc > 1 && strcmp(argv[1], run_again[1]) == 0)
        return starts_closed();
    /* ThreadSanitizer does not deliver a signal inside a handler. */
    if (!under_tool("tsan"))
        tcase_add_test(tests, nested_handlers_have_their_own_rights);
    tcase_add_test(tests, scope_opens_on_an_alternate_stack);
    tcase_add_test(tests, fork_child_has_the_scope_open);
    add_pku_test(tests, exec_and_posix_spawn_start_closed);
    add_pku_test(tests, pkey_0_is_never_a_key);
    add_pkeys_test(tests, signal_frame_without_pkru_grants_nothing, WITHOUT_PKRU + 1);
    add_pkeys_test(tests, signal_frame_without_pkru_gives_everything_back, WITHOUT_PKRU + 1);
    add_pkeys_test(tests, alternate_stack_in_a_closed_region_is_useless, 2);
    tcase_add_test(tests, blocked_read_gets_efault_after_revocation);
    /* valgrind reports each of these system calls. */
    if (!under_tool("valgrind"))
        tcase_add_test(tests, system_call_on_closed_memory_loses_nothing);
    add_pku_test(tests, execute_only_mapping_takes_a_pkey);
    add_pku_test(tests, execute_only_mapping_is_readable_without_a_free_pkey);
    add_pku_test(tests, protect_keeps_the_pkey);
    tcase_add_test(tests, straddling_access_reports_the_first_forbidden_byte);
    add_kernels_key_tests(suite);
    add_kernels_signal_tests(suite);
    return run_suite(suite);
}
