/* SPDX-License-Identifier: MIT */
/*
 * The system calls that platform.h promises for each phase. The child process prepares what a phase
 * needs, installs a seccomp(2) filter that kills it for any other system call, and goes through the
 * phase.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "place.h"
#include "test_platform.h"

/* For seccomp(2). The kernel's own headers define these; a system with musl may lack the headers.
 */
struct filter_step {
    uint16_t code;
    uint8_t if_true, if_false; /* steps to skip */
    uint32_t operand;
};
struct filter {
    unsigned short length;
    struct filter_step *steps;
};
enum { LOAD_WORD = 0x20, JUMP_IF_EQUAL = 0x15, RETURN = 0x06 };
enum { NUMBER_OFFSET = 0 }; /* of struct seccomp_data's first member, the system call's number */
enum { SET_FILTER = 1, EVERY_THREAD = 1 };
#define ALLOW            0x7fff0000u
#define KILL_PROCESS     0x80000000u
#define FAIL_WITH(error) (0x00050000u | (error))

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

/* The arrays of system calls end with this. 0 is one. */
enum { END = -1 };

static void exit_unless(bool as_expected, int line)
{
    if (!as_expected) {
        dprintf(STDERR_FILENO, "%s:%d\n", __FILE__, line);
        _exit(1);
    }
}
#define EXPECT(condition) exit_unless(condition, __LINE__)

/* In every thread. Only these calls and those of `always` are left. */
static void enter_sandbox(const int *calls)
{
    static const int always[] = {SYS_read, SYS_write, SYS_exit, SYS_exit_group, END};
    const int *lists[] = {always, calls};
    struct filter_step steps[100] = {{LOAD_WORD, 0, 0, NUMBER_OFFSET}};
    struct filter filter = {.length = 1, .steps = steps};

    for (int i = 0; i < 2; i++) {
        for (const int *call = lists[i]; *call != END; call++) {
            steps[filter.length++] = (struct filter_step){JUMP_IF_EQUAL, 0, 1, (uint32_t)*call};
            steps[filter.length++] = (struct filter_step){RETURN, 0, 0, ALLOW};
        }
    }
    steps[filter.length++] = (struct filter_step){RETURN, 0, 0, KILL_PROCESS};
    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(syscall(SYS_seccomp, SET_FILTER, EVERY_THREAD, &filter) == 0);
}

/* In every thread. This call alone fails from now on. */
static void refuse_in_kernel(int call)
{
    struct filter_step steps[] = {{LOAD_WORD, 0, 0, NUMBER_OFFSET},
                                  {JUMP_IF_EQUAL, 0, 1, (uint32_t)call},
                                  {RETURN, 0, 0, FAIL_WITH(EPERM)},
                                  {RETURN, 0, 0, ALLOW}};
    struct filter filter = {.length = 4, .steps = steps};

    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    EXPECT(syscall(SYS_seccomp, SET_FILTER, EVERY_THREAD, &filter) == 0);
}

/* ---- what phases use ---- */

enum { KEYS = 20, LARGE = 64 * PAGE_BYTES };
static struct pkeyguard_key *key, *virtual_keys[KEYS];
static struct pkeyguard_region *region, *regions[KEYS];
static struct pkeyguard_heap *heap;
static char *own_memory; /* a page to adopt */

static void make_key(void)
{
    key = new_key(PKEYGUARD_NO_ACCESS, 0);
}

static void make_software_key(void)
{
    key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
}

static void map_own_memory(void)
{
    own_memory = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(own_memory != MAP_FAILED);
}

static void make_region_of(struct pkeyguard_key *of)
{
    EXPECT(pkeyguard_region_create(of, LARGE, PAGE_RW, 0, &region) == 0);
}

static void make_region(void)
{
    make_key();
    make_region_of(key);
}

static void make_software_region(void)
{
    make_software_key();
    make_region_of(key);
}

static void make_heap(void)
{
    EXPECT(pkeyguard_heap_create(key, 1 << 20, 0, &heap) == 0);
}

static void make_region_and_heap(void)
{
    make_region();
    make_heap();
}

static void make_software_region_and_heap(void)
{
    make_software_region();
    make_heap();
}

static void make_adopted(void)
{
    make_key();
    map_own_memory();
    EXPECT(pkeyguard_region_adopt(key, own_memory, PAGE_BYTES, PAGE_RW, 0, &region) == 0);
}

static void make_virtual(void)
{
    for (int i = 0; i < KEYS; i++) {
        virtual_keys[i] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
        regions[i] = new_region(virtual_keys[i]);
    }
    region = regions[0];
}

static void open_region(void)
{
    pkeyguard_scoped_write (char, byte, region)
        *byte = 1;
}

static void make_bound_virtual(void)
{
    make_virtual();
    open_region();
}

/* ---- a thread that waits by read(2), which every sandbox here allows ---- */

static int to_thread[2], from_thread[2];
static void (*thread_runs)(void);

static void *run_when_told(void *unused)
{
    char byte = 0;

    EXPECT(write(from_thread[1], &byte, 1) == 1);
    EXPECT(read(to_thread[0], &byte, 1) == 1);
    thread_runs();
    EXPECT(write(from_thread[1], &byte, 1) == 1);
    EXPECT(read(to_thread[0], &byte, 1) == 1);
    return unused;
}

/* The C library's start of the thread is over when this returns. */
static void start_thread(void (*run)(void))
{
    pthread_t thread;
    char byte;

    thread_runs = run;
    EXPECT(pipe(to_thread) == 0 && pipe(from_thread) == 0 &&
           pthread_create(&thread, NULL, run_when_told, NULL) == 0);
    EXPECT(read(from_thread[0], &byte, 1) == 1);
}

static void run_in_thread(void)
{
    char byte = 0;

    EXPECT(write(to_thread[1], &byte, 1) == 1 && read(from_thread[0], &byte, 1) == 1);
}

/* ---- phases ---- */

static void use_guards(void)
{
    struct pkeyguard_guard guard;

    for (int i = 0; i < 3; i++)
        open_region();
    pkeyguard_scoped_write (char, bytes, region) {
        bytes[1] = 2;
        pkeyguard_scoped_read (char, again, region)
            EXPECT(again[1] == 2);
        pkeyguard_scoped_restrict (narrowed, region, PKEYGUARD_READ_ONLY)
            EXPECT(bytes[0] == 1);
    }
    EXPECT(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &guard) == 0);
    pkeyguard_release(&guard);
}

static void use_key(void)
{
    pkeyguard_scoped_key_read (guard, key)
        EXPECT(pkeyguard_key_rights(key) == PKEYGUARD_READ_ONLY);
    EXPECT(pkeyguard_key_set_rights(key, PKEYGUARD_READ_ONLY) == 0 &&
           pkeyguard_key_set_rights(key, PKEYGUARD_NO_ACCESS) == 0);
}

static void use_heap(void)
{
    static const size_t sizes[] = {1, 16, 100, 2000, 5000, 100000};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        void *object = pkeyguard_heap_alloc(heap, sizes[i]);
        void *other = pkeyguard_heap_calloc(heap, 3, sizes[i]);

        EXPECT(object != NULL && other != NULL && pkeyguard_heap_of(object) == heap);
        EXPECT(pkeyguard_heap_usable_size(heap, object) >= sizes[i]);
        object = pkeyguard_heap_realloc(heap, object, 2 * sizes[i]);
        EXPECT(object != NULL && pkeyguard_heap_free(heap, object) == 0 &&
               pkeyguard_heap_free(heap, other) == 0);
    }
}

static void use_thread_functions(void)
{
    struct pkeyguard_thread_rights rights, other;

    pkeyguard_thread_save(&rights);
    open_region();
    pkeyguard_thread_restore(&rights);
    EXPECT(pkeyguard_thread_switch(&other, NULL) == 0 &&
           pkeyguard_thread_switch(&rights, &other) == 0);
    pkeyguard_thread_reset();
}

static void make_open_software_heap(void)
{
    static struct pkeyguard_guard guard;

    make_software_region_and_heap();
    EXPECT(pkeyguard_acquire(pkeyguard_heap_region(heap), PKEYGUARD_READ_WRITE, &guard) == 0);
}

static void use_everything(void)
{
    use_guards();
    use_key();
    use_heap();
    use_thread_functions();
}

static void make_all_and_thread(void)
{
    make_region_and_heap();
    start_thread(use_everything);
}

static void use_everything_in_two_threads(void)
{
    use_everything();
    run_in_thread();
}

static void create_regions(void)
{
    make_region_of(key);
    EXPECT(pkeyguard_region_create(NULL, 1, PAGE_RW, PKEYGUARD_REGION_NO_FORK, &region) == 0);
    EXPECT(pkeyguard_region_create(key, 1, PAGE_RW, PKEYGUARD_REGION_FORK_WIPE, &region) == 0);
    EXPECT(pkeyguard_region_create_with(key, "content", 8, PROT_READ, 0, &region) == 0);
    make_heap();
}

static void create_locked(void)
{
    EXPECT(pkeyguard_region_create(key, 1, PAGE_RW, PKEYGUARD_REGION_LOCKED, &region) == 0);
    EXPECT(pkeyguard_heap_create(key, LARGE, PKEYGUARD_REGION_LOCKED, &heap) == 0);
    EXPECT(pkeyguard_heap_free(heap, pkeyguard_heap_alloc(heap, 1)) == 0);
}

static void create_secret(void)
{
    EXPECT(pkeyguard_region_create(key, 1, PAGE_RW, PKEYGUARD_REGION_SECRET, &region) == 0);
}

static void create_sealed(void)
{
    EXPECT(pkeyguard_region_create(key, 1, PAGE_RW, PKEYGUARD_REGION_SEALED, &region) == 0);
}

static void make_key_and_own_memory(void)
{
    make_key();
    map_own_memory();
}

static void adopt_own_memory(void)
{
    EXPECT(pkeyguard_region_adopt(key, own_memory, PAGE_BYTES, PAGE_RW | PROT_EXEC, 0, &region) ==
           0);
}

static int use_guards_and_fault(void *unused)
{
    (void)unused;
    use_guards();
    access_byte(WRITE_BYTE, address_of(region));
    return 0;
}

static void make_region_and_recover(void)
{
    make_region();
    EXPECT(pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_RECOVER) == 0);
}

static void call_foreign_code(void)
{
    struct pkeyguard_fault fault;
    int result;

    pkeyguard_scoped_closed (gate)
        use_guards();
    EXPECT(pkeyguard_try_call(use_guards_and_fault, NULL, &result, &fault) == -EFAULT);
}

static void change_region(void)
{
    EXPECT(pkeyguard_region_name(region, "name") == 0 &&
           pkeyguard_region_protect(region, PROT_READ) == 0 &&
           pkeyguard_region_associate(region, NULL) == 0 &&
           pkeyguard_region_associate(region, key) == 0);
}

static void open_all(void)
{
    for (int i = 0; i < KEYS; i++) {
        pkeyguard_scoped_write (char, byte, regions[i])
            *byte = 1;
    }
}

static void register_thread(void)
{
    EXPECT(pkeyguard_thread_register() == 0);
}

static void make_virtual_and_thread(void)
{
    make_virtual();
    start_thread(register_thread);
}

static void open_all_beside_a_thread(void)
{
    run_in_thread();
    open_all();
}

static void use_bound_virtual(void)
{
    use_guards();
}

static void destroy_region_and_key(void)
{
    EXPECT(pkeyguard_region_destroy(region) == 0 && pkeyguard_key_destroy(key) == 0);
}

static void make_used_region_and_heap(void)
{
    make_region_and_heap();
    open_region();
    use_heap();
}

static void destroy_everything(void)
{
    EXPECT(pkeyguard_heap_destroy(heap) == 0);
    destroy_region_and_key();
}

static void make_and_unmap_adopted(void)
{
    make_adopted();
    munmap(own_memory, PAGE_BYTES);
}

static void destroy_unmapped(void)
{
    EXPECT(pkeyguard_region_destroy(region) == -ESTALE && pkeyguard_key_destroy(key) == 0);
}

static void destroy_virtual(void)
{
    for (int i = 0; i < KEYS; i++)
        EXPECT(pkeyguard_region_destroy(regions[i]) == 0 &&
               pkeyguard_key_destroy(virtual_keys[i]) == 0);
}

static void survive(int signal)
{
    static const char done[] = "survived\n";

    (void)!write(STDERR_FILENO, done, sizeof(done) - 1);
    _exit(signal == SIGSEGV ? 0 : 1);
}

static void close_stderr(void)
{
    close(STDERR_FILENO);
}

static void make_region_and_handler(void)
{
    make_region();
    signal(SIGSEGV, survive);
    close_stderr();
}

static void check_region(void)
{
    EXPECT(pkeyguard_region_check(region, PKEYGUARD_CHECK_REPAIR, NULL) == 0);
}

static void report_a_fault(void)
{
    EXPECT(pkeyguard_fault_reporter_install(0) == 0);
    access_byte(WRITE_BYTE, address_of(region));
}

static void use_functions_with_virtual_keys(void)
{
    use_thread_functions();
    register_thread();
    pkeyguard_thread_reset();
}

static void use_signal(void)
{
    EXPECT(pkeyguard_thread_use_signal(SIGURG) == 0);
}

static void protect_records(void)
{
    EXPECT(pkeyguard_protect_records() == 0);
}

static void make_and_protect(void)
{
    make_region();
    protect_records();
}

/* Enough for their records to get new memory; and a child gets copies of them. */
static void make_many_regions(void)
{
    pid_t child;
    int status;

    for (int i = 0; i < 600; i++)
        EXPECT(pkeyguard_region_create(key, 1, PAGE_RW, 0, &region) == 0);
    child = fork();
    if (child == 0)
        _exit(pkeyguard_region_destroy(region) == 0 ? 0 : 1);
    EXPECT(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

/* More keys than pkeys, one after the other, beside a thread that calls nothing of the library. */
static void use_signal_and_start_thread(void)
{
    use_signal();
    start_thread(use_signal);
}

static void make_keys_again(void)
{
    make_key();
    EXPECT(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_READ_ONLY) == 0);
    EXPECT(pkeyguard_key_destroy(key) == 0);
    for (int i = 0; i < 2 * KEYS; i++) {
        make_key();
        EXPECT(pkeyguard_key_destroy(key) == 0);
    }
}

#define LOCKING    SYS_rt_sigprocmask, SYS_futex
#define PROTECTING SYS_mprotect, SYS_pkey_mprotect
#define COUNTING   SYS_openat, SYS_fstat, SYS_close, SYS_lseek, SYS_getdents64
#define MAPPING    SYS_mmap, SYS_munmap, SYS_madvise
#define VIRTUAL                                                                      \
    LOCKING, SYS_pkey_mprotect, SYS_pkey_alloc, SYS_pkey_free, SYS_mmap, SYS_munmap, \
        SYS_membarrier, SYS_gettid, SYS_process_vm_readv, SYS_unshare, COUNTING

#define RECORDS MAPPING, PROTECTING, SYS_mremap

static const struct phase {
    const char *name;
    void (*prepare)(void), (*run)(void);
    int calls[40];
} pku_phases[] = {
    {"dedicated key, heap, thread functions",
     make_all_and_thread,
     use_everything_in_two_threads,
     {END}},
    {"SEALED", make_key, create_sealed, {LOCKING, PROTECTING, MAPPING, SYS_mseal, END}},
    {"virtual keys", NULL, make_virtual, {VIRTUAL, SYS_madvise, END}},
    {"virtual key that has a pkey", make_bound_virtual, use_bound_virtual, {END}},
    {"virtual keys that need a pkey", make_virtual, open_all, {VIRTUAL, END}},
    {"virtual keys beside a thread",
     make_virtual_and_thread,
     open_all_beside_a_thread,
     {VIRTUAL, END}},
    {"end of virtual keys", make_bound_virtual, destroy_virtual, {VIRTUAL, END}},
    {"thread functions with virtual keys",
     make_bound_virtual,
     use_functions_with_virtual_keys,
     {VIRTUAL, END}},
    {"choice of a signal", NULL, use_signal, {LOCKING, SYS_getpid, SYS_rt_sigaction, END}},
    {"keys closed by the signal",
     use_signal_and_start_thread,
     make_keys_again,
     {VIRTUAL, SYS_getpid, SYS_rt_sigaction, SYS_rt_sigreturn, SYS_tgkill, SYS_clock_nanosleep,
      SYS_clock_gettime, END}},
    {"protected records",
     make_region,
     protect_records,
     {LOCKING, RECORDS, SYS_pkey_alloc, SYS_pkey_free, END}},
    {"protected records that are many",
     make_and_protect,
     make_many_regions,
     {LOCKING, RECORDS, SYS_clone, SYS_set_robust_list, SYS_wait4, SYS_getpid, SYS_gettid, END}},
};

static const struct phase phases[] = {
    {"key",
     NULL,
     make_key,
     {LOCKING, SYS_pkey_alloc, SYS_pkey_free, SYS_pkey_mprotect, SYS_mmap, SYS_munmap, END}},
    {"software key", NULL, make_software_key, {LOCKING, SYS_mmap, END}},
    {"heap of a software key that is open", make_open_software_heap, use_heap, {END}},
    {"region", make_key, create_regions, {LOCKING, PROTECTING, MAPPING, SYS_membarrier, END}},
    {"LOCKED",
     make_key,
     create_locked,
     {LOCKING, PROTECTING, MAPPING, SYS_mlock, SYS_membarrier, END}},
    {"SECRET",
     make_key,
     create_secret,
     {LOCKING, PROTECTING, MAPPING, SYS_memfd_secret, SYS_ftruncate, SYS_getcpu, SYS_prlimit64,
      SYS_close, END}},
    {"adoption",
     make_key_and_own_memory,
     adopt_own_memory,
     {LOCKING, PROTECTING, SYS_mmap, SYS_prctl, SYS_openat, SYS_ioctl, SYS_newfstatat, SYS_madvise,
      SYS_close, END}},
    {"changes of a region", make_region, change_region, {LOCKING, PROTECTING, SYS_prctl, END}},
    {"foreign code",
     make_region_and_recover,
     call_foreign_code,
     {LOCKING, SYS_mprotect, SYS_gettid, SYS_prctl, SYS_mmap, SYS_munmap, END}},
    {"check of a region", make_region, check_region, {LOCKING, SYS_openat, SYS_close, END}},
    {"software key, guards and heap",
     make_software_region_and_heap,
     use_everything,
     {LOCKING, SYS_mprotect, END}},
    {"end of region, heap and key",
     make_used_region_and_heap,
     destroy_everything,
     {LOCKING, PROTECTING, SYS_munmap, SYS_openat, SYS_pread64, SYS_close, END}},
    {"end of adoption", make_adopted, destroy_region_and_key, {LOCKING, PROTECTING, END}},
    {"end of unmapped memory",
     make_and_unmap_adopted,
     destroy_unmapped,
     {LOCKING, PROTECTING, SYS_msync, END}},
    {"reporter",
     make_region_and_handler,
     report_a_fault,
     {LOCKING, SYS_mmap, SYS_rt_sigaction, SYS_sigaltstack, SYS_writev, SYS_gettid, SYS_prctl,
      END}},
};
enum {
    PHASES = sizeof(phases) / sizeof(*phases),
    PKU_PHASES = sizeof(pku_phases) / sizeof(*pku_phases)
};

static bool possible_here(const struct phase *phase)
{
    return (strcmp(phase->name, "SEALED") != 0 || test_platform()->sealing) &&
           (strcmp(phase->name, "SECRET") != 0 || test_platform()->secret_memory);
}

static void run_phase(void *argument)
{
    const struct phase *phase = argument;

    if (phase->prepare != NULL)
        phase->prepare();
    enter_sandbox(phase->calls);
    phase->run();
    _exit(0);
}

static void assert_phase_lives(const struct phase *phase)
{
    char said[256];
    int status;

    if (!possible_here(phase))
        return;
    status = run_in_child(run_phase, (void *)(uintptr_t)phase, said, sizeof(said));
    ck_assert_msg(status == 0, "%s: status %#x, %s", phase->name, (unsigned)status, said);
}

START_TEST(phase_makes_no_other_system_call)
{
    assert_phase_lives(&phases[_i]);
}
END_TEST

START_TEST(phase_under_pku_makes_no_other_system_call)
{
    assert_phase_lives(&pku_phases[_i]);
}
END_TEST

/* The filter works: it kills for a call that a phase needs. */
START_TEST(sandbox_kills)
{
    struct phase none = phases[0];
    char said[256];

    none.calls[0] = END;
    ck_assert_int_eq(run_in_child(run_phase, &none, said, sizeof(said)) & 0x7f, SIGSYS);
}
END_TEST

static void raise_and_open(int unused)
{
    (void)unused;
    open_all();
}

static void open_in_handler_and_outside(void)
{
    signal(SIGUSR1, raise_and_open);
    raise(SIGUSR1);
    open_all();
}

/* Before it opens its first virtual key, the library searches its stack. */
static void open_in_older_thread(void *refused)
{
    start_thread(*(int *)refused == SYS_process_vm_readv ? open_in_handler_and_outside : open_all);
    make_bound_virtual();
    refuse_in_kernel(*(int *)refused);
    run_in_thread();
    open_all();
}

/* Each of these calls has another way where a sandbox refuses it. */
START_TEST(virtual_keys_do_without_a_call)
{
    static int refused[] = {SYS_process_vm_readv, SYS_unshare};

    assert_ends(open_in_older_thread, &refused[_i], "", 0);
}
END_TEST

/* The lists are for glibc on x86-64; sanitizers and valgrind make calls of their own. */
void add_sandbox(Suite *suite)
{
    TCase *tests = add_case(suite, "sandbox", NULL, NULL);

    if (!HAS_PKEYS || !MALLOC_IS_IN_HEAP || under_tool(NULL))
        return;
    tcase_add_loop_test(tests, phase_makes_no_other_system_call, 0, PHASES);
    add_pku_loop_test(tests, phase_under_pku_makes_no_other_system_call, 0, PKU_PHASES);
    add_pku_loop_test(tests, virtual_keys_do_without_a_call, 0, 2);
    tcase_add_test(tests, sandbox_kills);
}
