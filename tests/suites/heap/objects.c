/* SPDX-License-Identifier: MIT */
/* Allocating, resizing and freeing objects. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "heap_model.h"
#include "test_heap.h"

/* Volatile, because compilers warn of sizes that no object can have. */
static volatile size_t largest_size = SIZE_MAX;

/* Two objects of each size, side by side. */
START_TEST(objects_are_zero_aligned_and_disjoint)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, 8 * MIB);
    enum { SIZES = 2200 };
    static char *objects[2 * SIZES];

    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        for (size_t i = 0; i < 2 * SIZES; i++) {
            size_t size = i / 2, usable;

            objects[i] = new_object(heap, size);
            usable = pkeyguard_heap_usable_size(heap, objects[i]);
            expect((uintptr_t)objects[i] % 16 == 0);
            expect(usable >= size);
            expect(usable <= (size <= 128 ? size + 16 : size <= 2048 ? size + size / 4 : 4096));
            expect(pkeyguard_heap_owns(heap, objects[i]));
            assert_bytes(heap, objects[i], usable, 0);
            fill_object(heap, objects[i], (int)(i % 251) + 1);
        }
        for (size_t i = 0; i < 2 * SIZES; i++) {
            size_t usable = pkeyguard_heap_usable_size(heap, objects[i]);

            assert_bytes(heap, objects[i], usable, (int)(i % 251) + 1);
            expect(pkeyguard_heap_free(heap, objects[i]) == 0);
        }
    }
    destroy_heap(heap, key);
}
END_TEST

START_TEST(aligned_alloc_aligns)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, 64 * MIB);

    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        for (size_t alignment = 1; alignment <= MIB; alignment *= 2) {
            static const size_t sizes[] = {0, 1, 17, 100, 1025, 2048, 2049, 4096, 70000};

            for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
                char *object = pkeyguard_heap_aligned_alloc(heap, alignment, sizes[i]);

                expect(object != NULL);
                expect((uintptr_t)object % alignment == 0);
                expect((uintptr_t)object % 16 == 0);
                expect(pkeyguard_heap_usable_size(heap, object) >= sizes[i]);
                fill_object(heap, object, 'a');
                if (i % 2 == 0)
                    expect(pkeyguard_heap_free(heap, object) == 0);
            }
        }
    }
    for (size_t alignment = 0; alignment < 100; alignment++) {
        if (alignment != 0 && (alignment & (alignment - 1)) == 0)
            continue;
        errno = 0;
        expect(pkeyguard_heap_aligned_alloc(heap, alignment, 1) == NULL);
        expect(errno == EINVAL);
    }
    assert_out_of_room(pkeyguard_heap_aligned_alloc(heap, largest_size / 2 + 1, 1));
    assert_out_of_room(pkeyguard_heap_aligned_alloc(heap, (largest_size >> 17) + 1,
                                                    1)); /* no address is a multiple of 2^47 */
    destroy_heap(heap, key);
}
END_TEST

/*
 * The heap hands out slots of slabs of one block, slots of slabs of two blocks, and whole blocks.
 */
const size_t size_of_each_class[SIZE_CLASSES] = {1, 32, 300, 1024, 1100, 2048, 2049, 12288, 100000};

START_TEST(freed_memory_is_wiped)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    size_t size = size_of_each_class[_i], usable;
    char *before = new_object(heap, size), *object = new_object(heap, size);
    char *after = new_object(heap, size);

    usable = pkeyguard_heap_usable_size(heap, object);
    fill_object(heap, before, 'b');
    fill_object(heap, object, 'o');
    fill_object(heap, after, 'a');
    errno = 0;
    expect(pkeyguard_heap_free(heap, object) == 0);
    expect(errno == 0);
    assert_bytes(heap, object, usable, 0);
    object = pkeyguard_heap_calloc(heap, 1, size);
    assert_bytes(heap, object, usable, 0);
    assert_bytes(heap, before, usable, 'b');
    assert_bytes(heap, after, usable, 'a');
    destroy_heap(heap, key);
}
END_TEST

START_TEST(bad_pointers_are_refused)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB), *other = new_heap(key, MIB);
    size_t size = size_of_each_class[_i], usable;
    char *objects[5], *of_malloc = malloc(size), *of_other = new_object(other, size);
    char local;

    for (int i = 0; i < 5; i++) {
        objects[i] = new_object(heap, size);
        fill_object(heap, objects[i], i + 1);
    }
    usable = pkeyguard_heap_usable_size(heap, objects[0]);
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        /* Pointers into the middle of an object. */
        for (size_t i = 1; i<usable; i += usable> 5000 ? 16 : 1)
            assert_pointer_refused(heap, objects[2] + i);
        /* Objects that are freed already. */
        expect(pkeyguard_heap_free(heap, objects[1]) == 0);
        assert_pointer_refused(heap, objects[1]);
        assert_pointer_refused(heap, objects[1] + 1);
        expect(pkeyguard_heap_free(heap, objects[3]) == 0);
        assert_pointer_refused(heap, objects[1]);
        assert_pointer_refused(heap, objects[3]);
        /* Memory that is not of this heap. */
        assert_pointer_refused(heap, of_malloc);
        assert_pointer_refused(heap, &local);
        assert_pointer_refused(heap, of_other);
        assert_pointer_refused(other, objects[2]);
        assert_pointer_refused(heap, (void *)16);
        assert_pointer_refused(heap, (void *)-16);
        /* Memory of the heap that was never handed out, and memory outside. */
        assert_pointer_refused(heap, heap_start(heap) + MIB - 16);
        assert_pointer_refused(heap, heap_start(heap) + MIB - PAGE_BYTES);
        assert_pointer_refused(heap, heap_start(heap) + MIB);
        assert_pointer_refused(heap, heap_start(heap) + METADATA_START);
        assert_pointer_refused(heap, heap_start(heap) - 16);
    }
    for (int i = 0; i < 5; i += 2) {
        assert_bytes(heap, objects[i], usable, i + 1);
        expect(pkeyguard_heap_free(heap, objects[i]) == 0);
        assert_pointer_refused(heap, objects[i]);
    }
    expect(pkeyguard_heap_free(other, of_other) == 0);
    free(of_malloc);
    destroy_heap(other, NULL);
    destroy_heap(heap, key);
}
END_TEST

/* The rest at the end of a slab, too small for a slot, is not handed out. */
START_TEST(slab_has_as_many_slots_as_fit)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, PAGE_BYTES);
    char *start = heap_start(heap), *object;
    int count = 0;

    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        while ((object = pkeyguard_heap_alloc(heap, 48)) != NULL) {
            expect(object == start + count * 48);
            count++;
        }
        expect(count == PAGE_BYTES / 48);
        assert_pointer_refused(heap, start + count * 48);
    }
    destroy_heap(heap, key);
}
END_TEST

START_TEST(realloc_keeps_the_content)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, 2 * MIB);
    char *object, *neighbour, *old;
    size_t usable;

    object = pkeyguard_heap_realloc(heap, NULL, 1);
    expect(object != NULL);
    neighbour = new_object(heap, 1);
    fill_object(heap, neighbour, 'n');
    fill_object(heap, object, 'o');
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        /* Grows through every size class, then shrinks. */
        for (size_t size = 1; size < 300000; size += size / 9 + 1) {
            usable = pkeyguard_heap_usable_size(heap, object);
            old = object;
            object = pkeyguard_heap_realloc(heap, object, size);
            expect(object != NULL);
            expect((object == old) == (size <= usable));
            assert_bytes(heap, object, size < usable ? size : usable, 'o');
            if (object != old) {
                assert_bytes(heap, old, usable, 0);
                assert_pointer_refused(heap, old);
                assert_bytes(heap, object + usable,
                             pkeyguard_heap_usable_size(heap, object) - usable, 0);
                fill_object(heap, object, 'o');
            }
        }
        for (size_t size = 300000; size > 0; size -= size / 9 + 1) {
            usable = pkeyguard_heap_usable_size(heap, object);
            object = pkeyguard_heap_realloc(heap, object, size);
            expect(object != NULL);
            assert_bytes(heap, object, size < usable ? size : usable, 'o');
            expect(pkeyguard_heap_usable_size(heap, object) <=
                   (2 * size + 16 > PAGE_BYTES ? 2 * size + PAGE_BYTES : 2 * size + 16));
            fill_object(heap, object, 'o');
        }
        old = object;
        object = pkeyguard_heap_realloc(heap, object, 0);
        expect(object == old);
        assert_bytes(heap, neighbour, 16, 'n');
    }
    expect(pkeyguard_heap_free(heap, object) == 0);
    destroy_heap(heap, key);
}
END_TEST

START_TEST(realloc_without_room_changes_nothing)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, 4 * PAGE_BYTES);
    char *object = new_object(heap, 3 * PAGE_BYTES), *last = new_object(heap, PAGE_BYTES);

    fill_object(heap, object, 'o');
    assert_out_of_room(pkeyguard_heap_realloc(heap, object, 3 * PAGE_BYTES + 1));
    assert_out_of_room(pkeyguard_heap_realloc(heap, object, largest_size));
    assert_bytes(heap, object, 3 * PAGE_BYTES, 'o');
    /* Shrinking always works: if need be the object stays where it is. */
    expect(pkeyguard_heap_realloc(heap, object, 1) == object);
    assert_bytes(heap, object, 3 * PAGE_BYTES, 'o');
    expect(pkeyguard_heap_free(heap, last) == 0);
    expect(pkeyguard_heap_realloc(heap, object, 1) == last);
    assert_bytes(heap, last, 1, 'o');
    destroy_heap(heap, key);
}
END_TEST

START_TEST(calloc_multiplies_and_clears)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    char *object = pkeyguard_heap_calloc(heap, 25, 40);

    expect(pkeyguard_heap_usable_size(heap, object) >= 1000);
    assert_bytes(heap, object, 1000, 0);
    assert_out_of_room(pkeyguard_heap_calloc(heap, largest_size / 8 + 2, 8));
    assert_out_of_room(pkeyguard_heap_calloc(heap, 8, largest_size / 8 + 2));
    assert_out_of_room(pkeyguard_heap_calloc(heap, largest_size, 1));
    expect(pkeyguard_heap_calloc(heap, 0, largest_size) != NULL);
    expect(pkeyguard_heap_calloc(heap, largest_size, 0) != NULL);
    destroy_heap(heap, key);
}
END_TEST

START_TEST(objects_of_size_zero_are_distinct)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    void *one = new_object(heap, 0), *two = new_object(heap, 0);

    expect(one != two);
    expect(pkeyguard_heap_free(heap, one) == 0);
    expect(pkeyguard_heap_free(heap, two) == 0);
    destroy_heap(heap, key);
}
END_TEST

/*
 * The heap is filled with objects of one size after the other, and with a single object in between:
 * no room is lost.
 */
START_TEST(exhausted_heap_works_on)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, 64 * PAGE_BYTES);
    static const size_t sizes[] = {16, 2048, 64, 4096, 1024, 8192, 1792, 32};
    static void *objects[64 * PAGE_BYTES / 16 + 1];

    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
            size_t slab = sizes[s] > 1024 && sizes[s] < 4096 ? 8192 : PAGE_BYTES;
            size_t in_each = sizes[s] > 4096 ? 1 : slab / sizes[s], count = 0;
            void *again;

            while ((objects[count] = pkeyguard_heap_alloc(heap, sizes[s])) != NULL)
                count++;
            expect(errno == ENOMEM);
            expect(count == (64 * PAGE_BYTES / (sizes[s] > 4096 ? sizes[s] : slab) * in_each));
            assert_out_of_room(pkeyguard_heap_alloc(heap, sizes[s]));
            again = objects[count / 2];
            expect(pkeyguard_heap_free(heap, again) == 0);
            expect(pkeyguard_heap_alloc(heap, sizes[s]) == again);
            /* The odd ones first, so that free spans of every shape are merged. */
            for (size_t i = 1; i < count; i += 2)
                expect(pkeyguard_heap_free(heap, objects[i]) == 0);
            for (size_t i = 0; i < count; i += 2)
                expect(pkeyguard_heap_free(heap, objects[i]) == 0);
            objects[0] = new_object(heap, 64 * PAGE_BYTES);
            assert_out_of_room(pkeyguard_heap_alloc(heap, 1));
            assert_bytes(heap, objects[0], 64 * PAGE_BYTES, 0);
            expect(pkeyguard_heap_free(heap, objects[0]) == 0);
        }
    }
    destroy_heap(heap, key);
}
END_TEST

START_TEST(capacity_is_a_limit)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB - 1);
    void *all;

    assert_out_of_room(pkeyguard_heap_alloc(heap, MIB + 1));
    assert_out_of_room(pkeyguard_heap_alloc(heap, largest_size));
    assert_out_of_room(pkeyguard_heap_alloc(heap, largest_size - 4094));
    all = new_object(heap, MIB);
    assert_out_of_room(pkeyguard_heap_alloc(heap, 0));
    expect(pkeyguard_heap_free(heap, all) == 0);
    expect(pkeyguard_heap_alloc(heap, 0) != NULL);
    assert_out_of_room(pkeyguard_heap_alloc(heap, MIB));
    destroy_heap(heap, key);
}
END_TEST

START_TEST(heap_and_model_agree)
{
    struct pkeyguard_key *key = key_of_kind(_i % KINDS);
    uint8_t bytes[4096];
    size_t steps = 0;

    random_state = (unsigned)_i;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)random_number();
    steps = heap_model_run(key, bytes, sizeof(bytes));
    expect(steps > 300);
    expect(pkeyguard_key_destroy(key) == 0);
}
END_TEST

void add_objects(Suite *suite)
{
    TCase *tests = add_case(suite, "objects", NULL, NULL);

    tcase_add_loop_test(tests, objects_are_zero_aligned_and_disjoint, 0, KINDS);
    tcase_add_test(tests, aligned_alloc_aligns);
    tcase_add_loop_test(tests, freed_memory_is_wiped, 0, SIZE_CLASSES);
    tcase_add_loop_test(tests, bad_pointers_are_refused, 0, SIZE_CLASSES);
    tcase_add_test(tests, slab_has_as_many_slots_as_fit);
    tcase_add_test(tests, realloc_keeps_the_content);
    tcase_add_test(tests, realloc_without_room_changes_nothing);
    tcase_add_test(tests, calloc_multiplies_and_clears);
    tcase_add_test(tests, objects_of_size_zero_are_distinct);
    tcase_add_loop_test(tests, exhausted_heap_works_on, 0, KINDS);
    tcase_add_test(tests, capacity_is_a_limit);
    tcase_add_loop_test(tests, heap_and_model_agree, 0, KINDS);
}
