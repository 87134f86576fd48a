/* SPDX-License-Identifier: MIT */
/*
 * What a function does where its thread has the library's lock, as in the handler of a signal that
 * an instruction of the library raised: it fails with -EDEADLK and changes nothing.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>

#include "test_failures.h"

/* `held` is the region whose guard takes the lock. Nothing else is open. */
static struct pkeyguard_region *held, *region, *of_software, *of_virtual;
static struct pkeyguard_key *key, *software, *virtual_key;
static struct pkeyguard_heap *heap, *software_heap;
static char *own_page, *object;

enum { OBJECTS = 200, OBJECT_BYTES = 1000 }; /* more memory than is opened at once */

static void set_up(void)
{
    held = new_region(NULL);
    key = new_key(PKEYGUARD_NO_ACCESS, 0);
    software = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE);
    virtual_key = new_key(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL);
    region = new_region(key);
    of_software = new_region(software);
    of_virtual = new_region(virtual_key);
    ck_assert_int_eq(pkeyguard_heap_create(key, 1 << 20, 0, &heap), 0);
    ck_assert_int_eq(pkeyguard_heap_create(software, 1 << 20, 0, &software_heap), 0);
    for (int i = 0; i < OBJECTS; i++)
        ck_assert_ptr_nonnull(object = pkeyguard_heap_alloc(software_heap, OBJECT_BYTES));
    own_page = mmap(NULL, PAGE_BYTES, PAGE_RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(own_page != MAP_FAILED);
}

/* The objects that functions would make, if they were not refused. */
static struct pkeyguard_key *made_key;
static struct pkeyguard_region *made_region;
static struct pkeyguard_heap *made_heap;
static struct pkeyguard_guard guard, guards[2];
static struct pkeyguard_thread_rights rights;

static int refusal(const void *result)
{
    return result != NULL ? 0 : -errno;
}

static int create_key(void)
{
    return pkeyguard_key_create(PKEYGUARD_NO_ACCESS, 0, &made_key);
}

static int create_virtual_key(void)
{
    return pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_VIRTUAL, &made_key);
}

static int create_software_key(void)
{
    return pkeyguard_key_create(PKEYGUARD_NO_ACCESS, PKEYGUARD_KEY_SOFTWARE, &made_key);
}

static int destroy_key(void)
{
    return pkeyguard_key_destroy(software);
}

static int set_rights(void)
{
    return pkeyguard_key_set_rights(software, PKEYGUARD_READ_ONLY);
}

static int set_rights_everywhere(void)
{
    return pkeyguard_key_set_rights_everywhere(key, PKEYGUARD_READ_ONLY);
}

static int create_region(void)
{
    return pkeyguard_region_create(key, 1, PAGE_RW, 0, &made_region);
}

static int create_region_with(void)
{
    return pkeyguard_region_create_with(NULL, "", 1, PAGE_RW, 0, &made_region);
}

static int adopt(void)
{
    return pkeyguard_region_adopt(key, own_page, PAGE_BYTES, PAGE_RW, 0, &made_region);
}

static int destroy_region(void)
{
    return pkeyguard_region_destroy(region);
}

static int associate(void)
{
    return pkeyguard_region_associate(region, NULL);
}

static int protect(void)
{
    return pkeyguard_region_protect(region, PROT_READ);
}

static int name(void)
{
    return pkeyguard_region_name(region, "name");
}

static int check(void)
{
    return pkeyguard_region_check(region, 0, NULL);
}

static int read_region(void)
{
    char byte;

    return pkeyguard_region_read(of_software, 0, &byte, 1);
}

static int write_region(void)
{
    return pkeyguard_region_write(of_software, 0, "", 1);
}

static int acquire(void)
{
    return pkeyguard_acquire(of_software, PKEYGUARD_READ_ONLY, &guard);
}

static int acquire_virtual(void)
{
    return pkeyguard_acquire(of_virtual, PKEYGUARD_READ_WRITE, &guard);
}

static int acquire_key(void)
{
    return pkeyguard_key_acquire(software, PKEYGUARD_READ_WRITE, &guard);
}

static int acquire_timed(void)
{
    return pkeyguard_acquire_timed(of_software, PKEYGUARD_READ_ONLY, 1000, &guard);
}

static int acquire_all(void)
{
    struct pkeyguard_region *regions[] = {of_virtual, of_software};
    static const enum pkeyguard_rights both[] = {PKEYGUARD_READ_ONLY, PKEYGUARD_READ_WRITE};

    return pkeyguard_acquire_all(2, regions, both, guards);
}

static int restrict_region(void)
{
    return pkeyguard_restrict(of_software, PKEYGUARD_NO_ACCESS, &guard);
}

static int switch_rights(void)
{
    return pkeyguard_thread_switch(&rights, NULL);
}

static int use_signal(void)
{
    return pkeyguard_thread_use_signal(SIGURG);
}

static int install_reporter(void)
{
    return pkeyguard_fault_reporter_install(0);
}

static int create_heap(void)
{
    return pkeyguard_heap_create(key, 1 << 16, 0, &made_heap);
}

static int destroy_heap(void)
{
    return pkeyguard_heap_destroy(heap);
}

static int alloc(void)
{
    return refusal(pkeyguard_heap_alloc(software_heap, 16));
}

static int alloc_large(void)
{
    return refusal(pkeyguard_heap_alloc(software_heap, 1 << 16));
}

static int resize(void)
{
    return refusal(pkeyguard_heap_realloc(software_heap, object, 2 * OBJECT_BYTES));
}

static int free_object(void)
{
    return pkeyguard_heap_free(software_heap, object);
}

static int usable_size(void)
{
    return pkeyguard_heap_usable_size(software_heap, object) != 0 ? 0 : -errno;
}

static int (*const calls[])(void) = {
    create_key,
    create_virtual_key,
    create_software_key,
    destroy_key,
    set_rights,
    set_rights_everywhere,
    create_region,
    create_region_with,
    adopt,
    destroy_region,
    associate,
    protect,
    name,
    check,
    read_region,
    write_region,
    acquire,
    acquire_virtual,
    acquire_key,
    acquire_timed,
    acquire_all,
    restrict_region,
    switch_rights,
    pkeyguard_thread_register,
    use_signal,
    install_reporter,
    pkeyguard_protect_records,
    create_heap,
    destroy_heap,
    alloc,
    alloc_large,
    resize,
    free_object,
    usable_size,
};
enum { CALLS_WITH_LOCK = sizeof(calls) / sizeof(*calls) };

static int (*call)(void);
static int result;

static void call_with_lock(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    result = call();
}

static void hold_and_call(int (*function)(void))
{
    call = function;
    result = 1;
    before_call(CALL_MPROTECT, call_with_lock);
    pkeyguard_scoped_write (char, byte, held)
        *byte = 1;
}

/* All is closed and as it was, and can be used and destroyed. */
static void assert_unchanged(void)
{
    ck_assert(made_key == NULL && made_region == NULL && made_heap == NULL);
    ck_assert_uint_eq(guard.undo | guard.cleared | guards[0].undo | guards[1].undo, 0);
    ck_assert_ptr_eq(pkeyguard_region_key(region), key);
    ck_assert_int_eq(pkeyguard_region_prot(region), PAGE_RW);
    assert_denied(READ_BYTE, address_of(region), key);
    assert_denied(READ_BYTE, address_of(of_software), software);
    assert_page_denied(READ_BYTE, address_of(of_virtual)); /* it has no pkey */
    assert_allowed(WRITE_BYTE, own_page);
    ck_assert_uint_ge(pkeyguard_heap_usable_size(software_heap, object), OBJECT_BYTES);
    ck_assert_int_eq(pkeyguard_heap_destroy(software_heap), 0);
    ck_assert_int_eq(pkeyguard_heap_destroy(heap), 0);
    destroy(of_virtual, virtual_key);
    destroy(of_software, software);
    destroy(region, key);
    destroy(held, NULL);
}

START_TEST(call_with_the_lock_held_changes_nothing)
{
    hold_and_call(calls[_i]);
    ck_assert_int_eq(result, -EDEADLK);
    assert_unchanged();
}
END_TEST

/* Not in a process that has heaps already. */
START_TEST(first_heap_with_the_lock_held_is_refused)
{
    held = new_region(NULL);
    hold_and_call(create_heap);
    ck_assert_int_eq(result, -EDEADLK);
    ck_assert_int_eq(create_heap(), 0);
    ck_assert_int_eq(pkeyguard_heap_destroy(made_heap), 0);
    destroy(held, NULL);
}
END_TEST

static int pass_gate(void)
{
    pkeyguard_scoped_closed (gate)
        ck_abort_msg("the gate is open");
    return 0;
}

static void pass_gate_with_lock(void *unused)
{
    (void)unused;
    hold_and_call(pass_gate);
}

/* A gate cannot fail. */
START_TEST(call_gate_with_the_lock_held_aborts)
{
    assert_aborts(pass_gate_with_lock, NULL,
                  "libpkeyguard: a call gate: this thread is inside the library already: called "
                  "from a fork handler, or from the handler of a signal that an instruction "
                  "raised\n");
}
END_TEST

void add_held_lock(Suite *suite)
{
    TCase *tests = add_case(suite, "held lock", set_up, NULL);
    TCase *first = add_case(suite, "held lock at first", NULL, NULL);

    tcase_add_loop_test(tests, call_with_the_lock_held_changes_nothing, 0, CALLS_WITH_LOCK);
    tcase_add_test(tests, call_gate_with_the_lock_held_aborts);
    tcase_add_test(first, first_heap_with_the_lock_held_is_refused);
}
