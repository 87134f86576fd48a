/* SPDX-License-Identifier: MIT */
/* The pkeys of destroyed keys go to new ones in a process with threads. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "failing.h"
#include "place.h"
#include "support.h"
#include "worker.h"

enum { PKEYS = 15, VICTIM = 7 };

/* Every pkey that there is; each key is open by default. */
static struct pkeyguard_key *keys[PKEYS];
static struct worker workers[2];

static void do_reset(void *unused)
{
    (void)unused;
    pkeyguard_thread_reset();
}

static void do_register(void *unused)
{
    (void)unused;
    ck_assert_int_eq(pkeyguard_thread_register(), 0);
}

static struct fault seen_there;

static void do_write(void *address)
{
    seen_there = try_access(WRITE_BYTE, address);
}

static bool open_there(struct worker *worker, const struct pkeyguard_region *region)
{
    tell(worker, do_write, address_of(region));
    return !seen_there.happened;
}

static void assert_denied_there(struct worker *worker, const struct pkeyguard_region *region)
{
    ck_assert(!open_there(worker, region));
    ck_assert_int_eq(seen_there.code, SEGV_PKUERR);
    ck_assert_ptr_eq(seen_there.address, address_of(region));
    ck_assert_int_eq(seen_there.pkey, pkeyguard_key_number(pkeyguard_region_key(region)));
}

static void take_every_pkey(void)
{
    struct pkeyguard_key *one_more;

    for (int i = 0; i < PKEYS; i++)
        keys[i] = new_key(PKEYGUARD_READ_WRITE, 0);
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_READ_WRITE, 0, &one_more), -ENOSPC);
}

/* A worker that has every key open. */
static void start_open(struct worker *worker)
{
    struct pkeyguard_region *region = new_region(keys[VICTIM]);

    start(worker);
    tell(worker, do_reset, NULL);
    ck_assert(open_there(worker, region));
    destroy(region, NULL);
}

static void set_up(void)
{
    take_every_pkey();
    for (int i = 0; i < 2; i++)
        start_open(&workers[i]);
    destroy(NULL, keys[VICTIM]);
    keys[VICTIM] = NULL;
}

static void tear_down(void)
{
    for (int i = 0; i < 2; i++)
        end(&workers[i]);
    for (int i = 0; i < PKEYS; i++)
        destroy(NULL, keys[i]);
}

static int create(void)
{
    return pkeyguard_key_create(PKEYGUARD_READ_WRITE, 0, &keys[VICTIM]);
}

static void assert_kept(void)
{
    ck_assert_int_eq(create(), -ENOSPC);
    ck_assert_ptr_null(keys[VICTIM]);
    ck_assert_int_eq(count_resources().pkeys, 0);
}

/* The new key's region is open here and in no worker. */
static void assert_handed_out(int count)
{
    struct pkeyguard_region *region;

    ck_assert_int_eq(create(), 0);
    region = new_region(keys[VICTIM]);
    assert_allowed(WRITE_BYTE, address_of(region));
    for (int i = 0; i < count; i++)
        assert_denied_there(&workers[i], region);
    assert_allowed(WRITE_BYTE, address_of(region));
    destroy(region, NULL);
}

/* ---- threads that say what they have closed ---- */

START_TEST(every_thread_must_have_said_so)
{
    static void (*const say_so[])(void *) = {do_reset, do_register};

    /* Both did once, but before the key was destroyed. */
    assert_kept();
    tell(&workers[0], say_so[_i], NULL);
    assert_kept();
    tell(&workers[1], say_so[_i], NULL);
    assert_handed_out(2);
}
END_TEST

START_TEST(it_is_counted_as_free)
{
    ck_assert_int_eq(count_resources().pkeys, 0);
    do_reset(NULL);
    tell(&workers[0], do_reset, NULL);
    ck_assert_int_eq(count_resources().pkeys, 0);
    tell(&workers[1], do_reset, NULL);
    ck_assert_int_eq(count_resources().pkeys, 1);
    assert_handed_out(2);
}
END_TEST

static struct worker child;

static void do_start_child(void *unused)
{
    (void)unused;
    start(&child);
}

START_TEST(a_thread_born_of_an_open_one)
{
    tell(&workers[0], do_start_child, NULL);
    for (int i = 0; i < 2; i++)
        tell(&workers[i], do_reset, NULL);
    assert_kept();
    tell(&child, do_reset, NULL);
    assert_handed_out(2);
    end(&child);
}
END_TEST

/* Once a pkey was seen closed everywhere it stays so, whoever is born. */
START_TEST(a_thread_born_of_a_closed_one)
{
    do_reset(NULL);
    for (int i = 0; i < 2; i++)
        tell(&workers[i], do_reset, NULL);
    ck_assert_int_eq(count_resources().pkeys, 1);
    tell(&workers[0], do_start_child, NULL);
    assert_handed_out(2);
    end(&child);
}
END_TEST

START_TEST(a_thread_that_ended)
{
    tell(&workers[1], do_reset, NULL);
    assert_kept();
    end(&workers[0]);
    assert_handed_out(0);
    start(&workers[0]);
}
END_TEST

static void reset_in_handler(int unused)
{
    (void)unused;
    pkeyguard_thread_reset();
}

static void do_raise(void *unused)
{
    (void)unused;
    raise(SIGUSR1);
}

/* What the handler closes its return opens again. */
START_TEST(a_reset_in_a_handler_says_nothing)
{
    signal(SIGUSR1, reset_in_handler);
    tell(&workers[0], do_raise, NULL);
    tell(&workers[1], do_reset, NULL);
    assert_kept();
    tell(&workers[0], do_reset, NULL);
    assert_handed_out(2);
}
END_TEST

static void do_plain_write(void *address)
{
    access_byte(WRITE_BYTE, address);
}

/* To the next key they are threads older than it, as with a pkey that nobody had before. */
static void assert_default_is_granted(void)
{
    struct pkeyguard_region *region;

    ck_assert_int_eq(pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_GRANT_DEFAULTS), 0);
    ck_assert_int_eq(create(), 0);
    region = new_region(keys[VICTIM]);
    for (int i = 0; i < 2; i++) {
        assert_denied_there(&workers[i], region);
        tell(&workers[i], do_plain_write, address_of(region));
        ck_assert(open_there(&workers[i], region));
    }
    destroy(region, NULL);
}

START_TEST(the_next_keys_default_can_be_granted)
{
    for (int i = 0; i < 2; i++)
        tell(&workers[i], do_reset, NULL);
    assert_default_is_granted();
}
END_TEST

START_TEST(some_pkeys_were_closed)
{
    int first = pkeyguard_key_number(keys[0]);

    tell(&workers[0], do_reset, NULL);
    destroy(NULL, keys[0]);
    tell(&workers[1], do_reset, NULL);
    /* Only the one that both have reset after. */
    assert_handed_out(2);
    ck_assert_int_ne(pkeyguard_key_number(keys[VICTIM]), first);
    keys[0] = NULL;
    ck_assert_int_eq(pkeyguard_key_create(PKEYGUARD_READ_WRITE, 0, &keys[0]), -ENOSPC);
}
END_TEST

START_TEST(the_threads_cannot_be_counted)
{
    for (int i = 0; i < 2; i++)
        tell(&workers[i], do_reset, NULL);
    fail_call(CALL_OPENAT, 0, EACCES, 1000);
    ck_assert_int_eq(create(), -ENOSPC);
    ck_assert(stop_failing());
    assert_handed_out(2);
}
END_TEST

START_TEST(a_child_has_one_thread)
{
    pid_t pid = fork();

    if (pid == 0) {
        assert_handed_out(0);
        _exit(0);
    }
    assert_exits(pid, 0);
    assert_kept();
}
END_TEST

/* The pool takes it when there is nothing else; its first owner finds it closed everywhere. */
START_TEST(virtual_keys_take_it)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    struct pkeyguard_region *region = new_region(key);
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), -ENOSPC);
    for (int i = 0; i < 2; i++)
        tell(&workers[i], do_register, NULL);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    assert_allowed(WRITE_BYTE, address_of(region));
    for (int i = 0; i < 2; i++)
        assert_denied_there(&workers[i], region);
    pkeyguard_release(&guard);
    destroy(region, key);
}
END_TEST

START_TEST(registering_takes_no_pkey)
{
    struct resources before = count_resources();

    do_register(NULL);
    ck_assert_int_eq(count_resources().pkeys, before.pkeys);
}
END_TEST

static struct pkeyguard_region *shared;
static int from_handler;

static void open_shared(int unused)
{
    struct pkeyguard_guard guard;

    (void)unused;
    from_handler = pkeyguard_acquire(shared, PKEYGUARD_READ_WRITE, &guard);
}

static void do_destroy(void *key)
{
    destroy(NULL, key);
}

/* This thread is the only one, but has the pkey open where the handler returns to. */
START_TEST(virtual_keys_take_none_in_a_handler)
{
    struct pkeyguard_key *key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);

    shared = new_region(key);
    tell(&workers[0], do_destroy, keys[0]);
    keys[0] = NULL;
    for (int i = 0; i < 2; i++)
        end(&workers[i]);
    while (count_resources().pkeys < 2)
        sched_yield();
    signal(SIGUSR1, open_shared);
    raise(SIGUSR1);
    ck_assert_int_eq(from_handler, -ENOSPC);
    open_shared(0);
    ck_assert_int_eq(from_handler, 0);
    for (int i = 0; i < 2; i++)
        start(&workers[i]);
}
END_TEST

/* ---- a signal ---- */

static void use_signal(void)
{
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGURG), 0);
}

static void set_up_signal(void)
{
    use_signal();
    set_up();
}

/* The kernel has the worker asleep. */
static void wait_until_asleep(const struct worker *worker)
{
    char path[64], state = 'R';

    snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)worker->id);
    while (state != 'S') {
        FILE *stat = fopen(path, "r");

        ck_assert_ptr_nonnull(stat);
        ck_assert_int_eq(fscanf(stat, "%*d (%*[^)]) %c", &state), 1);
        fclose(stat);
    }
}

START_TEST(it_closes_the_pkey_in_every_thread)
{
    ck_assert_int_eq(count_resources().pkeys, 1);
    assert_handed_out(2);
}
END_TEST

START_TEST(the_next_keys_default_can_be_granted_then)
{
    assert_default_is_granted();
}
END_TEST

START_TEST(one_round_is_for_all_of_them)
{
    sigset_t urgent;

    for (int i = 0; i < 3; i++) {
        destroy(NULL, keys[i]);
        keys[i] = NULL;
    }
    assert_handed_out(2);
    /* Nobody need be asked any more. */
    sigemptyset(&urgent);
    sigaddset(&urgent, SIGURG);
    pthread_sigmask(SIG_BLOCK, &urgent, NULL);
    start(&child);
    for (int i = 0; i < 3; i++)
        keys[i] = new_key(PKEYGUARD_READ_WRITE, 0);
    end(&child);
}
END_TEST

static int pipe_ends[2];
static sem_t semaphore;
static int slept, slept_error;

static void do_sleep_in_read(void *unused)
{
    char byte;

    (void)unused;
    ck_assert_int_eq(read(pipe_ends[0], &byte, 1), 1);
}

static void do_sleep_in_futex(void *unused)
{
    (void)unused;
    ck_assert_int_eq(sem_wait(&semaphore), 0);
}

static void do_sleep_in_nanosleep(void *unused)
{
    const struct timespec long_time = {.tv_sec = 1000};

    (void)unused;
    slept = nanosleep(&long_time, NULL);
    slept_error = errno;
}

START_TEST(threads_asleep_in_the_kernel)
{
    ck_assert_int_eq(pipe(pipe_ends), 0);
    sem_init(&semaphore, 0, 0);
    begin(&workers[0], _i == 0 ? do_sleep_in_read : do_sleep_in_futex, NULL);
    begin(&workers[1], do_sleep_in_nanosleep, NULL);
    for (int i = 0; i < 2; i++)
        wait_until_asleep(&workers[i]);
    ck_assert_int_eq(create(), 0);
    finish(&workers[1]);
    ck_assert_int_eq(slept, -1);
    ck_assert_int_eq(slept_error, EINTR);
    ck_assert_int_eq(write(pipe_ends[1], "x", 1), 1);
    sem_post(&semaphore);
    finish(&workers[0]);
    destroy(NULL, keys[VICTIM]);
    assert_handed_out(2);
}
END_TEST

static void do_mask(void *how)
{
    sigset_t urgent;

    sigemptyset(&urgent);
    sigaddset(&urgent, SIGURG);
    pthread_sigmask((int)(intptr_t)how, &urgent, NULL);
}

START_TEST(a_thread_that_blocks_the_signal)
{
    tell(&workers[1], do_mask, (void *)(intptr_t)SIG_BLOCK);
    ck_assert_int_eq(create(), -ENOSPC);
    ck_assert_int_eq(create(), -ENOSPC);
    ck_assert_ptr_null(keys[VICTIM]);
    tell(&workers[1], do_mask, (void *)(intptr_t)SIG_UNBLOCK);
    assert_handed_out(2);
}
END_TEST

static atomic_int in_handler;

static void stay_in_handler(int unused)
{
    (void)unused;
    in_handler = 1;
    while (in_handler == 1)
        sched_yield();
}

/* Its frame holds the rights that the thread will have again. */
static void do_raise_on(void *stack)
{
    struct sigaction action = {.sa_handler = stay_in_handler, .sa_flags = stack ? SA_ONSTACK : 0};
    stack_t other = {.ss_sp = stack, .ss_size = 1 << 16};

    if (stack != NULL)
        sigaltstack(&other, NULL);
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
}

START_TEST(a_thread_in_another_handler)
{
    static char low[1 << 16];
    void *high = mmap(NULL, 1 << 16, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    void *const stacks[] = {NULL, low, high};

    begin(&workers[0], do_raise_on, stacks[_i]);
    while (in_handler != 1)
        sched_yield();
    ck_assert_int_eq(create(), -ENOSPC);
    ck_assert_ptr_null(keys[VICTIM]);
    in_handler = 2;
    finish(&workers[0]);
    assert_handed_out(2);
}
END_TEST

/* ---- threads that change PKRU at the same moment ---- */

static atomic_int has_read, may_write;

static void do_read_and_write_later(void *unused)
{
    (void)unused;
#ifdef __x86_64__
    __asm__ volatile("rdpkru\n\t"
                     "movl $1, %0\n"
                     "1:\t"
                     "cmpl $0, %1\n\t"
                     "je 1b\n\t"
                     "wrpkru"
                     : "=m"(has_read)
                     : "m"(may_write), "c"(0)
                     : "eax", "edx", "cc", "memory");
#endif
}

/* What it writes back has the pkey open. */
START_TEST(a_thread_between_reading_and_writing)
{
    begin(&workers[0], do_read_and_write_later, NULL);
    while (has_read == 0)
        sched_yield();
    ck_assert_int_eq(create(), -ENOSPC);
    ck_assert_ptr_null(keys[VICTIM]);
    may_write = 1;
    finish(&workers[0]);
    assert_handed_out(2);
}
END_TEST

extern __thread struct own_pkru {
    uint32_t changes_begun, chosen;
} own_pkru; /* as in src/pkey/own_pkru.h */
static sigjmp_buf away;

static void leave_inside_a_change(int unused)
{
    (void)unused;
    if (own_pkru.changes_begun != 0)
        siglongjmp(away, 1);
}

static void start_stepping(int unused, siginfo_t *info, void *context)
{
    (void)unused, (void)info, (void)context;
#ifdef __x86_64__
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL] |= 0x100;
#endif
}

static void do_leave_inside_a_change(void *unused)
{
    struct sigaction stepping = {.sa_sigaction = start_stepping, .sa_flags = SA_SIGINFO};
    struct pkeyguard_thread_rights rights;
    volatile bool left = true;

    (void)unused;
    sigaction(SIGUSR1, &stepping, NULL);
    signal(SIGTRAP, leave_inside_a_change);
    pkeyguard_thread_save(&rights);
    if (sigsetjmp(away, 1) == 0) {
        raise(SIGUSR1);
        left = pkeyguard_key_set_rights(keys[0], PKEYGUARD_NO_ACCESS) != 0;
    }
    ck_assert(left);
    ck_assert_uint_ne(own_pkru.changes_begun, 0);
    pkeyguard_thread_restore(&rights);
}

START_TEST(a_thread_that_jumped_out_of_a_change)
{
    tell(&workers[0], do_leave_inside_a_change, NULL);
    assert_handed_out(2);
}
END_TEST

static struct pkeyguard_region *elsewhere; /* of a key that stays */
static atomic_int phase, arrived, violations, told;
static atomic_uint victim_ad;

/* Whatever reads the register, or what there is to know of rights, and writes it a moment later. */
enum way { WRITES, READS, SETS_PKEY, SETS_RIGHTS, RESTORES, RESETS, WAYS };

static void change_pkru(enum way way, const struct pkeyguard_thread_rights *rights)
{
    switch (way) {
    case WRITES:
        pkeyguard_scoped_write (int, number, elsewhere) {
            *number = 1;
        }
        break;
    case READS:
        pkeyguard_scoped_read (int, number, elsewhere) {
            (void)*(const volatile int *)number;
        }
        break;
    case SETS_PKEY:
        pkey_set(pkeyguard_key_number(keys[0]), PKEY_DISABLE_ACCESS);
        break;
    case SETS_RIGHTS:
        ck_assert_int_eq(pkeyguard_key_set_rights(keys[0], PKEYGUARD_READ_WRITE), 0);
        ck_assert_int_eq(pkeyguard_key_set_rights(keys[0], PKEYGUARD_NO_ACCESS), 0);
        break;
    case RESTORES:
        pkeyguard_thread_restore(rights);
        break;
    default:
        pkeyguard_thread_reset();
    }
}

/* In odd phases it opens the victim, in even ones that is somebody else's. */
static void do_change_pkru(void *way)
{
    struct pkeyguard_thread_rights rights = {0};

    for (int now, last = 0; (now = phase) >= 0;) {
        if (now != last) {
            last = now;
            if (now % 2 == 1) {
                ck_assert_int_eq(pkeyguard_key_set_rights(keys[VICTIM], PKEYGUARD_READ_WRITE), 0);
                pkeyguard_thread_save(&rights);
            } else if ((pkeyguard_pkru_read() & victim_ad) == 0) {
                violations++;
            }
            arrived++;
        }
        for (int i = 0; i < 20; i++)
            change_pkru((enum way)(intptr_t)way, &rights);
    }
}

static void enter_phase(void)
{
    arrived = 0;
    phase++;
    while (arrived < 2)
        sched_yield();
}

static struct pkeyguard_key *create_at_last(enum pkeyguard_rights rights)
{
    struct pkeyguard_key *key = NULL;

    /* Who changes rights all the time may be asked at a bad moment for long. */
    for (int tries = 0; key == NULL && tries < 20; tries++) {
        int error = pkeyguard_key_create(rights, 0, &key);

        ck_assert(error == 0 || error == -ENOSPC);
    }
    ck_assert_ptr_nonnull(key);
    return key;
}

START_TEST(threads_that_change_their_rights)
{
    enum { ROUNDS = 12 };

    elsewhere = new_region(keys[0]);
    for (int i = 0; i < 2; i++)
        begin(&workers[i], do_change_pkru, (void *)(intptr_t)_i);
    for (int round = 0; round < ROUNDS; round++) {
        keys[VICTIM] = create_at_last(PKEYGUARD_READ_WRITE);
        enter_phase();
        destroy(NULL, keys[VICTIM]);
        keys[VICTIM] = create_at_last(PKEYGUARD_NO_ACCESS);
        victim_ad = 1u << (2 * pkeyguard_key_number(keys[VICTIM]));
        enter_phase();
        destroy(NULL, keys[VICTIM]);
        keys[VICTIM] = NULL;
    }
    phase = -1;
    for (int i = 0; i < 2; i++)
        finish(&workers[i]);
    ck_assert_int_eq(violations, 0);
    destroy(elsewhere, NULL);
}
END_TEST

/* ---- threads that come and go ---- */

static atomic_int links;

static void *link_of_chain(void *unused)
{
    pthread_t next;
    pthread_attr_t detached;

    if (told == 1 && (pkeyguard_pkru_read() & victim_ad) == 0)
        violations++;
    links++;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (told < 2)
        ck_assert_int_eq(pthread_create(&next, &detached, link_of_chain, unused), 0);
    else
        told++;
    return NULL;
}

static void do_start_chains(void *unused)
{
    for (int i = 0; i < 3; i++)
        link_of_chain(unused);
}

START_TEST(threads_are_born_all_the_time)
{
    for (int round = 0; round < 8; round++) {
        int begun = links;

        told = 0;
        keys[VICTIM] = create_at_last(PKEYGUARD_READ_WRITE);
        victim_ad = 1u << (2 * pkeyguard_key_number(keys[VICTIM]));
        tell(&workers[0], do_reset, NULL);
        tell(&workers[0], do_start_chains, NULL);
        while (links < begun + 30)
            sched_yield();
        destroy(NULL, keys[VICTIM]);
        keys[VICTIM] = create_at_last(PKEYGUARD_NO_ACCESS);
        victim_ad = 1u << (2 * pkeyguard_key_number(keys[VICTIM]));
        told = 1;
        for (begun = links; links < begun + 30;)
            sched_yield();
        told = 2;
        while (told < 5)
            sched_yield();
        destroy(NULL, keys[VICTIM]);
        keys[VICTIM] = NULL;
    }
    ck_assert_int_eq(violations, 0);
}
END_TEST

static pthread_t first_thread;

static void *outlive_the_first(void *unused)
{
    ck_assert_int_eq(pthread_join(first_thread, NULL), 0);
    assert_handed_out(1);
    (void)unused;
    _exit(0);
}

START_TEST(the_first_thread_has_ended)
{
    pid_t pid = fork();

    if (pid == 0) {
        pthread_t other;

        first_thread = pthread_self();
        start(&workers[0]);
        pthread_create(&other, NULL, outlive_the_first, NULL);
        pthread_exit(NULL);
    }
    assert_exits(pid, 0);
}
END_TEST

static void do_destroy_and_create(void *i)
{
    struct pkeyguard_key **key = &keys[(intptr_t)i];

    for (int round = 0; round < 30; round++) {
        destroy(NULL, *key);
        *key = create_at_last(PKEYGUARD_READ_WRITE);
    }
}

START_TEST(two_threads_create_at_once)
{
    for (int i = 0; i < 2; i++)
        begin(&workers[i], do_destroy_and_create, (void *)(intptr_t)i);
    for (int i = 0; i < 2; i++)
        finish(&workers[i]);
    assert_handed_out(2);
}
END_TEST

/* ---- what can fail ---- */

START_TEST(a_call_to_the_kernel_fails)
{
    static const enum call calls[] = {CALL_OPENAT, CALL_GETDENTS64};

    fail_call(calls[_i], 0, EACCES, 1 << 30);
    ck_assert_int_eq(create(), -ENOSPC);
    ck_assert(stop_failing());
    assert_handed_out(2);
}
END_TEST

static atomic_int taken_back;

static void take_back(int unused)
{
    (void)unused;
    taken_back++;
}

START_TEST(the_program_takes_the_signal_back)
{
    static void (*const handlers[])(int) = {take_back, SIG_DFL, SIG_IGN};

    signal(SIGURG, handlers[_i]);
    assert_kept();
    ck_assert_int_eq(taken_back, 0);
}
END_TEST

START_TEST(signals_that_cannot_be_used)
{
    const int bad[] = {-1,     0,       SIGKILL, SIGSTOP, SIGSEGV,      SIGBUS,       SIGILL,
                       SIGFPE, SIGTRAP, SIGSYS,  32,      SIGRTMIN - 1, SIGRTMAX + 1, 1000};

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        ck_assert_int_eq(pkeyguard_thread_use_signal(bad[i]), -EINVAL);
}
END_TEST

START_TEST(signals_in_use)
{
    int busy = test_enforcement() == PKEYGUARD_PKU ? -EBUSY : 0;

    signal(SIGUSR1, take_back);
    signal(SIGUSR2, SIG_IGN);
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGUSR1), busy);
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGUSR2), busy);
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGRTMAX), 0);
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGRTMAX), 0);
    ck_assert_int_eq(pkeyguard_thread_use_signal(SIGURG), busy);
    raise(SIGUSR1);
    ck_assert_int_eq(taken_back, 1);
}
END_TEST

static void use_in_handler(int unused)
{
    (void)unused;
    from_handler = pkeyguard_thread_use_signal(SIGURG);
}

static void raise_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    raise(SIGUSR1);
}

START_TEST(use_is_refused_inside_the_library)
{
    signal(SIGUSR1, use_in_handler);
    before_call(CALL_MPROTECT, raise_inside_library);
    destroy(new_region(NULL), NULL);
    ck_assert_int_eq(from_handler, -EDEADLK);
}
END_TEST

/* Somebody else's signal finds nothing to do. */
START_TEST(the_signal_comes_from_elsewhere)
{
    uint32_t pkru = pkeyguard_pkru_read();

    errno = 1234;
    raise(SIGURG);
    ck_assert_int_eq(errno, 1234);
    ck_assert_uint_eq(pkeyguard_pkru_read(), pkru);
    assert_handed_out(2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("revocation");
    TCase *fresh = tcase_create("before any key");
    TCase *said = tcase_create("threads that say so");
    TCase *by_signal = tcase_create("a signal");

    suite_add_tcase(suite, fresh);
    tcase_add_test(fresh, registering_takes_no_pkey);
    tcase_add_test(fresh, signals_that_cannot_be_used);
    tcase_add_test(fresh, signals_in_use);
    tcase_add_test(fresh, use_is_refused_inside_the_library);
    suite_add_tcase(suite, said);
    if (test_enforcement() == PKEYGUARD_PKU)
        tcase_add_checked_fixture(said, set_up, tear_down);
    tcase_set_timeout(said, 60);
    add_pku_loop_test(said, every_thread_must_have_said_so, 0, 2);
    add_pku_test(said, it_is_counted_as_free);
    add_pku_test(said, a_thread_born_of_an_open_one);
    add_pku_test(said, a_thread_born_of_a_closed_one);
    add_pku_test(said, a_thread_that_ended);
    add_pku_test(said, a_reset_in_a_handler_says_nothing);
    add_pku_test(said, the_next_keys_default_can_be_granted);
    add_pku_test(said, some_pkeys_were_closed);
    add_pku_test(said, the_threads_cannot_be_counted);
    add_pku_test(said, a_child_has_one_thread);
    add_pku_test(said, virtual_keys_take_it);
    add_pku_test(said, virtual_keys_take_none_in_a_handler);
    suite_add_tcase(suite, by_signal);
    if (test_enforcement() == PKEYGUARD_PKU)
        tcase_add_checked_fixture(by_signal, set_up_signal, tear_down);
    tcase_set_timeout(by_signal, 60);
    add_pku_test(by_signal, it_closes_the_pkey_in_every_thread);
    add_pku_test(by_signal, the_next_keys_default_can_be_granted_then);
    add_pku_test(by_signal, one_round_is_for_all_of_them);
    add_pku_loop_test(by_signal, threads_asleep_in_the_kernel, 0, 2);
    add_pku_test(by_signal, a_thread_that_blocks_the_signal);
    add_pku_loop_test(by_signal, a_thread_in_another_handler, 0, 3);
    add_pku_test(by_signal, a_thread_between_reading_and_writing);
    add_pku_test(by_signal, a_thread_that_jumped_out_of_a_change);
    add_pku_loop_test(by_signal, threads_that_change_their_rights, 0, WAYS);
    add_pku_test(by_signal, threads_are_born_all_the_time);
    add_pku_test(by_signal, the_first_thread_has_ended);
    add_pku_test(by_signal, two_threads_create_at_once);
    add_pku_loop_test(by_signal, a_call_to_the_kernel_fails, 0, 2);
    add_pku_loop_test(by_signal, the_program_takes_the_signal_back, 0, 3);
    add_pku_test(by_signal, the_signal_comes_from_elsewhere);
    return run_suite(suite);
}
