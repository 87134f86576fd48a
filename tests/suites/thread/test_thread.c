/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "failing.h"
#include "place.h"
#include "support.h"

/* key is closed by default, shared one may be read. */
static struct pkeyguard_key *key, *shared_key;
static struct pkeyguard_region *region, *shared;

static void set_up_with(unsigned flags)
{
    key = new_key(PKEYGUARD_NO_ACCESS, flags);
    region = new_region(key);
    shared_key = new_key(PKEYGUARD_READ_ONLY, 0);
    shared = new_region(shared_key);
}

static void set_up(void)
{
    set_up_with(0);
}

static void set_up_virtual(void)
{
    set_up_with(PKEYGUARD_KEY_VIRTUAL);
}

static void tear_down(void)
{
    destroy(region, key);
    destroy(shared, shared_key);
}

static void assert_rights(enum pkeyguard_rights of_key, enum pkeyguard_rights of_shared_key)
{
    ck_assert_int_eq(pkeyguard_key_rights(key), of_key);
    ck_assert_int_eq(pkeyguard_key_rights(shared_key), of_shared_key);
}

static void assert_defaults(void)
{
    assert_rights(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
    assert_denied(READ_BYTE, address_of(region), key);
    assert_denied(WRITE_BYTE, address_of(shared), shared_key);
    assert_allowed(READ_BYTE, address_of(shared));
}

static void open_key(struct pkeyguard_key *to_open, struct pkeyguard_guard *ret_guard)
{
    ck_assert_int_eq(pkeyguard_key_acquire(to_open, PKEYGUARD_READ_WRITE, ret_guard), 0);
}

/* ---- save and restore ---- */

static jmp_buf back;
static sigjmp_buf back_from_handler;
static struct pkeyguard_guard skipped;

static __attribute__((noreturn)) void jump_out_of_a_scope(void)
{
    open_key(key, &skipped);
    longjmp(back, 1);
}

START_TEST(restore_undoes_the_guards_a_longjmp_skipped)
{
    struct pkeyguard_thread_rights rights;
    struct pkeyguard_guard outer;

    open_key(shared_key, &outer);
    pkeyguard_thread_save(&rights);
    if (setjmp(back) == 0)
        jump_out_of_a_scope();
    /* It stays open, under either enforcement. */
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_WRITE);
    pkeyguard_thread_restore(&rights);
    assert_rights(pku() ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_WRITE, PKEYGUARD_READ_WRITE);
    if (!pku())
        pkeyguard_release(&skipped);
    pkeyguard_release(&outer);
    assert_defaults();
}
END_TEST

static void jump_out(int signal)
{
    (void)signal;
    siglongjmp(back_from_handler, 1);
}

START_TEST(restore_gives_back_what_a_siglongjmp_lost)
{
    struct pkeyguard_thread_rights rights;
    struct pkeyguard_guard outer;

    signal(SIGUSR1, jump_out);
    open_key(key, &outer);
    pkeyguard_thread_save(&rights);
    if (sigsetjmp(back_from_handler, 1) == 0)
        raise(SIGUSR1);
    /* What the kernel starts handlers with is all that is left: even the default is lost. */
    if (pku())
        assert_rights(PKEYGUARD_NO_ACCESS, PKEYGUARD_NO_ACCESS);
    pkeyguard_thread_restore(&rights);
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    assert_allowed(WRITE_BYTE, address_of(region));
    pkeyguard_release(&outer);
    assert_defaults();
}
END_TEST

/* A pkey that is not this library's, with all its bits turned over and back. */
START_TEST(other_pkeys_are_left_alone)
{
    struct pkeyguard_thread_rights closed, other;
    int pkey = pkey_alloc(0, PKEY_DISABLE_WRITE);
    struct pkeyguard_guard guard;

    ck_assert_int_gt(pkey, 0);
    pkeyguard_thread_save(&closed);
    open_key(key, &guard);
    for (int rights = 0; rights <= 3; rights++) {
        ck_assert_int_eq(pkey_set(pkey, (unsigned)rights), 0);
        pkeyguard_thread_restore(&closed);
        ck_assert_int_eq(pkey_get(pkey), rights);
        pkeyguard_thread_reset();
        ck_assert_int_eq(pkey_get(pkey), rights);
        ck_assert_int_eq(pkeyguard_thread_switch(&other, &closed), 0);
        ck_assert_int_eq(pkey_get(pkey), rights);
        ck_assert_int_eq(pkeyguard_thread_switch(&other, NULL), 0);
        ck_assert_int_eq(pkey_get(pkey), rights);
    }
    assert_defaults();
    pkey_free(pkey);
}
END_TEST

START_TEST(restore_leaves_newer_keys_alone)
{
    static const enum pkeyguard_rights every_right[] = {PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY,
                                                        PKEYGUARD_READ_WRITE};
    struct pkeyguard_thread_rights rights;
    struct pkeyguard_key *created;

    pkeyguard_thread_save(&rights);
    created = new_key(every_right[_i / 3], 0);
    ck_assert_int_eq(pkeyguard_key_set_rights(created, every_right[_i % 3]), 0);
    pkeyguard_thread_restore(&rights);
    ck_assert_int_eq(pkeyguard_key_rights(created), every_right[_i % 3]);
    assert_defaults();
    destroy(NULL, created);
}
END_TEST

/* A pkey with a new owner: its old rights must not come back. */
START_TEST(restore_leaves_rebound_pkeys_alone)
{
    struct pkeyguard_key *old = new_key(PKEYGUARD_READ_WRITE, 0), *keys[16];
    int pkey = pkeyguard_key_number(old), count = 0, rebound = -1;
    struct pkeyguard_thread_rights rights, other;

    pkeyguard_thread_save(&rights);
    destroy(NULL, old);
    pkeyguard_thread_restore(&rights);
    ck_assert_int_ne(pkey_get(pkey), 0);
    while (pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &keys[count]) == 0) {
        if (pkeyguard_key_number(keys[count]) == pkey)
            rebound = count;
        count++;
    }
    ck_assert_int_ge(rebound, 0);
    pkeyguard_thread_restore(&rights);
    ck_assert_int_eq(pkeyguard_key_rights(keys[rebound]), PKEYGUARD_NO_ACCESS);
    ck_assert_int_eq(pkeyguard_thread_switch(&other, &rights), 0);
    ck_assert_int_eq(pkeyguard_key_rights(keys[rebound]), PKEYGUARD_NO_ACCESS);
    while (count > 0)
        destroy(NULL, keys[--count]);
}
END_TEST

START_TEST(rights_of_zero_restore_nothing)
{
    static const struct pkeyguard_thread_rights zero;
    struct pkeyguard_guard guard;

    open_key(key, &guard);
    pkeyguard_thread_restore(&zero);
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    pkeyguard_release(&guard);
    assert_defaults();
}
END_TEST

/* ---- reset ---- */

START_TEST(reset_is_the_defaults)
{
    struct pkeyguard_guard guard, narrowed;

    open_key(key, &guard);
    ck_assert_int_eq(pkeyguard_restrict(shared, PKEYGUARD_NO_ACCESS, &narrowed), 0);
    pkeyguard_thread_reset();
    assert_defaults();
}
END_TEST

static void *born_inside_a_scope(void *unused)
{
    (void)unused;
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    pkeyguard_thread_reset();
    if (pku())
        assert_defaults();
    else
        assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    return NULL;
}

static void run_in_thread(void *(*function)(void *), void *argument)
{
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, function, argument), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

START_TEST(reset_closes_what_a_thread_was_born_with)
{
    pkeyguard_scoped_key_write (guard, key) {
        run_in_thread(born_inside_a_scope, NULL);
        assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    }
    assert_defaults();
}
END_TEST

static pthread_barrier_t created;
static struct pkeyguard_key *newer;

static void *older_than_the_key(void *unused)
{
    (void)unused;
    pthread_barrier_wait(&created);
    pthread_barrier_wait(&created);
    ck_assert_int_eq(pkeyguard_key_rights(newer),
                     pku() ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_ONLY);
    pkeyguard_thread_reset();
    ck_assert_int_eq(pkeyguard_key_rights(newer), PKEYGUARD_READ_ONLY);
    return NULL;
}

START_TEST(reset_gives_an_older_thread_the_default)
{
    pthread_t thread;

    pthread_barrier_init(&created, NULL, 2);
    ck_assert_int_eq(pthread_create(&thread, NULL, older_than_the_key, NULL), 0);
    pthread_barrier_wait(&created);
    newer = new_key(PKEYGUARD_READ_ONLY, 0);
    pthread_barrier_wait(&created);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    destroy(NULL, newer);
}
END_TEST

/* ---- coroutines ---- */

/* Whatever the library, this is all that its user adds to a switch. */
struct coroutine {
    struct pkeyguard_thread_rights rights;
    ucontext_t context;
    coroutine_t of_pcl;
    int steps;
    bool ended;
};
static struct coroutine scheduler, coroutines[2];
static bool enough;

static void assert_only_open(enum pkeyguard_rights of_key, enum pkeyguard_rights of_shared_key)
{
    if (pku())
        assert_rights(of_key, of_shared_key);
}

static void switch_to(struct coroutine *from, struct coroutine *to)
{
    ck_assert_int_eq(pkeyguard_thread_switch(&from->rights, &to->rights), 0);
    if (to->of_pcl != NULL)
        co_call(to->of_pcl);
    else if (from->of_pcl != NULL)
        co_resume();
    else
        ck_assert_int_eq(swapcontext(&from->context, &to->context), 0);
}

/* Two of them at once, with guards open over each switch: the first writes, the second reads. */
static void step(struct coroutine *self)
{
    bool writes = self == &coroutines[0];

    while (!enough) {
        assert_only_open(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
        switch_to(self, &scheduler);
        assert_only_open(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
        if (writes) {
            pkeyguard_scoped_write (int, number, region) {
                *number = ++self->steps;
                switch_to(self, &scheduler);
                assert_only_open(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
                ck_assert_int_eq(*number, self->steps);
            }
        } else {
            pkeyguard_scoped_read (int, number, region) {
                pkeyguard_scoped_write (int, of_shared, shared) {
                    int seen = *of_shared = *number;

                    switch_to(self, &scheduler);
                    assert_only_open(PKEYGUARD_READ_ONLY, PKEYGUARD_READ_WRITE);
                    ck_assert_int_eq(*of_shared, seen);
                }
                assert_only_open(PKEYGUARD_READ_ONLY, PKEYGUARD_READ_ONLY);
            }
            self->steps++;
        }
    }
    self->ended = true;
    switch_to(self, &scheduler);
}

static void start_of_ucontext(int number)
{
    step(&coroutines[number]);
}

static void make_context(int number)
{
    static char stacks[2][64 << 10];
    ucontext_t *context = &coroutines[number].context;

    ck_assert_int_eq(getcontext(context), 0);
    context->uc_stack = (stack_t){.ss_sp = stacks[number], .ss_size = sizeof(stacks[number])};
    makecontext(context, (void (*)(void))start_of_ucontext, 1, number);
}

static void start_of_pcl(void *self)
{
    step(self);
}

static void run_coroutines(void)
{
    /* Scheduled with something open of its own. */
    pkeyguard_scoped_write (int, of_shared, shared) {
        for (int i = 0; i < 60; i++) {
            switch_to(&scheduler, &coroutines[i % 3 == 0]);
            assert_only_open(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_WRITE);
        }
        of_shared[1]++;
    }
    enough = true;
    for (int i = 0; i < 2; i++) {
        while (!coroutines[i].ended)
            switch_to(&scheduler, &coroutines[i]);
    }
    assert_only_open(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
    ck_assert_int_ge(coroutines[0].steps, 10);
    ck_assert_int_ge(coroutines[1].steps, 9);
}

START_TEST(guards_open_on_both_sides_of_swapcontext)
{
    make_context(0);
    make_context(1);
    run_coroutines();
}
END_TEST

START_TEST(guards_open_on_both_sides_of_a_coroutine_librarys_switch)
{
    ck_assert_int_eq(co_thread_init(), 0);
    for (int i = 0; i < 2; i++) {
        coroutines[i].of_pcl = co_create(start_of_pcl, &coroutines[i], NULL, 64 << 10);
        ck_assert_ptr_nonnull(coroutines[i].of_pcl);
    }
    run_coroutines();
    for (int i = 0; i < 2; i++)
        co_delete(coroutines[i].of_pcl);
    co_thread_cleanup();
}
END_TEST

START_TEST(a_new_coroutine_starts_with_the_defaults)
{
    static const struct pkeyguard_thread_rights zero;
    struct pkeyguard_thread_rights left, also_left;
    struct pkeyguard_guard guard;

    open_key(key, &guard);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    assert_defaults();
    ck_assert_int_eq(pkeyguard_thread_switch(&also_left, &left), 0);
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, &zero), 0);
    assert_defaults();
    /* The same on both sides: the two change places. */
    ck_assert_int_eq(pkeyguard_thread_switch(&left, &left), 0);
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, &left), 0);
    assert_defaults();
}
END_TEST

/* One coroutine creates a key and has it open: the other, left before, must not. */
START_TEST(a_switch_closes_newer_keys)
{
    struct pkeyguard_thread_rights left, creator;
    struct pkeyguard_key *created_key;
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    created_key = new_key(PKEYGUARD_READ_ONLY, 0);
    open_key(created_key, &guard);
    ck_assert_int_eq(pkeyguard_thread_switch(&creator, &left), 0);
    ck_assert_int_eq(pkeyguard_key_rights(created_key), PKEYGUARD_READ_ONLY);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, &creator), 0);
    ck_assert_int_eq(pkeyguard_key_rights(created_key), PKEYGUARD_READ_WRITE);
    pkeyguard_release(&guard);
    destroy(NULL, created_key);
}
END_TEST

static struct pkeyguard_thread_rights of_coroutine;
static struct pkeyguard_guard of_coroutine_guard;

static void *go_on(void *unused)
{
    struct pkeyguard_thread_rights of_thread;

    (void)unused;
    assert_defaults();
    ck_assert_int_eq(pkeyguard_thread_switch(&of_thread, &of_coroutine), 0);
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    pkeyguard_release(&of_coroutine_guard);
    assert_defaults();
    return NULL;
}

START_TEST(a_coroutine_goes_on_in_another_thread)
{
    open_key(key, &of_coroutine_guard);
    ck_assert_int_eq(pkeyguard_thread_switch(&of_coroutine, NULL), 0);
    run_in_thread(go_on, NULL);
    assert_defaults();
}
END_TEST

/* ---- virtual keys besides ---- */

/* More than there are pkeys; some have guards open, on as many keys as have one. */
enum { OTHERS = 16 };
static struct pkeyguard_key *other_keys[OTHERS];
static struct pkeyguard_region *others[OTHERS];
static struct pkeyguard_guard other_guards[OTHERS];
static int others_open;

static void set_up_others(void)
{
    set_up_virtual();
    for (int i = 0; i < OTHERS; i++) {
        other_keys[i] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
        others[i] = new_region(other_keys[i]);
    }
}

static void tear_down_others(void)
{
    for (int i = 0; i < OTHERS; i++)
        destroy(others[i], other_keys[i]);
    tear_down();
}

static void pin_every_pkey(void)
{
    int error = 0;

    while (error == 0) {
        error = pkeyguard_acquire(others[others_open], PKEYGUARD_READ_WRITE,
                                  &other_guards[others_open]);
        others_open += error == 0;
    }
    ck_assert_int_eq(error, -EBUSY);
}

static void assert_others_open(void)
{
    for (int i = 0; i < others_open; i++)
        assert_allowed(WRITE_BYTE, address_of(others[i]));
}

static void release_others(void)
{
    while (others_open > 0)
        pkeyguard_release(&other_guards[--others_open]);
}

/* What is pinned cannot be evicted, so its key keeps its pkey. */
static bool evicted_by_others(void)
{
    pin_every_pkey();
    release_others();
    return pkeyguard_key_number(key) < 0;
}

START_TEST(every_guard_is_pinned_again)
{
    struct pkeyguard_thread_rights left, entered;
    struct pkeyguard_guard first, second;

    open_key(key, &first);
    open_key(key, &second);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), 0);
    pkeyguard_release(&second);
    ck_assert(!evicted_by_others());
    pkeyguard_release(&first);
    ck_assert(evicted_by_others());
}
END_TEST

/* Its pkey goes to another key while the coroutine that has it open is not running. */
START_TEST(a_pkey_is_lent_to_others_between_switches)
{
    struct pkeyguard_thread_rights left, entered;
    struct pkeyguard_guard first, second;
    int pkey;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &first), 0);
    ck_assert_int_eq(pkeyguard_restrict(region, PKEYGUARD_READ_ONLY, &second), 0);
    pkey = pkeyguard_key_number(key);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    assert_defaults();
    pin_every_pkey();
    ck_assert_int_lt(pkeyguard_key_number(key), 0);
    release_others();
    /* The pkey that it had is now the last to be taken. */
    for (int i = 0; i < OTHERS; i++) {
        if (pkeyguard_key_number(other_keys[i]) == pkey)
            pkeyguard_scoped_write (char, byte, others[i])
                *byte = 1;
    }
    ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), 0);
    ck_assert_int_ne(pkeyguard_key_number(key), pkey);
    assert_rights(PKEYGUARD_READ_ONLY, PKEYGUARD_READ_ONLY);
    assert_allowed(READ_BYTE, address_of(region));
    assert_denied(WRITE_BYTE, address_of(region), key);
    pkeyguard_release(&second);
    assert_allowed(WRITE_BYTE, address_of(region));
    pkeyguard_release(&first);
    assert_defaults();
    ck_assert(evicted_by_others());
}
END_TEST

START_TEST(a_switch_that_finds_no_pkey_changes_nothing)
{
    struct pkeyguard_thread_rights left, untouched, entered;
    struct pkeyguard_guard guard, other;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    ck_assert_int_eq(pkeyguard_acquire(others[OTHERS - 1], PKEYGUARD_READ_ONLY, &other), 0);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    pin_every_pkey();
    memset(&entered, 1, sizeof(entered));
    untouched = entered;
    for (int room = 0; room < 2; room++) {
        ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), -EBUSY);
        ck_assert_mem_eq(&entered, &untouched, sizeof(entered));
        assert_others_open();
        assert_rights(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
        pkeyguard_release(&other_guards[--others_open]);
    }
    ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), 0);
    assert_allowed(WRITE_BYTE, address_of(region));
    assert_allowed(READ_BYTE, address_of(others[OTHERS - 1]));
    assert_denied(READ_BYTE, address_of(others[0]), other_keys[0]);
    pkeyguard_release(&guard);
    pkeyguard_release(&other);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, &entered), 0);
    assert_others_open();
    release_others();
    assert_defaults();
}
END_TEST

START_TEST(a_switch_that_the_kernel_refuses_changes_nothing)
{
    struct pkeyguard_thread_rights left, entered;
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    pin_every_pkey();
    pkeyguard_release(&other_guards[--others_open]);
    fail_call(CALL_PKEY_MPROTECT, 0, ENOMEM, 1);
    ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), -ENOMEM);
    ck_assert(stop_failing());
    assert_others_open();
    assert_rights(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
    ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), 0);
    assert_allowed(WRITE_BYTE, address_of(region));
    pkeyguard_release(&guard);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, &entered), 0);
    release_others();
}
END_TEST

START_TEST(a_switch_leaves_out_destroyed_keys)
{
    struct pkeyguard_thread_rights left, entered;
    struct pkeyguard_guard guard, lost;

    ck_assert_int_eq(pkeyguard_acquire(others[0], PKEYGUARD_READ_WRITE, &lost), 0);
    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    ck_assert_int_eq(pkeyguard_thread_switch(&left, NULL), 0);
    destroy(others[0], other_keys[0]);
    other_keys[0] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    others[0] = new_region(other_keys[0]);
    pkeyguard_scoped_write (char, byte, others[0])
        *byte = 1;
    ck_assert_int_eq(pkeyguard_thread_switch(&entered, &left), 0);
    assert_allowed(WRITE_BYTE, address_of(region));
    assert_denied(READ_BYTE, address_of(others[0]), other_keys[0]);
    pkeyguard_release(&guard);
    assert_defaults();
}
END_TEST

static __attribute__((noreturn)) void jump_out_of_two_scopes(void)
{
    struct pkeyguard_guard guard;

    open_key(key, &guard);
    ck_assert_int_eq(pkeyguard_acquire(others[0], PKEYGUARD_READ_WRITE, &other_guards[0]), 0);
    longjmp(back, 1);
}

START_TEST(restore_drops_the_pins_a_longjmp_skipped)
{
    struct pkeyguard_thread_rights rights;
    struct pkeyguard_guard outer;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_ONLY, &outer), 0);
    pkeyguard_thread_save(&rights);
    if (setjmp(back) == 0)
        jump_out_of_two_scopes();
    assert_allowed(WRITE_BYTE, address_of(region));
    assert_allowed(WRITE_BYTE, address_of(others[0]));
    pkeyguard_thread_restore(&rights);
    assert_rights(PKEYGUARD_READ_ONLY, PKEYGUARD_READ_ONLY);
    assert_denied(WRITE_BYTE, address_of(others[0]), other_keys[0]);
    ck_assert(!evicted_by_others());
    assert_allowed(READ_BYTE, address_of(region));
    pkeyguard_release(&outer);
    ck_assert(evicted_by_others());
}
END_TEST

static struct pkeyguard_thread_rights saved_outside;

static void restore_in_handler(int signal)
{
    (void)signal;
    pkeyguard_thread_restore(&saved_outside);
    /* Both bits would say that this is no handler. */
    if (pkey_get(pkeyguard_key_number(key)) != PKEY_DISABLE_ACCESS)
        _exit(1);
}

START_TEST(restore_in_a_handler_leaves_pins)
{
    struct pkeyguard_guard guard;

    signal(SIGUSR1, restore_in_handler);
    pkeyguard_thread_save(&saved_outside);
    open_key(key, &guard);
    raise(SIGUSR1);
    ck_assert(!evicted_by_others());
    assert_allowed(WRITE_BYTE, address_of(region));
    pkeyguard_release(&guard);
    ck_assert(evicted_by_others());
}
END_TEST

/* ---- signals and other threads ---- */

static void use_all_of_it(int signal)
{
    struct pkeyguard_thread_rights rights, other;

    (void)signal;
    pkeyguard_thread_save(&rights);
    pkeyguard_thread_reset();
    if (pkeyguard_key_rights(shared_key) != PKEYGUARD_READ_ONLY)
        _exit(1);
    if (pkeyguard_thread_switch(&other, &rights) != 0)
        _exit(1);
    pkeyguard_thread_restore(&other);
    if (pkeyguard_key_rights(shared_key) != PKEYGUARD_READ_ONLY)
        _exit(1);
}

static void raise_inside_library(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    raise(SIGUSR1);
}

/* While the interrupted code is inside the library, with its lock held. */
START_TEST(a_handler_may_use_all_of_it)
{
    struct pkeyguard_guard guard;

    signal(SIGUSR1, use_all_of_it);
    before_call(CALL_MPROTECT, raise_inside_library);
    destroy(new_region(NULL), NULL);
    open_key(key, &guard);
    raise(SIGUSR1);
    assert_rights(PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY);
    pkeyguard_release(&guard);
    assert_defaults();
}
END_TEST

static atomic_int churning;

static void *churn_keys(void *unused)
{
    (void)unused;
    for (int i = 0; i < 300; i++)
        destroy(NULL, new_key(PKEYGUARD_READ_WRITE, i % 2 ? PKEYGUARD_KEY_SOFTWARE : 0));
    churning = 0;
    return NULL;
}

/* Under PKU a used pkey waits for a single thread, so few keys can be made; the threads race. */
static void *churn_few_keys(void *unused)
{
    struct pkeyguard_key *keys[8];

    (void)unused;
    for (int i = 0; i < 8; i++)
        keys[i] = new_key(PKEYGUARD_READ_WRITE, 0);
    for (int i = 0; i < 8; i++)
        destroy(NULL, keys[i]);
    churning = 0;
    return NULL;
}

START_TEST(keys_come_and_go_in_another_thread)
{
    struct pkeyguard_thread_rights rights, other;
    struct pkeyguard_guard guard;
    pthread_t thread;

    churning = 1;
    ck_assert_int_eq(pthread_create(&thread, NULL, pku() ? churn_few_keys : churn_keys, NULL), 0);
    while (churning) {
        pkeyguard_thread_save(&rights);
        open_key(key, &guard);
        if (pku()) {
            pkeyguard_thread_restore(&rights);
            assert_rights(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
            ck_assert_int_eq(pkeyguard_thread_switch(&other, NULL), 0);
            ck_assert_int_eq(pkeyguard_thread_switch(&rights, &other), 0);
        } else {
            pkeyguard_release(&guard);
        }
        pkeyguard_thread_reset();
        assert_rights(PKEYGUARD_NO_ACCESS, PKEYGUARD_READ_ONLY);
    }
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("thread");
    TCase *jumps = tcase_create("save and restore");
    TCase *births = tcase_create("reset");
    TCase *switches = tcase_create("coroutines");
    TCase *virtual = tcase_create("the same with a virtual key");
    TCase *lent = tcase_create("virtual keys that lose their pkey");
    TCase *signals = tcase_create("signals and threads");

    suite_add_tcase(suite, jumps);
    tcase_add_checked_fixture(jumps, set_up, tear_down);
    tcase_set_timeout(jumps, 60);
    tcase_add_test(jumps, restore_undoes_the_guards_a_longjmp_skipped);
    tcase_add_test(jumps, restore_gives_back_what_a_siglongjmp_lost);
    add_pku_test(jumps, other_pkeys_are_left_alone);
    tcase_add_loop_test(jumps, restore_leaves_newer_keys_alone, 0, 9);
    add_pku_test(jumps, restore_leaves_rebound_pkeys_alone);
    tcase_add_test(jumps, rights_of_zero_restore_nothing);
    suite_add_tcase(suite, births);
    tcase_add_checked_fixture(births, set_up, tear_down);
    tcase_set_timeout(births, 60);
    add_pku_test(births, reset_is_the_defaults);
    tcase_add_test(births, reset_closes_what_a_thread_was_born_with);
    tcase_add_test(births, reset_gives_an_older_thread_the_default);
    suite_add_tcase(suite, switches);
    tcase_add_checked_fixture(switches, set_up, tear_down);
    tcase_set_timeout(switches, 60);
    add_test_if(HAS_SWAPCONTEXT, NO_SWAPCONTEXT, switches,
                guards_open_on_both_sides_of_swapcontext);
    add_test_if(HAS_PCL, NO_PCL, switches,
                guards_open_on_both_sides_of_a_coroutine_librarys_switch);
    add_pku_test(switches, a_new_coroutine_starts_with_the_defaults);
    add_pku_test(switches, a_switch_closes_newer_keys);
    add_pku_test(switches, a_coroutine_goes_on_in_another_thread);
    suite_add_tcase(suite, virtual);
    tcase_add_checked_fixture(virtual, set_up_virtual, tear_down);
    tcase_set_timeout(virtual, 60);
    tcase_add_test(virtual, restore_undoes_the_guards_a_longjmp_skipped);
    tcase_add_test(virtual, restore_gives_back_what_a_siglongjmp_lost);
    add_pku_test(virtual, reset_is_the_defaults);
    tcase_add_test(virtual, reset_closes_what_a_thread_was_born_with);
    add_test_if(HAS_SWAPCONTEXT, NO_SWAPCONTEXT, virtual, guards_open_on_both_sides_of_swapcontext);
    add_test_if(HAS_PCL, NO_PCL, virtual, guards_open_on_both_sides_of_a_coroutine_librarys_switch);
    add_pku_test(virtual, a_new_coroutine_starts_with_the_defaults);
    add_pku_test(virtual, a_coroutine_goes_on_in_another_thread);
    tcase_add_test(virtual, a_handler_may_use_all_of_it);
    tcase_add_test(virtual, keys_come_and_go_in_another_thread);
    suite_add_tcase(suite, lent);
    tcase_add_checked_fixture(lent, set_up_others, tear_down_others);
    tcase_set_timeout(lent, 60);
    add_pku_test(lent, every_guard_is_pinned_again);
    add_pku_test(lent, a_pkey_is_lent_to_others_between_switches);
    add_pku_test(lent, a_switch_that_finds_no_pkey_changes_nothing);
    add_pku_test(lent, a_switch_that_the_kernel_refuses_changes_nothing);
    add_pku_test(lent, a_switch_leaves_out_destroyed_keys);
    add_pku_test(lent, restore_drops_the_pins_a_longjmp_skipped);
    add_pku_test(lent, restore_in_a_handler_leaves_pins);
    suite_add_tcase(suite, signals);
    tcase_add_checked_fixture(signals, set_up, tear_down);
    tcase_set_timeout(signals, 60);
    tcase_add_test(signals, a_handler_may_use_all_of_it);
    tcase_add_test(signals, keys_come_and_go_in_another_thread);
    return run_suite(suite);
}
