/* SPDX-License-Identifier: MIT */
/* Large closed heaps where there is no PKU: a call opens the object that it needs alone. */
#include <errno.h>

#include "failing.h"
#include "test_heap.h"

enum { OBJECT_BYTES = 32, OBJECTS = 8000 };

static struct pkeyguard_heap *heap;
static struct pkeyguard_key *key;
static char *objects[OBJECTS];

static void set_up_large_heap(int kind)
{
    key = key_of_kind(kind);
    heap = new_heap(key, MIB);
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        for (int i = 0; i < OBJECTS; i++) {
            objects[i] = new_object(heap, OBJECT_BYTES);
            objects[i][0] = 'o';
        }
    }
}

static void assert_all_closed(void)
{
    assert_denied(READ_BYTE, objects[0], key);
    assert_denied(READ_BYTE, objects[OBJECTS - 1], key);
    assert_denied(READ_BYTE, heap_start(heap) + METADATA_START, key);
}

static int looked;

/* In the part of the metadata that describes blocks of which the calls need none. */
enum { OTHER_METADATA = METADATA_START + 9 * PAGE_BYTES };

/* Between the third call, which opens the object, and the fourth, which closes it again. */
static void look_at_other_objects(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    looked++;
    expect(!try_access(READ_BYTE, objects[OBJECTS - 1]).happened);
    expect(try_access(READ_BYTE, objects[0]).happened);
    expect(try_access(WRITE_BYTE, objects[OBJECTS / 2]).happened);
    expect(!try_access(READ_BYTE, heap_start(heap) + METADATA_START).happened);
    expect(try_access(READ_BYTE, heap_start(heap) + OTHER_METADATA).happened);
}

START_TEST(other_objects_stay_closed)
{
    set_up_large_heap(_i);
    after_call(CALL_MPROTECT, 2, look_at_other_objects);
    expect(pkeyguard_heap_free(heap, objects[OBJECTS - 1]) == 0);
    expect(looked == 1);
    assert_all_closed();
    /* From the list of free slots, and from the quarantine when it is full. */
    for (int i = 1; i < 20; i++) {
        char *object = new_object(heap, OBJECT_BYTES);

        assert_all_closed();
        assert_bytes(heap, object, OBJECT_BYTES, 0);
        expect(pkeyguard_heap_free(heap, object) == 0);
        expect(pkeyguard_heap_free(heap, object) == -EINVAL);
        expect(pkeyguard_heap_free(heap, objects[i]) == 0);
        expect(pkeyguard_heap_free(heap, objects[i]) == -EINVAL);
        expect(pkeyguard_heap_free(heap, objects[i] + 1) == -EINVAL);
        assert_all_closed();
    }
    assert_bytes(heap, objects[20], 1, 'o');
    /* A large object is none of one part. */
    objects[0] = new_object(heap, 3 * PAGE_BYTES);
    assert_all_closed();
    expect(pkeyguard_heap_free(heap, objects[0]) == 0);
    expect(pkeyguard_heap_free(heap, objects[0]) == -EINVAL);
    assert_all_closed();
    destroy_heap(heap, key);
}
END_TEST

/* Then the whole heap is opened. */
START_TEST(refused_part_changes_nothing)
{
    set_up_large_heap(_i);
    for (int skip = 0; skip < 3; skip++) {
        void *object;

        fail_call(CALL_MPROTECT, skip, ENOMEM, 1);
        expect(pkeyguard_heap_free(heap, objects[skip]) == 0);
        expect(stop_failing());
        assert_all_closed();
        fail_call(CALL_MPROTECT, skip, ENOMEM, 1);
        object = new_object(heap, OBJECT_BYTES);
        expect(stop_failing());
        assert_all_closed();
        expect(pkeyguard_heap_free(heap, object) == 0);
    }
    destroy_heap(heap, key);
}
END_TEST

/*
 * Fills slabs and empties them, of one block and of two, so that calls need other blocks besides
 * the object's: those of the slot whose quarantine ends, and of the slab's neighbours in its list.
 */
START_TEST(calls_open_every_block_that_they_need)
{
    enum { KEPT = 400 };
    static char *kept[KEPT];
    int steps = in_guest() ? 1000 : 4000;

    set_up_large_heap(_i);
    random_state = 1;
    for (int step = 0; step < steps; step++) {
        /* In the first half of every 500 steps most are allocations, in the second most frees. */
        int i = (int)(random_number() % KEPT);
        bool allocate = (random_number() % 8 == 0) != (step % 500 < 250);

        if (allocate && kept[i] == NULL) {
            kept[i] = new_object(heap, random_number() % 2 == 0 ? 500 : 1500);
        } else if (!allocate && kept[i] != NULL) {
            expect(pkeyguard_heap_free(heap, kept[i]) == 0);
            expect(pkeyguard_heap_free(heap, kept[i]) == -EINVAL);
            kept[i] = NULL;
        }
    }
    assert_all_closed();
    for (int i = 0; i < KEPT; i++) {
        if (kept[i] != NULL)
            expect(pkeyguard_heap_free(heap, kept[i]) == 0);
        kept[i] = NULL;
    }
    destroy_heap(heap, key);
}
END_TEST

static void free_without_closing(void *object)
{
    fail_call(CALL_MPROTECT, 3, EACCES, 1);
    (void)pkeyguard_heap_free(heap, object);
}

START_TEST(heap_that_cannot_be_closed_again_aborts)
{
    set_up_large_heap(_i);
    assert_aborts(free_without_closing, objects[0],
                  "libpkeyguard: a heap cannot be closed again\n");
    expect(pkeyguard_heap_free(heap, objects[0]) == 0);
    destroy_heap(heap, key);
}
END_TEST

void add_parts(Suite *suite)
{
    TCase *tests = add_case(suite, "parts", NULL, NULL);

    tcase_add_loop_test(tests, other_objects_stay_closed, SOFTWARE, PRIVATE + 1);
    tcase_add_loop_test(tests, refused_part_changes_nothing, SOFTWARE, PRIVATE + 1);
    tcase_add_loop_test(tests, calls_open_every_block_that_they_need, SOFTWARE, PRIVATE + 1);
    tcase_add_loop_test(tests, heap_that_cannot_be_closed_again_aborts, SOFTWARE, PRIVATE + 1);
}
