/* SPDX-License-Identifier: MIT */
/* A pkey is revoked while threads change PKRU, are created and end. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "place.h"
#include "test_revocation.h"

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

/* The value that the thread writes back has the pkey open. */
START_TEST(thread_between_rdpkru_and_wrpkru_blocks_the_pkey)
{
    begin_on(&workers[0], do_read_and_write_later, NULL);
    while (has_read == 0)
        sched_yield();
    assert_revocation_fails();
    may_write = 1;
    wait_for(&workers[0]);
    assert_pkey_reused(2);
}
END_TEST

/* The library's own, as in src/pkey/own_pkru.h. */
extern __thread struct own_pkru {
    uint32_t changes_begun, chosen;
} own_pkru;
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

START_TEST(jump_out_of_a_rights_change_does_not_block_the_pkey)
{
    run_on(&workers[0], do_leave_inside_a_change, NULL);
    assert_pkey_reused(2);
}
END_TEST

static struct pkeyguard_region *other_region; /* of a key that is not destroyed */
static atomic_int phase, arrived, violations;
static atomic_uint victim_ad;

/* The ways to read PKRU, or rights that were saved, and to write PKRU a moment later. */
enum way { WRITES, READS, SETS_PKEY, SETS_RIGHTS, RESTORES, RESETS, WAYS };

static void change_pkru(enum way way, const struct pkeyguard_thread_rights *rights)
{
    switch (way) {
    case WRITES:
        pkeyguard_scoped_write (int, number, other_region) {
            *number = 1;
        }
        break;
    case READS:
        pkeyguard_scoped_read (int, number, other_region) {
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

/*
 * Changes rights all the time. In an odd phase it first opens the victim; in an even phase another
 * key has the pkey, which must be closed in this thread.
 */
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

/*
 * Surprise: a freed pkey comes back with old rights. Here the signal takes them from threads that
 * write PKRU all the time.
 */
START_TEST(revoke_while_threads_change_their_rights)
{
    enum { ROUNDS = 12 };

    other_region = new_region(keys[0]);
    for (int i = 0; i < 2; i++)
        begin_on(&workers[i], do_change_pkru, (void *)(intptr_t)_i);
    for (int round = 0; round < ROUNDS; round++) {
        keys[VICTIM] = new_key(PKEYGUARD_READ_WRITE, 0);
        enter_phase();
        destroy(NULL, keys[VICTIM]);
        keys[VICTIM] = new_key(PKEYGUARD_NO_ACCESS, 0);
        victim_ad = 1u << (2 * pkeyguard_key_number(keys[VICTIM]));
        enter_phase();
        destroy(NULL, keys[VICTIM]);
        keys[VICTIM] = NULL;
    }
    phase = -1;
    for (int i = 0; i < 2; i++)
        wait_for(&workers[i]);
    ck_assert_int_eq(violations, 0);
    destroy(other_region, NULL);
}
END_TEST

/* 1: the pkey must be closed; from 2 on each chain ends, and adds 1. */
static atomic_int chain_stage;
static atomic_int chain_links; /* threads that the chains have had */

/* A thread that creates the next thread of its chain, and ends. */
static void *run_chain_link(void *unused)
{
    pthread_t next;
    pthread_attr_t detached;

    if (chain_stage == 1 && (pkeyguard_pkru_read() & victim_ad) == 0)
        violations++;
    chain_links++;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    if (chain_stage < 2)
        ck_assert_int_eq(pthread_create(&next, &detached, run_chain_link, unused), 0);
    else
        chain_stage++;
    return NULL;
}

static void do_start_chains(void *unused)
{
    for (int i = 0; i < 3; i++)
        run_chain_link(unused);
}

START_TEST(revoke_with_thread_churn)
{
    for (int round = 0; round < 8; round++) {
        int begun = chain_links;

        chain_stage = 0;
        keys[VICTIM] = new_key(PKEYGUARD_READ_WRITE, 0);
        victim_ad = 1u << (2 * pkeyguard_key_number(keys[VICTIM]));
        run_on(&workers[0], do_reset, NULL);
        run_on(&workers[0], do_start_chains, NULL);
        while (chain_links < begun + 30)
            sched_yield();
        destroy(NULL, keys[VICTIM]);
        keys[VICTIM] = new_key(PKEYGUARD_NO_ACCESS, 0);
        victim_ad = 1u << (2 * pkeyguard_key_number(keys[VICTIM]));
        chain_stage = 1;
        for (begun = chain_links; chain_links < begun + 30;)
            sched_yield();
        chain_stage = 2;
        while (chain_stage < 5)
            sched_yield();
        destroy(NULL, keys[VICTIM]);
        keys[VICTIM] = NULL;
    }
    ck_assert_int_eq(violations, 0);
}
END_TEST

static pthread_t main_thread;

static void *create_after_main_ended(void *unused)
{
    ck_assert_int_eq(pthread_join(main_thread, NULL), 0);
    assert_pkey_reused(1);
    (void)unused;
    _exit(0);
}

START_TEST(revoke_after_the_main_thread_has_ended)
{
    pid_t pid = fork();

    if (pid == 0) {
        pthread_t other;

        main_thread = pthread_self();
        start_worker(&workers[0]);
        pthread_create(&other, NULL, create_after_main_ended, NULL);
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
        *key = new_key(PKEYGUARD_READ_WRITE, 0);
    }
}

START_TEST(two_threads_revoke_at_once)
{
    for (int i = 0; i < 2; i++)
        begin_on(&workers[i], do_destroy_and_create, (void *)(intptr_t)i);
    for (int i = 0; i < 2; i++)
        wait_for(&workers[i]);
    assert_pkey_reused(2);
}
END_TEST

void add_races(Suite *suite)
{
    TCase *tests = add_case(suite, "races", set_up_signal, tear_down_workers);

    add_pku_test(tests, thread_between_rdpkru_and_wrpkru_blocks_the_pkey);
    add_pku_test(tests, jump_out_of_a_rights_change_does_not_block_the_pkey);
    add_pku_loop_test(tests, revoke_while_threads_change_their_rights, 0, WAYS);
    add_pku_test(tests, revoke_with_thread_churn);
    add_pku_test(tests, revoke_after_the_main_thread_has_ended);
    add_pku_test(tests, two_threads_revoke_at_once);
}
