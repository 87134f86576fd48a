/* SPDX-License-Identifier: MIT */
/* Freed memory: when it is handed out again, and stray writes to it. */
#include <errno.h>
#include <string.h>

#include "test_heap.h"

/* How many others must be freed, as heap.h says. */
enum { SMALL_OTHERS = 7, LARGE_OTHERS = 4 };

static int others_to_free(size_t size)
{
    return size <= 2048 ? SMALL_OTHERS : LARGE_OTHERS;
}

/* An object's memory is handed out again after so many others were freed, and no earlier. */
START_TEST(freed_memory_is_kept_back)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    size_t size = size_of_each_class[_i];
    char *object = new_object(heap, size), *other;
    int freed = 0;

    expect(pkeyguard_heap_free(heap, object) == 0);
    while ((other = new_object(heap, size)) != object) {
        assert_pointer_refused(heap, object);
        expect(pkeyguard_heap_free(heap, other) == 0);
        expect(++freed < 1000);
    }
    expect(freed >= others_to_free(size));
    assert_bytes(heap, object, pkeyguard_heap_usable_size(heap, object), 0);
    expect(pkeyguard_heap_free(heap, object) == 0);
    destroy_heap(heap, key);
}
END_TEST

/* Unless there is no other room. */
START_TEST(full_heap_uses_freed_memory_at_once)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, 64 * PAGE_BYTES);
    size_t size = size_of_each_class[_i];
    char *object, *last = NULL;

    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        while ((object = pkeyguard_heap_alloc(heap, size)) != NULL)
            last = object;
        for (int i = 0; i < 20; i++) {
            expect(pkeyguard_heap_free(heap, last) == 0);
            assert_pointer_refused(heap, last);
            expect(pkeyguard_heap_alloc(heap, size) == last);
            assert_out_of_room(pkeyguard_heap_alloc(heap, size));
        }
    }
    destroy_heap(heap, key);
}
END_TEST

/* Where a stray write hits freed memory: which object's, and which byte of it. */
struct stray_write {
    size_t size;
    int objects; /* that are freed, the written one first */
    int byte;    /* from the end if it is negative */
};

static struct pkeyguard_heap *stray_heap;

/* The pointer stays in use after free on purpose. */
static char *volatile stray_pointer;

static void write_to_freed_object(void *argument)
{
    const struct stray_write *write = argument;
    char *objects[4 * SMALL_OTHERS], *dirty;
    bool handed_out = false;
    size_t usable;

    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(stray_heap)) {
        for (int i = 0; i < write->objects; i++)
            objects[i] = new_object(stray_heap, write->size);
        stray_pointer = objects[0];
        usable = pkeyguard_heap_usable_size(stray_heap, stray_pointer);
        for (int i = 0; i < write->objects; i++)
            expect(pkeyguard_heap_free(stray_heap, objects[i]) == 0);
        dirty = stray_pointer + (write->byte < 0 ? (ptrdiff_t)usable : 0) + write->byte;
        *dirty = 'x';
        /* Each of these that is handed out is zero; the one that is not ends the process. */
        for (int i = 0; i < 300; i++) {
            char *object = new_object(stray_heap, write->size);

            assert_bytes(stray_heap, object, usable, 0);
            handed_out = handed_out || (object <= dirty && dirty < object + usable);
            if (i % 2 == 0)
                expect(pkeyguard_heap_free(stray_heap, object) == 0);
        }
    }
    expect(handed_out);
}

/*
 * A small object that was written to after it was freed is found when its memory is to be handed
 * out again: out of quarantine, or, when more objects were freed than are kept there, out of its
 * slab.
 */
START_TEST(stray_write_to_a_small_object_is_found)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    const int bytes[] = {0, 15, -1};

    stray_heap = new_heap(key, 16 * MIB);
    for (int i = 0; i < 3; i++) {
        struct stray_write write = {size_of_each_class[_i], 1, bytes[i]};

        assert_aborts(write_to_freed_object, &write,
                      "libpkeyguard: a freed object of a heap was written to\n");
        write.objects = 4 * SMALL_OTHERS;
        assert_aborts(write_to_freed_object, &write,
                      "libpkeyguard: a freed object of a heap was written to\n");
    }
    expect(pkeyguard_region_name(pkeyguard_heap_region(stray_heap), "sessions") == 0);
    assert_aborts(write_to_freed_object, &(struct stray_write){size_of_each_class[_i], 1, 3},
                  "libpkeyguard: a freed object of a heap was written to: region 'sessions'\n");
    destroy_heap(stray_heap, key);
}
END_TEST

/* A large object's memory is zero when it is handed out again. */
START_TEST(stray_write_to_a_large_object_is_wiped)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    const int bytes[] = {0, 3000, -1};

    stray_heap = new_heap(key, 64 * MIB);
    for (int i = 0; i < 3; i++) {
        struct stray_write write = {size_of_each_class[_i], 1, bytes[i]};

        assert_ends(write_to_freed_object, &write, "", 0);
        write.objects = 4 * LARGE_OTHERS;
        assert_ends(write_to_freed_object, &write, "", 0);
    }
    destroy_heap(stray_heap, key);
}
END_TEST

void add_quarantine(Suite *suite)
{
    TCase *tests = add_case(suite, "quarantine", NULL, NULL);

    tcase_add_loop_test(tests, freed_memory_is_kept_back, 0, SIZE_CLASSES);
    tcase_add_loop_test(tests, full_heap_uses_freed_memory_at_once, 0, SIZE_CLASSES);
    tcase_add_loop_test(tests, stray_write_to_a_small_object_is_found, 0, SMALL_CLASSES);
    tcase_add_loop_test(tests, stray_write_to_a_large_object_is_wiped, SMALL_CLASSES, SIZE_CLASSES);
}
