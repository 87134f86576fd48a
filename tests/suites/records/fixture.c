/* SPDX-License-Identifier: MIT */
/* Helpers for the files of this suite. */
#include <signal.h>
#include <string.h>

#include "test_records.h"

void *new_record(enum record kind)
{
    static const unsigned flags[] = {[DEDICATED_KEY] = PKEYGUARD_KEY_HARDWARE,
                                     [VIRTUAL_KEY] = PKEYGUARD_KEY_VIRTUAL,
                                     [SOFTWARE_KEY] = PKEYGUARD_KEY_SOFTWARE};
    struct pkeyguard_heap *heap;

    if (kind == REGION)
        return new_region(key);
    if (kind != HEAP)
        return new_key(PKEYGUARD_NO_ACCESS, flags[kind]);
    ck_assert_int_eq(pkeyguard_heap_create(key, PAGE_BYTES, 0, &heap), 0);
    return heap;
}

void protect(void)
{
    ck_assert_int_eq(pkeyguard_protect_records(), 0);
}

void write_same_byte(void *record)
{
    volatile char *byte = record;
    char same = *byte;

    *byte = same;
}

void assert_protected(void *record)
{
    assert_page_denied(WRITE_BYTE, record);
    assert_allowed(READ_BYTE, record);
}

static void use_region(struct pkeyguard_key *of, struct pkeyguard_key *other)
{
    struct pkeyguard_region *used = new_region(of);

    ck_assert_int_eq(pkeyguard_region_name(used, "used"), 0);
    pkeyguard_scoped_write (int, number, used) {
        *number = 5;
    }
    ck_assert_int_eq(pkeyguard_region_associate(used, other), 0);
    ck_assert_int_eq(pkeyguard_region_protect(used, 1), 0);
    pkeyguard_scoped_read (int, number, used) {
        ck_assert_int_eq(*number, 5);
    }
    ck_assert_ptr_eq(pkeyguard_region_of(address_of(used)), used);
    ck_assert_int_eq(pkeyguard_region_destroy(used), 0);
}

static void use_heap(struct pkeyguard_key *of)
{
    enum { OBJECTS = 40, SIZE = 1000 };
    struct pkeyguard_heap *heap;
    char *object;

    ck_assert_int_eq(pkeyguard_heap_create(of, OBJECTS * 2 * SIZE, 0, &heap), 0);
    for (int i = 0; i < OBJECTS; i++) {
        object = pkeyguard_heap_alloc(heap, SIZE);
        ck_assert_ptr_nonnull(object);
        ck_assert_ptr_eq(pkeyguard_heap_of(object), heap);
    }
    ck_assert_int_eq(pkeyguard_heap_free(heap, object), 0);
    ck_assert_int_eq(pkeyguard_heap_destroy(heap), 0);
}

/* More virtual keys than there are pkeys: each needs one that another key has. */
static void use_virtual_keys(void)
{
    enum { KEYS = 16 };
    struct pkeyguard_region *regions[KEYS];

    for (int i = 0; i < KEYS; i++) {
        regions[i] = new_region(new_record(VIRTUAL_KEY));
        pkeyguard_scoped_write (int, number, regions[i]) {
            *number = i;
        }
    }
    for (int i = 0; i < KEYS; i++)
        destroy(regions[i], pkeyguard_region_key(regions[i]));
}

void use_library(void)
{
    struct pkeyguard_key *software = new_record(SOFTWARE_KEY);

    use_region(key, software);
    use_region(software, key);
    use_region(NULL, software);
    use_heap(key);
    use_heap(software);
    ck_assert_int_eq(pkeyguard_key_set_rights(software, PKEYGUARD_READ_ONLY), 0);
    destroy(NULL, software);
    use_virtual_keys();
}
