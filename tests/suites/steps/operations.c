/* SPDX-License-Identifier: MIT */
/* The operations that are stepped through, and the state that they must leave. */
#include <errno.h>
#include <sys/mman.h>

#include "place.h"
#include "test_steps.h"

int key_count;
struct pkeyguard_key *keys[KEYS];
struct pkeyguard_region *regions[KEYS];
struct pkeyguard_heap *heap;
struct worker neighbour;
volatile int not_as_expected;
static int taken_pkeys[16], taken_count;

static void leave_few_pkeys(void)
{
    int spare = count_resources().pkeys - PKEYS;

    for (taken_count = 0; taken_count < spare; taken_count++)
        taken_pkeys[taken_count] = pkey_alloc(0, 0);
}

void set_up_kind(enum kind kind)
{
    static const unsigned flags[] = {PKEYGUARD_KEY_SOFTWARE, PKEYGUARD_KEY_HARDWARE,
                                     PKEYGUARD_KEY_VIRTUAL};

    key_count = kind == VIRTUAL ? KEYS : 2;
    if (kind == VIRTUAL)
        leave_few_pkeys();
    for (int i = 0; i < key_count; i++) {
        keys[i] = new_key(PKEYGUARD_NO_ACCESS, flags[kind]);
        regions[i] = new_region(keys[i]);
    }
    ck_assert_int_eq(pkeyguard_heap_create(keys[0], 1 << 18, 0, &heap), 0);
    /* Then so much was in use that it is opened in parts where there is no PKU. */
    ck_assert_int_eq(pkeyguard_heap_free(heap, pkeyguard_heap_alloc(heap, 40 * PAGE_BYTES)), 0);
    start_worker(&neighbour);
    run_on(&neighbour, open_other_keys, NULL); /* it is registered now */
    ck_assert_int_eq(not_as_expected, 0);
}

void tear_down_kind(void)
{
    end_worker(&neighbour);
    ck_assert_int_eq(pkeyguard_heap_destroy(heap), 0);
    for (int i = 0; i < key_count; i++)
        destroy(regions[i], keys[i]);
    while (taken_count > 0)
        pkey_free(taken_pkeys[--taken_count]);
}

/* ---- what is stepped through ---- */

void acquire_to_write(void *unused)
{
    struct pkeyguard_guard guard;

    (void)unused;
    if (pkeyguard_acquire(regions[0], PKEYGUARD_READ_WRITE, &guard) == 0) {
        *(volatile char *)address_of(regions[0]) = 1;
        pkeyguard_release(&guard);
    } else {
        EXPECT(false);
    }
}

static void acquire_to_read(void *unused)
{
    struct pkeyguard_guard outer, inner;

    (void)unused;
    if (pkeyguard_acquire(regions[0], PKEYGUARD_READ_ONLY, &outer) != 0 ||
        pkeyguard_key_acquire(keys[0], PKEYGUARD_READ_ONLY, &inner) != 0) {
        EXPECT(false);
        return;
    }
    (void)*(volatile char *)address_of(regions[0]);
    pkeyguard_release(&inner);
    pkeyguard_release(&outer);
}

static void use_auto_forms(void)
{
    pkeyguard_auto_read(char, reading, regions[0]);
    pkeyguard_auto_write_at(char, writing, regions[0], address_of(regions[0]) + 1);

    *writing = *reading;
}

static void open_scopes(void *unused)
{
    (void)unused;
    pkeyguard_scoped_read (char, reading, regions[0]) {
        pkeyguard_scoped_write (char, writing, regions[0])
            *writing = *reading;
    }
    pkeyguard_try_scoped_write (char, writing, regions[0])
        *writing = 1;
    else
        EXPECT(false);
    pkeyguard_scoped_read_at (char, reading, regions[0], address_of(regions[0]) + 1)
        (void)*(volatile const char *)reading;
    pkeyguard_scoped_key_write (guard, keys[0])
        *(volatile char *)address_of(regions[0]) = 2;
    pkeyguard_scoped_key_read (guard, keys[0]) {
        pkeyguard_scoped_restrict (narrow, regions[0], PKEYGUARD_NO_ACCESS)
            EXPECT(pkeyguard_key_enforcement(keys[0]) != PKEYGUARD_PKU ||
                   pkeyguard_key_rights(keys[0]) == PKEYGUARD_NO_ACCESS);
    }
    use_auto_forms();
}

static void nest_scopes(void *unused)
{
    (void)unused;
    pkeyguard_scoped_write (char, outside, regions[0]) {
        pkeyguard_scoped_write (char, writing, regions[0])
            *writing = *outside;
        pkeyguard_scoped_read (char, reading, regions[0])
            *outside = *reading;
    }
    pkeyguard_scoped_key_read (outside, keys[0]) {
        pkeyguard_scoped_key_read (inside, keys[0])
            (void)*(volatile char *)address_of(regions[0]);
    }
}

static void acquire_two(void *unused)
{
    static const enum pkeyguard_rights rights[] = {PKEYGUARD_READ_WRITE, PKEYGUARD_READ_ONLY};
    struct pkeyguard_guard guards[2];

    (void)unused;
    if (pkeyguard_acquire_all(2, regions, rights, guards) != 0) {
        EXPECT(false);
        return;
    }
    *(volatile char *)address_of(regions[0]) = *(volatile char *)address_of(regions[1]);
    pkeyguard_release(&guards[0]);
    pkeyguard_release(&guards[1]);
}

static void change_rights(void *unused)
{
    struct pkeyguard_thread_rights rights;

    (void)unused;
    pkeyguard_thread_save(&rights);
    pkeyguard_scoped_write (char, writing, regions[0])
        *writing = 1;
    if (pkeyguard_key_set_rights(keys[0], PKEYGUARD_READ_ONLY) == 0)
        EXPECT(pkeyguard_key_set_rights(keys[0], PKEYGUARD_NO_ACCESS) == 0);
    pkeyguard_thread_restore(&rights);
    pkeyguard_thread_reset();
}

static void use_heap(void *unused)
{
    void *small = pkeyguard_heap_alloc(heap, 40), *large = pkeyguard_heap_alloc(heap, 5000);

    (void)unused;
    EXPECT(small != NULL && large != NULL);
    EXPECT(pkeyguard_heap_free(heap, small) == 0);
    EXPECT(pkeyguard_heap_free(heap, large) == 0);
}

const struct operation operations[] = {
    {.name = "acquire to write", .run = acquire_to_write, .is_for_handlers = true},
    {.name = "acquire to read", .run = acquire_to_read, .is_for_handlers = true},
    {.name = "scopes", .run = open_scopes, .is_for_handlers = true},
    {.name = "nested scopes", .run = nest_scopes, .is_for_handlers = true},
    {.name = "acquire_all", .run = acquire_two, .is_for_handlers = true},
    {.name = "take a pkey",
     .prepare = open_other_keys,
     .run = acquire_to_write,
     .is_for_handlers = true,
     .needs_virtual = true},
    {.name = "rights", .run = change_rights, .is_for_handlers = true},
    {.name = "heap", .run = use_heap, .is_of_heap = true},
};
_Static_assert(sizeof(operations) / sizeof(*operations) == OPERATIONS, "in test_steps.h");

void get_ready(const struct operation *operation)
{
    operation->run(NULL);
    if (operation->prepare != NULL)
        operation->prepare(NULL);
}

/* ---- the state ---- */

void open_other_keys(void *unused)
{
    (void)unused;
    for (int i = 1; i < key_count; i++) {
        struct pkeyguard_guard guard;
        int error = pkeyguard_acquire(regions[i], PKEYGUARD_READ_WRITE, &guard);

        EXPECT(error == 0);
        if (error == 0)
            pkeyguard_release(&guard);
    }
}

void evict_first_key(void *unused)
{
    struct pkeyguard_guard guards[PKEYS];
    int pinned = 0;

    (void)unused;
    for (int i = 1; i < key_count && i < PKEYS; i++) {
        int error = pkeyguard_acquire(regions[i], PKEYGUARD_READ_WRITE, &guards[pinned]);

        EXPECT(error == 0 || error == -EBUSY);
        pinned += error == 0;
    }
    while (pinned > 0)
        pkeyguard_release(&guards[--pinned]);
}

static bool is_closed(int i)
{
    return pkeyguard_key_rights(keys[i]) == PKEYGUARD_NO_ACCESS &&
           try_access(READ_BYTE, address_of(regions[i])).happened &&
           try_access(WRITE_BYTE, address_of(regions[i])).happened;
}

/* The library's own, of src/pkey/thread_records.h. No thread uses the library while it runs. */
extern uint32_t thread_records_unpinned(uint32_t pkeys);

static bool is_any_pkey_pinned(void)
{
    return thread_records_unpinned(~0u) != ~0u;
}

int find_difference(int count)
{
    struct pkeyguard_guard guard;

    for (int i = 0; i < count; i++) {
        if (!is_closed(i))
            return __LINE__;
        if (pkeyguard_acquire(regions[i], PKEYGUARD_READ_WRITE, &guard) != 0)
            return __LINE__;
        *(volatile char *)address_of(regions[i]) = 1;
        pkeyguard_release(&guard);
        if (!is_closed(i))
            return __LINE__;
    }
    if (is_any_pkey_pinned())
        return __LINE__;
    return not_as_expected;
}
