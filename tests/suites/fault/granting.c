/* SPDX-License-Identifier: MIT */
/* The reporter grants a key's default rights to threads that are older than the key. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <unistd.h>

#include "test_fault.h"

static pthread_barrier_t created;
static struct pkeyguard_key *newer_key;
static struct pkeyguard_region *newer;

/* Calls the function that the argument points to, in a thread that is older than newer_key. */
static void *run_when_created(void *run)
{
    pthread_barrier_wait(&created);
    pthread_barrier_wait(&created);
    (*(void (**)(void))run)();
    return NULL;
}

struct granting {
    unsigned flags;
    enum pkeyguard_rights default_rights;
    void (*run)(void);
};

static void run_older_thread(void *granting)
{
    struct granting *wanted = granting;
    pthread_t thread;

    install_reporter_over(SIG_DFL, wanted->flags);
    pthread_barrier_init(&created, NULL, 2);
    if (pthread_create(&thread, NULL, run_when_created, &wanted->run) != 0)
        _exit(1);
    pthread_barrier_wait(&created);
    newer_key = new_key(wanted->default_rights, 0);
    if (pkeyguard_region_create(newer_key, LENGTH, PAGE_RW, 0, &newer) != 0 ||
        pkeyguard_region_name(newer, "newer") != 0)
        _exit(1);
    pthread_barrier_wait(&created);
    pthread_join(thread, NULL);
}

static void exit_unless(bool as_expected)
{
    if (!as_expected)
        _exit(4);
}

static void read_newer(void)
{
    uint32_t bits = 3u << (2 * pkeyguard_key_number(newer_key));
    uint32_t before = pkeyguard_pkru_read();

    exit_unless(pkeyguard_key_rights(newer_key) == PKEYGUARD_NO_ACCESS);
    errno = 4321;
    exit_unless(*(volatile char *)address_of(newer) == 0 && errno == 4321);
    exit_unless(pkeyguard_key_rights(newer_key) == PKEYGUARD_READ_ONLY);
    exit_unless((pkeyguard_pkru_read() & ~bits) == (before & ~bits));
}

static void write_straddling(void)
{
    *(volatile uint64_t *)(void *)(address_of(newer) + PAGE_BYTES - 4) = UINT64_MAX;
    exit_unless(pkeyguard_key_rights(newer_key) == PKEYGUARD_READ_WRITE);
    exit_unless(address_of(newer)[PAGE_BYTES + 3] == (char)0xff);
}

static void pass_to_system_call(void)
{
    int null = open("/dev/zero", O_RDONLY);

    exit_unless(read(null, address_of(newer), 1) == -1 && errno == EFAULT);
    access_byte(WRITE_BYTE, address_of(newer));
    exit_unless(read(null, address_of(newer), 1) == 1);
}

static void read_newer_in_handler(int signal)
{
    (void)signal;
    exit_unless(*(volatile char *)address_of(newer) == 0);
}

static void read_in_handler(void)
{
    signal(SIGUSR1, read_newer_in_handler);
    raise(SIGUSR1);
    exit_unless(pkeyguard_key_rights(newer_key) == PKEYGUARD_NO_ACCESS);
}

static void write_newer(void)
{
    access_byte(WRITE_BYTE, address_of(newer));
}

static void read_closed_on_purpose(void)
{
    exit_unless(pkeyguard_key_set_rights(newer_key, PKEYGUARD_NO_ACCESS) == 0);
    exit_unless(*(volatile char *)address_of(newer) == 0);
}

static void write_restricted(void)
{
    struct pkeyguard_guard guard;

    exit_unless(pkeyguard_restrict(newer, PKEYGUARD_READ_ONLY, &guard) == 0);
    access_byte(WRITE_BYTE, address_of(newer));
}

static void write_in_read_scope(void)
{
    pkeyguard_scoped_read (char, bytes, newer) {
        exit_unless(*bytes == 0);
        access_byte(WRITE_BYTE, address_of(newer));
    }
}

static void write_in_handler(int unused)
{
    (void)unused;
    access_byte(WRITE_BYTE, address_of(newer));
}

static void raise_in_handler(int unused)
{
    (void)unused;
    raise(SIGUSR1);
}

static __attribute__((noinline)) void write_restricted_below(void)
{
    struct pkeyguard_guard guard;

    exit_unless(pkeyguard_restrict(newer, PKEYGUARD_READ_ONLY, &guard) == 0);
    raise(SIGUSR2);
    pkeyguard_release(&guard);
}

/*
 * A handler on an alternate stack, which is part of the thread's own stack: the frame with the
 * restricted rights is below it.
 */
static void write_in_nested_handler(void)
{
    char stack[65536];
    stack_t other = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction action = {.sa_handler = write_in_handler, .sa_flags = SA_ONSTACK};

    exit_unless(pkeyguard_key_set_rights(newer_key, PKEYGUARD_READ_WRITE) == 0);
    exit_unless(sigaltstack(&other, NULL) == 0);
    sigaction(SIGUSR1, &action, NULL);
    signal(SIGUSR2, raise_in_handler);
    write_restricted_below();
}

static void *raise_in_thread(void *unused)
{
    (void)unused;
    raise(SIGUSR1);
    return NULL;
}

/* The new thread starts with what its creator has left, and gave nothing up itself. */
static void write_in_handler_of_restricted_thread(void)
{
    struct pkeyguard_guard guard;
    pthread_t thread;

    exit_unless(pkeyguard_key_set_rights(newer_key, PKEYGUARD_READ_WRITE) == 0);
    signal(SIGUSR1, write_in_handler);
    exit_unless(pkeyguard_restrict(newer, PKEYGUARD_READ_ONLY, &guard) == 0);
    exit_unless(pthread_create(&thread, NULL, raise_in_thread, NULL) == 0);
    pthread_join(thread, NULL);
    pkeyguard_release(&guard);
}

static void write_in_handler_inside_a_gate(void)
{
    exit_unless(pkeyguard_key_set_rights(newer_key, PKEYGUARD_READ_WRITE) == 0);
    signal(SIGUSR1, write_in_handler);
    pkeyguard_scoped_closed (gate) {
        raise(SIGUSR1);
    }
}

enum { GRANT = PKEYGUARD_REPORTER_GRANT_DEFAULTS };
static struct granting granted[] = {
    {GRANT, PKEYGUARD_READ_ONLY, read_newer},
    {GRANT, PKEYGUARD_READ_WRITE, write_straddling},
    {GRANT, PKEYGUARD_READ_WRITE, pass_to_system_call},
    {GRANT, PKEYGUARD_READ_ONLY, read_in_handler},
};
enum { GRANTED = sizeof(granted) / sizeof(*granted) };

/*
 * Surprise: threads older than a key fault, whatever the key's default. The reporter grants the
 * default rights at the first fault.
 */
START_TEST(older_thread_is_granted_the_default)
{
    assert_ends(run_older_thread, &granted[_i], "", 0);
}
END_TEST

static struct granting refused[] = {
    {0, PKEYGUARD_READ_WRITE, write_newer},
    {GRANT, PKEYGUARD_READ_ONLY, write_newer},
    {GRANT, PKEYGUARD_NO_ACCESS, write_newer},
    {GRANT, PKEYGUARD_READ_WRITE, read_closed_on_purpose},
    {GRANT, PKEYGUARD_READ_WRITE, write_restricted},
    {GRANT, PKEYGUARD_READ_WRITE, write_in_read_scope},
    {GRANT, PKEYGUARD_READ_WRITE, write_in_nested_handler},
    {GRANT, PKEYGUARD_READ_WRITE, write_in_handler_of_restricted_thread},
    {GRANT, PKEYGUARD_READ_WRITE, write_in_handler_inside_a_gate},
};
enum { REFUSED = sizeof(refused) / sizeof(*refused) };

/* The report is not checked: it has an address of the child process. */
static void run_refused(void *granting)
{
    close(STDERR_FILENO);
    run_older_thread(granting);
}

START_TEST(chosen_rights_and_more_than_the_default_are_not_granted)
{
    assert_ends(run_refused, &refused[_i], "", SIGSEGV);
}
END_TEST

static void change_flags(void *unused)
{
    (void)unused;
    install_reporter_over(SIG_DFL, GRANT);
    if (pkeyguard_fault_reporter_install(0) != 0)
        _exit(1);
    run_refused(&(struct granting){0, PKEYGUARD_READ_WRITE, write_newer});
}

START_TEST(installing_again_changes_the_flags)
{
    assert_ends(change_flags, NULL, "", SIGSEGV);
}
END_TEST

void add_granting(Suite *suite)
{
    TCase *tests = add_case(suite, "granting", set_up_named_region, tear_down);

    add_pku_loop_test(tests, older_thread_is_granted_the_default, 0, GRANTED);
    add_pku_loop_test(tests, chosen_rights_and_more_than_the_default_are_not_granted, 0, REFUSED);
    add_pku_test(tests, installing_again_changes_the_flags);
}
