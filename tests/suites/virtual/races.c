/* SPDX-License-Identifier: MIT */
/* A thread opens or closes a key just when the library takes its pkey. */
#include <errno.h>
#include <stdint.h>

#include "failing.h"
#include "test_virtual.h"

/* The thread that opens and closes keys while the main thread evicts one. */
static struct worker racer;

static void racer_pins_one(void *address, unsigned long length)
{
    (void)address, (void)length;
    run_on(&racer, do_acquire, (void *)0);
}

static void racer_pins_all(void *address, unsigned long length)
{
    (void)address, (void)length;
    for (int i = 0; i < POOL; i++)
        run_on(&racer, do_acquire, (void *)(intptr_t)i);
}

/*
 * Keys are opened after the library has checked their pins for the first time and before it unbinds
 * them. It checks once more after that, and gives the bindings back.
 */
START_TEST(late_pin_stops_the_eviction)
{
    int pinned = _i == 0 ? 1 : POOL;

    start_worker(&racer);
    run_on(&racer, do_register, NULL);
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    before_call(LOOK_AT_PINS, _i == 0 ? racer_pins_one : racer_pins_all);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_WRITE), _i == 0 ? 0 : -EBUSY);
    for (int i = 0; i < pinned; i++) {
        ck_assert(is_bound(i));
        ck_assert(can_read_on(&racer, address_of(regions[i])));
        assert_denied(READ_BYTE, address_of(regions[i]), keys[i]);
    }
    ck_assert(!can_read_on(&racer, address_of(regions[POOL])));
    ck_assert(try_access(READ_BYTE, address_of(regions[POOL])).happened == (_i != 0));
    for (int i = 0; i < pinned; i++) {
        run_on(&racer, do_release, (void *)(intptr_t)i);
        ck_assert(!can_read_on(&racer, address_of(regions[i])));
    }
    pkeyguard_release(&guards[POOL]);
    evict_everything(-1);
    end_worker(&racer);
}
END_TEST

/*
 * Steps of a thread with guards on key 0, a letter each: w and r acquire the next guard, to write
 * or to read; n acquires the next one, which narrows to reading; a digit releases the guard of that
 * number; x resets the thread; s switches to a new coroutine, and b back.
 */
static void run_steps(void *steps)
{
    static struct pkeyguard_guard held[2];
    static struct pkeyguard_thread_rights away, back;
    struct pkeyguard_guard *next = held;
    int error = 0;

    for (const char *step = steps; *step != '\0'; step++) {
        if (*step == 'w')
            error = pkeyguard_key_acquire(keys[0], PKEYGUARD_READ_WRITE, next++);
        else if (*step == 'r')
            error = pkeyguard_key_acquire(keys[0], PKEYGUARD_READ_ONLY, next++);
        else if (*step == 'n')
            error = pkeyguard_restrict(regions[0], PKEYGUARD_READ_ONLY, next++);
        else if (*step == 'x')
            pkeyguard_thread_reset();
        else if (*step == 's')
            error = pkeyguard_thread_switch(&away, NULL);
        else if (*step == 'b')
            error = pkeyguard_thread_switch(&back, &away);
        else
            pkeyguard_release(&held[*step - '0']);
        ck_assert_int_eq(error, 0);
    }
}

/* The calling thread has these rights on key 0. Pkey 0, which its stack has, is open. */
static void assert_rights(void *these)
{
    enum pkeyguard_rights rights = *(enum pkeyguard_rights *)these;

    ck_assert_uint_eq(pkeyguard_pkru_read() & 3, 0);
    if (regions[0] != NULL && rights == PKEYGUARD_NO_ACCESS) {
        assert_closed(0);
    } else if (regions[0] != NULL) {
        assert_allowed(READ_BYTE, address_of(regions[0]));
        if (rights == PKEYGUARD_READ_WRITE)
            assert_allowed(WRITE_BYTE, address_of(regions[0]));
        else
            assert_denied(WRITE_BYTE, address_of(regions[0]), keys[0]);
    }
    ck_assert_int_eq(pkeyguard_key_rights(keys[0]), rights);
}

/*
 * The racer's steps before key 0 is unbound, while it is unbound and after that; the rights that
 * the racer then has, and whether it then pins the key.
 */
static struct script {
    const char *before, *meanwhile, *after;
    enum pkeyguard_rights rights;
    bool pinned;
} scripts[] = {
    {"w", "0", "", PKEYGUARD_NO_ACCESS, false},   {"r", "0", "", PKEYGUARD_NO_ACCESS, false},
    {"ww", "10", "", PKEYGUARD_NO_ACCESS, false}, {"ww", "01", "", PKEYGUARD_NO_ACCESS, false},
    {"rw", "10", "", PKEYGUARD_NO_ACCESS, false}, {"ww", "1", "0", PKEYGUARD_READ_WRITE, true},
    {"rw", "1", "0", PKEYGUARD_READ_ONLY, true},  {"ww", "0", "1", PKEYGUARD_NO_ACCESS, true},
    {"wn", "1", "0", PKEYGUARD_READ_WRITE, true}, {"wn", "10", "", PKEYGUARD_NO_ACCESS, false},
    {"w", "x", "", PKEYGUARD_NO_ACCESS, false},   {"w", "s", "b0", PKEYGUARD_NO_ACCESS, false},
};
enum { SCRIPTS = sizeof(scripts) / sizeof(*scripts), WITHOUT_REGION = 8 };
static struct script *script; /* the one that runs */
static enum pkeyguard_rights no_access = PKEYGUARD_NO_ACCESS;

static void begin_script(int i)
{
    script = &scripts[i];
    start_worker(&racer);
    run_on(&racer, do_register, NULL);
}

static void run_meanwhile_steps(void *address, unsigned long length)
{
    (void)address, (void)length;
    run_on(&racer, run_steps, (void *)(uintptr_t)script->meanwhile);
    run_on(&racer, assert_rights, &script->rights);
}

static void run_before_steps(void *address, unsigned long length)
{
    (void)address, (void)length;
    run_on(&racer, run_steps, (void *)(uintptr_t)script->before);
    before_call(CALL_MEMBARRIER, run_meanwhile_steps);
}

/*
 * Keys 1 to POOL - 1 are used often, and the others take turns with one pkey. Key 0 has it last,
 * and every pkey of the pool is bound.
 */
static void make_key_0_the_next_to_lose(void)
{
    for (int round = 0; round < 20; round++) {
        for (int i = 1; i < POOL; i++)
            open_and_close(i);
        open_and_close(POOL + round % 4);
    }
    for (int pass = 0; pass < 3; pass++) {
        for (int i = 1; i < POOL; i++)
            open_and_close(i);
        open_and_close(0);
    }
}

/*
 * A pin is late again, so the key is unbound; this time the scope ends before the library checks
 * the pins once more. There are two rounds: a thread's first guard on a pkey that is newer than the
 * thread takes a slower path, and the second round starts with what the first has left.
 */
START_TEST(scope_ends_during_an_eviction)
{
    begin_script(_i);
    for (int round = 0; round < 2; round++) {
        make_key_0_the_next_to_lose();
        before_call(LOOK_AT_PINS, run_before_steps);
        ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_WRITE), 0);
        ck_assert(is_bound(0) == script->pinned);
        run_on(&racer, assert_rights, &script->rights);
        ck_assert(!can_read_on(&racer, address_of(regions[POOL])));
        run_on(&racer, run_steps, (void *)(uintptr_t)script->after);
        run_on(&racer, assert_rights, &no_access);
        pkeyguard_release(&guards[POOL]);
        evict_everything(0);
        ck_assert(!is_bound(0));
    }
    evict_everything(-1);
    end_worker(&racer);
}
END_TEST

/* Key destruction unbinds the key, too, before it checks the pins. */
START_TEST(scope_ends_during_key_destruction)
{
    evict_everything(-1);
    begin_script(_i);
    ck_assert_int_eq(pkeyguard_region_destroy(regions[0]), 0);
    regions[0] = NULL;
    run_on(&racer, run_steps, (void *)(uintptr_t)script->before);
    before_call(CALL_MEMBARRIER, run_meanwhile_steps);
    ck_assert_int_eq(pkeyguard_key_destroy(keys[0]), script->pinned ? -EBUSY : 0);
    if (script->pinned) {
        run_on(&racer, assert_rights, &script->rights);
        run_on(&racer, run_steps, (void *)(uintptr_t)script->after);
        run_on(&racer, assert_rights, &no_access);
        ck_assert_int_eq(pkeyguard_key_destroy(keys[0]), 0);
    }
    keys[0] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    regions[0] = new_region(keys[0]);
    for (int i = 0; i < KEYS; i++) {
        open_and_close(i);
        ck_assert(!can_read_on(&racer, address_of(regions[i])));
    }
    end_worker(&racer);
}
END_TEST

static void do_acquire_to_read(void *i)
{
    ck_assert_int_eq(acquire((int)(intptr_t)i, PKEYGUARD_READ_ONLY), 0);
}

static void (*racer_acquire)(void *i);

static void begin_racer_acquire(void *address, unsigned long length)
{
    (void)address, (void)length;
    begin_on(&racer, racer_acquire, (void *)0);
    wait_until_blocked(&racer);
    ck_assert_int_ne(racer.done, racer.order);
}

static void begin_racer_acquire_after_check(void *address, unsigned long length)
{
    (void)address, (void)length;
    before_call(LOOK_AT_PINS, begin_racer_acquire);
}

/*
 * A guard that begins while its key is unbound waits until the eviction ends. Here another key gets
 * the pkey. _i / 2 is the moment, _i % 2 are the guard's rights.
 */
START_TEST(guard_waits_for_a_running_eviction)
{
    racer_acquire = _i % 2 ? do_acquire_to_read : do_acquire;
    start_worker(&racer);
    run_on(&racer, do_register, NULL);
    for (int i = 0; i < POOL; i++)
        open_and_close(i);
    before_call(CALL_MEMBARRIER, _i / 2 ? begin_racer_acquire_after_check : begin_racer_acquire);
    ck_assert_int_eq(acquire(POOL, PKEYGUARD_READ_WRITE), 0);
    assert_allowed(WRITE_BYTE, address_of(regions[POOL]));
    wait_for(&racer);
    ck_assert(is_bound(0) && is_bound(POOL));
    ck_assert_int_ne(pkeyguard_key_number(keys[0]), pkeyguard_key_number(keys[POOL]));
    for (int i = 0; i < KEYS; i++) {
        ck_assert(can_read_on(&racer, address_of(regions[i])) == (i == 0));
        ck_assert(try_access(READ_BYTE, address_of(regions[i])).happened == (i != POOL));
    }
    run_on(&racer, do_release, (void *)0);
    run_on(&racer, assert_rights, &no_access);
    pkeyguard_release(&guards[POOL]);
    evict_everything(0);
    ck_assert(!is_bound(0));
    end_worker(&racer);
}
END_TEST

void add_races(Suite *suite)
{
    TCase *tests = add_case(suite, "races", set_up_keys, tear_down_keys);

    add_pku_loop_test(tests, late_pin_stops_the_eviction, 0, 2);
    add_pku_loop_test(tests, scope_ends_during_an_eviction, 0, SCRIPTS);
    add_pku_loop_test(tests, scope_ends_during_key_destruction, 0, WITHOUT_REGION);
    add_pku_loop_test(tests, guard_waits_for_a_running_eviction, 0, 4);
}
