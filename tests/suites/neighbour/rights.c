/* SPDX-License-Identifier: MIT */
/*
 * The neighbour's rights outlast every function of the library: those that it had before, and those
 * that it chooses in the middle of one.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "test_neighbour.h"

/* What the neighbour has, and what it chooses inside an operation. */
static unsigned before, chosen;

static void neighbour_chooses(void)
{
    assert_neighbour_denies(before);
    neighbour_denies(chosen);
}

/* ---- operations: in the middle of each the neighbour chooses its rights anew ---- */

static void write_in_a_scope(void)
{
    pkeyguard_scoped_write (char, byte, region) {
        neighbour_chooses();
        *byte = 's';
    }
}

static void read_in_a_scope(void)
{
    pkeyguard_scoped_read (char, byte, region) {
        neighbour_chooses();
        ck_assert_int_ne(*byte, 'n');
    }
}

static void restrict_in_a_scope(void)
{
    pkeyguard_scoped_key_write (outer, key) {
        pkeyguard_scoped_restrict (inner, region, PKEYGUARD_READ_ONLY) {
            neighbour_chooses();
        }
        *(volatile char *)address = 'r';
    }
}

static void open_several(void)
{
    static const enum pkeyguard_rights rights[] = {PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY};
    struct pkeyguard_key *second = new_key(PKEYGUARD_NO_ACCESS, 0);
    struct pkeyguard_region *regions[] = {region, new_region(second)};
    struct pkeyguard_guard guards[2];

    ck_assert_int_eq(pkeyguard_acquire_all(2, regions, rights, guards), 0);
    neighbour_chooses();
    pkeyguard_release(&guards[1]);
    pkeyguard_release(&guards[0]);
    destroy(regions[1], second);
}

static void open_more_virtual_keys_than_pkeys(void)
{
    enum { COUNT = PKEYS_OF_CPU + 3 };
    struct pkeyguard_key *keys[COUNT];
    struct pkeyguard_region *regions[COUNT];

    for (int i = 0; i < COUNT; i++) {
        keys[i] = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
        regions[i] = new_region(keys[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        pkeyguard_scoped_write (char, byte, regions[i]) {
            if (i == COUNT / 2)
                neighbour_chooses();
            *byte = 'v';
        }
        assert_denied(READ_BYTE, address_of(regions[i]), keys[i]);
    }
    for (int i = 0; i < COUNT; i++)
        destroy(regions[i], keys[i]);
}

static void close_in_a_gate(void)
{
    pkeyguard_scoped_write (char, byte, region) {
        pkeyguard_scoped_closed (gate) {
            neighbour_chooses();
        }
        *byte = 'g';
    }
}

/* With an argument: accesses the closed region, which ends the call. */
static int choose_in_a_call(void *forbidden)
{
    neighbour_chooses();
    if (forbidden != NULL)
        access_byte(WRITE_BYTE, forbidden);
    return 1;
}

static void try_a_call(char *forbidden)
{
    struct pkeyguard_fault fault;
    int result;

    ck_assert_int_eq(pkeyguard_fault_reporter_install(PKEYGUARD_REPORTER_RECOVER), 0);
    ck_assert_int_eq(pkeyguard_try_call(choose_in_a_call, forbidden, &result, &fault),
                     forbidden == NULL ? 0 : -EFAULT);
}

static void try_a_call_that_returns(void)
{
    try_a_call(NULL);
}

static void try_a_call_that_faults(void)
{
    try_a_call(address);
}

static void switch_coroutines(void)
{
    struct pkeyguard_thread_rights own, other;

    pkeyguard_scoped_write (char, byte, region) {
        ck_assert_int_eq(pkeyguard_thread_switch(&own, NULL), 0);
        neighbour_chooses();
        ck_assert_int_eq(pkeyguard_thread_switch(&other, &own), 0);
        *byte = 'c';
    }
}

static jmp_buf back;

static void jump_out_of_a_scope(void)
{
    pkeyguard_scoped_read (char, byte, region) {
        neighbour_chooses();
        (void)byte;
        if (pku())
            longjmp(back, 1);
    }
}

static void restore_after_a_jump(void)
{
    struct pkeyguard_thread_rights rights;

    pkeyguard_thread_save(&rights);
    if (setjmp(back) == 0)
        jump_out_of_a_scope();
    pkeyguard_thread_restore(&rights);
}

static void reset_inside_a_guard(void)
{
    struct pkeyguard_guard guard;

    ck_assert_int_eq(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard), 0);
    neighbour_chooses();
    if (!pku())
        pkeyguard_release(&guard);
    pkeyguard_thread_reset();
}

static void register_the_thread(void)
{
    neighbour_chooses();
    ck_assert_int_eq(pkeyguard_thread_register(), 0);
}

static void set_rights(void)
{
    ck_assert_int_eq(pkeyguard_key_set_rights(key, PKEYGUARD_READ_WRITE), 0);
    neighbour_chooses();
    ck_assert_int_eq(pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_NO_ACCESS), 0);
}

static void create_and_destroy(void)
{
    struct pkeyguard_key *second = new_key(PKEYGUARD_READ_WRITE, 0);
    struct pkeyguard_region *moved = new_region(second);

    neighbour_chooses();
    ck_assert_int_eq(pkeyguard_region_protect(moved, PROT_READ), 0);
    ck_assert_int_eq(pkeyguard_region_associate(moved, key), 0);
    destroy(moved, second);
}

static void adopt(void)
{
    char *page = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct pkeyguard_region *adopted;

    ck_assert_int_eq(pkeyguard_region_adopt(key, page, PAGE_BYTES, PAGE_RW, 0, &adopted), 0);
    neighbour_chooses();
    destroy(adopted, NULL);
    munmap(page, PAGE_BYTES);
}

static void use_a_heap(void)
{
    struct pkeyguard_heap *heap;
    void *object;

    ck_assert_int_eq(pkeyguard_heap_create(key, 1 << 20, 0, &heap), 0);
    object = pkeyguard_heap_alloc(heap, 100);
    ck_assert_ptr_nonnull(object);
    neighbour_chooses();
    ck_assert_int_eq(pkeyguard_heap_free(heap, object), 0);
    ck_assert_int_eq(pkeyguard_heap_destroy(heap), 0);
}

static void look_at_the_platform(void)
{
    struct pkeyguard_platform platform;

    neighbour_chooses();
    ck_assert_int_eq(pkeyguard_platform_probe(&platform), 0);
    if (pku())
        ck_assert_int_eq(pkeyguard_platform_self_test(), 0);
}

static void open_in_handler(int signal)
{
    (void)signal;
    pkeyguard_scoped_write (char, byte, region) {
        *byte = 'h';
    }
}

static void open_in_a_handler(void)
{
    signal(SIGUSR1, open_in_handler);
    neighbour_chooses();
    raise(SIGUSR1);
}

static const struct operation {
    const char *name;
    void (*run)(void);
} operations[] = {
    {"write in a scope", write_in_a_scope},
    {"read in a scope", read_in_a_scope},
    {"restrict in a scope", restrict_in_a_scope},
    {"open several", open_several},
    {"open more virtual keys than pkeys", open_more_virtual_keys_than_pkeys},
    {"close in a gate", close_in_a_gate},
    {"try a call that returns", try_a_call_that_returns},
    {"try a call that faults", try_a_call_that_faults},
    {"switch coroutines", switch_coroutines},
    {"restore after a jump", restore_after_a_jump},
    {"reset inside a guard", reset_inside_a_guard},
    {"register the thread", register_the_thread},
    {"set rights", set_rights},
    {"create and destroy", create_and_destroy},
    {"adopt", adopt},
    {"use a heap", use_a_heap},
    {"look at the platform", look_at_the_platform},
    {"open in a handler", open_in_a_handler},
};
enum { OPERATIONS = sizeof(operations) / sizeof(*operations) };

/* After each the key is closed again, too. */
START_TEST(neighbours_rights_outlast_every_operation)
{
    int pkeys[] = {pkey_of_mapping(neighbour.pages[0]), pkey_of_mapping(neighbour.pages[1])};

    for (before = 0; before < DENIALS; before++) {
        for (chosen = 0; chosen < DENIALS; chosen++) {
            neighbour_denies(before);
            operations[_i].run();
            assert_neighbour_denies(chosen);
            assert_denied(READ_BYTE, address, key);
        }
    }
    for (int i = 0; i < NEIGHBOURS_PAGES; i++)
        ck_assert_int_eq(pkey_of_mapping(neighbour.pages[i]), pkeys[i]);
}
END_TEST

/* A child of fork(3) has the neighbour's rights, too, and may reset its own. */
START_TEST(fork_child_keeps_the_neighbours_rights)
{
    pid_t child;

    neighbour_denies((unsigned)_i);
    pkeyguard_scoped_write (char, byte, region) {
        child = fork();
        if (child == 0) {
            if (pku()) {
                pkeyguard_thread_reset();
                assert_denied(READ_BYTE, address, key);
            }
            assert_neighbour_denies((unsigned)_i);
            _exit(42);
        }
        assert_exits(child, 42);
        *byte = 'p';
    }
    assert_neighbour_denies((unsigned)_i);
}
END_TEST

void add_rights(Suite *suite)
{
    TCase *tests = add_case(suite, "rights", move_in, move_out);

    tcase_add_loop_test(tests, neighbours_rights_outlast_every_operation, 0, OPERATIONS);
    tcase_add_loop_test(tests, fork_child_keeps_the_neighbours_rights, 0, DENIALS);
}
