/* SPDX-License-Identifier: MIT */
#include "support.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "place.h"

static int left_to_guest, not_run;

/*
 * Asks in a child process: the library reads the environment once, and some tests change it before
 * they use the library.
 */
const struct pkeyguard_platform *test_platform(void)
{
    static struct pkeyguard_platform platform;
    static bool known;
    int pipe_ends[2];
    pid_t child;
    bool told;

    if (known)
        return &platform;
    child = pipe(pipe_ends) == 0 ? fork() : -1;
    if (child == 0)
        _exit(pkeyguard_platform_probe(&platform) == 0 &&
                      write(pipe_ends[1], &platform, sizeof(platform)) == sizeof(platform)
                  ? 0
                  : 1);
    close(pipe_ends[1]);
    told = child > 0 && read(pipe_ends[0], &platform, sizeof(platform)) == sizeof(platform);
    close(pipe_ends[0]);
    if (!told || waitpid(child, NULL, 0) != child) {
        fprintf(stderr, "cannot tell what this machine gives\n");
        exit(1);
    }
    known = true;
    return &platform;
}

enum pkeyguard_enforcement test_enforcement(void)
{
    return test_platform()->enforcement;
}

bool pku(void)
{
    return test_enforcement() == PKEYGUARD_PKU;
}

bool under_tool(const char *tool)
{
    const char *current = getenv("PKEYGUARD_TEST_TOOL");

    return current != NULL && (tool == NULL || strcmp(current, tool) == 0);
}

bool in_guest(void)
{
    return getenv("PKEYGUARD_TEST_GUEST") != NULL;
}

TCase *add_case(Suite *suite, const char *name, void (*set_up)(void), void (*tear_down)(void))
{
    TCase *tests = tcase_create(name);

    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 300);
    return tests;
}

void add_loop_test(TCase *tcase, const TTest *test, int start, int end)
{
    bool first_only = under_tool("valgrind") && end > start;

    _tcase_add_test(tcase, test, 0, 0, start, first_only ? start + 1 : end);
}

void add_pku_loop_test(TCase *tcase, const TTest *test, int start, int end)
{
    if (pku())
        tcase_add_loop_test(tcase, test, start, end);
    else
        left_to_guest += end - start;
}

void add_loop_test_if(bool possible, const char *why_not, TCase *tcase, const TTest *test,
                      int start, int end)
{
    if (possible) {
        tcase_add_loop_test(tcase, test, start, end);
    } else {
        printf("not run: %s: %s\n", test->name, why_not);
        not_run += end - start;
    }
}

/* For the place guest-protected: every test, in a child process, starts with protected records. */
static void protect_records_if_asked(void)
{
    if (getenv("PKEYGUARD_TEST_PROTECT") == NULL)
        return;
    if (pkeyguard_protect_records() != 0) {
        fprintf(stderr, "cannot protect the records\n");
        exit(1);
    }
}

int run_suite(Suite *suite)
{
    bool under_pku = pku(); /* asked now, because it forks and tests start threads */
    const char *expected = getenv("PKEYGUARD_TEST_EXPECT");
    SRunner *runner = srunner_create(suite);
    int failed;

    /* Unbuffered: a test that crashes must not lose what it printed. */
    setvbuf(stdout, NULL, _IONBF, 0);
    protect_records_if_asked();
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    printf("enforcement: %s; checks: %d; failed: %d; left to the PKU guest: %d; not run: %d\n",
           under_pku ? "PKU" : "mprotect", srunner_ntests_run(runner), failed, left_to_guest,
           not_run);
    if (srunner_ntests_run(runner) == 0)
        failed++;
    srunner_free(runner);
    if (expected != NULL && strcmp(expected, under_pku ? "pku" : "mprotect") != 0) {
        printf("this run was to have %s enforcement\n", expected);
        failed++;
    }
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static __thread sigjmp_buf after_fault;
static __thread siginfo_t fault_info;

static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    fault_info = *info;
    siglongjmp(after_fault, 1);
}

void access_byte(enum access access, const volatile void *address)
{
    if (access == READ_BYTE)
        (void)*(const volatile char *)address;
    else if (access == WRITE_BYTE)
        *(volatile char *)(uintptr_t)address = 'w';
    else
        ((void (*)(void))(uintptr_t)address)();
}

struct fault try_access(enum access access, const volatile void *address)
{
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, before;
    volatile uint32_t pkru = pkeyguard_pkru_supported() ? pkeyguard_pkru_read() : 0;
    struct fault fault = {.pkey = -1};

    sigaction(SIGSEGV, &action, &before);
    if (sigsetjmp(after_fault, 1) == 0) {
        access_byte(access, address);
    } else {
        /* After siglongjmp PKRU is still the handler's: bring the test's back. */
        if (pkeyguard_pkru_supported())
            pkeyguard_pkru_write(pkru);
        fault.happened = true;
        fault.code = fault_info.si_code;
        fault.address = fault_info.si_addr;
        if (fault.code == SEGV_PKUERR)
            fault.pkey = (int)fault_info.si_pkey;
    }
    sigaction(SIGSEGV, &before, NULL);
    return fault;
}

int denial_code(const struct pkeyguard_key *key)
{
    return pkeyguard_key_enforcement(key) == PKEYGUARD_PKU ? SEGV_PKUERR : SEGV_ACCERR;
}

int denial_pkey(const struct pkeyguard_key *key)
{
    return pkeyguard_key_enforcement(key) == PKEYGUARD_PKU ? pkeyguard_key_number(key) : -1;
}

/* The library keeps the memory of its records: it has mapped the first of each kind after this. */
static void make_records(void)
{
    struct pkeyguard_heap *heap;

    ck_assert_int_eq(pkeyguard_heap_create(NULL, 1, 0, &heap), 0);
    ck_assert_int_eq(pkeyguard_heap_destroy(heap), 0);
    destroy(NULL, new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE));
}

struct resources count_resources(void)
{
    struct pkeyguard_platform platform;
    struct resources count = {0};
    FILE *maps;
    char line[512];

    make_records();
    maps = fopen("/proc/self/maps", "r");
    ck_assert_ptr_nonnull(maps);
    while (fgets(line, sizeof(line), maps) != NULL) {
        /*
         * The heap and the stack grow for the test's own needs. Sanitizers, valgrind and other
         * mallocs map memory at any time: count no mappings then.
         */
        if (MALLOC_IS_IN_HEAP && !under_tool(NULL) && strstr(line, "[heap]") == NULL &&
            strstr(line, "[stack]") == NULL)
            count.mappings++;
    }
    fclose(maps);
    ck_assert_int_eq(pkeyguard_platform_probe(&platform), 0);
    count.pkeys = (int)platform.hardware_keys_free;
    return count;
}

void assert_resources(struct resources before)
{
    struct resources now = count_resources();

    ck_assert_int_eq(now.mappings, before.mappings);
    ck_assert_int_eq(now.pkeys, before.pkeys);
}

void read_smaps(const void *address, const char *field, char *buffer, size_t size)
{
    FILE *smaps = fopen("/proc/self/smaps", "r");
    bool here = false;
    char line[512];

    ck_assert_ptr_nonnull(smaps);
    buffer[0] = '\0';
    while (fgets(line, sizeof(line), smaps) != NULL) {
        unsigned long start, end;

        if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
            here = (uintptr_t)address >= start && (uintptr_t)address < end;
            if (here && field == NULL)
                snprintf(buffer, size, "%s", line);
        } else if (here && field != NULL && strncmp(line, field, strlen(field)) == 0) {
            snprintf(buffer, size, "%s", line + strlen(field));
        }
    }
    fclose(smaps);
}

int pkey_of_mapping(const void *address)
{
    char text[512];

    read_smaps(address, "ProtectionKey:", text, sizeof(text));
    return text[0] == '\0' ? -1 : atoi(text);
}

int run_in_child(void (*call)(void *argument), void *argument, char *ret_said, size_t size)
{
    size_t length = 0;
    ssize_t got;
    int pipe_ends[2], status;
    pid_t child;

    ck_assert_int_eq(pipe(pipe_ends), 0);
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        dup2(pipe_ends[1], STDERR_FILENO);
        close(pipe_ends[0]);
        close(pipe_ends[1]);
        call(argument);
        _exit(0);
    }
    close(pipe_ends[1]);
    while ((got = read(pipe_ends[0], ret_said + length, size - 1 - length)) > 0)
        length += (size_t)got;
    ret_said[length] = '\0';
    close(pipe_ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

void assert_ends(void (*call)(void *argument), void *argument, const char *line, int signal)
{
    char said[1024];
    int status = run_in_child(call, argument, said, sizeof(said));

    ck_assert_str_eq(said, line);
    ck_assert_int_eq(WIFSIGNALED(status) ? WTERMSIG(status) : 0, signal);
    ck_assert(signal != 0 || WEXITSTATUS(status) == 0);
}

void assert_aborts(void (*call)(void *argument), void *argument, const char *line)
{
    assert_ends(call, argument, line, SIGABRT);
}

void assert_exits(int child, int expected)
{
    int status;

    ck_assert_int_gt(child, 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status), "child died of signal %d", WTERMSIG(status));
    ck_assert_int_eq(WEXITSTATUS(status), expected);
}

void wait_until_asleep(int thread)
{
    char path[64], state = 'R';

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", thread);
    while (state != 'S') {
        FILE *stat = fopen(path, "r");

        ck_assert_ptr_nonnull(stat);
        ck_assert_int_eq(fscanf(stat, "%*d (%*[^)]) %c", &state), 1);
        fclose(stat);
    }
}

struct pkeyguard_key *new_key(enum pkeyguard_rights default_rights, unsigned flags)
{
    struct pkeyguard_key *key = NULL;

    ck_assert_int_eq(pkeyguard_key_create(default_rights, flags, &key), 0);
    ck_assert_ptr_nonnull(key);
    return key;
}

struct pkeyguard_region *new_region(struct pkeyguard_key *key)
{
    struct pkeyguard_region *region = NULL;

    ck_assert_int_eq(pkeyguard_region_create(key, PAGE_BYTES, PAGE_RW, 0, &region), 0);
    ck_assert_ptr_nonnull(region);
    return region;
}

char *address_of(const struct pkeyguard_region *region)
{
    return pkeyguard_region_unsafe_address(region);
}

void destroy(struct pkeyguard_region *region, struct pkeyguard_key *key)
{
    ck_assert_int_eq(pkeyguard_region_destroy(region), 0);
    ck_assert_int_eq(pkeyguard_key_destroy(key), 0);
}
