/* SPDX-License-Identifier: MIT */
/* System calls that fail. */
#include <errno.h>

#include "failing.h"
#include "test_heap.h"

START_TEST(failed_creation_leaves_nothing)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = NULL;
    struct resources before;
    int calls = 0, not_needed = 0;

    /* With an open key creation must set page rights. */
    if (key != NULL)
        expect(pkeyguard_key_set_rights(key, PKEYGUARD_READ_WRITE) == 0);
    before = count_resources();
    for (;; calls++) {
        int error;
        bool failed;

        fail_call(ANY_CALL, calls, calls % 2 == 0 ? ENOMEM : EACCES, 1);
        error = pkeyguard_heap_create(key, MIB, 0, &heap);
        failed = stop_failing();
        expect(calls < 20);
        if (!failed)
            break;
        if (error == 0) {
            /*
             * Where the kernel refuses guard pages, the library makes other pages inaccessible. It
             * asks twice for them, once for each of three, and once whether memory is locked.
             */
            expect(++not_needed <= 5);
            expect(pkeyguard_heap_destroy(heap) == 0);
            heap = NULL;
        } else {
            expect(error == -ENOMEM || (error == -EACCES && calls % 2 == 1));
        }
        expect(heap == NULL);
        assert_resources(before);
    }
    /* At least the calls for records, mmap, madvise and page rights. */
    expect(calls >= (key == NULL ? 3 : 5));
    destroy_heap(heap, key);
}
END_TEST

START_TEST(failed_destruction_leaves_a_working_heap)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    int calls = 0;

    for (;; calls++) {
        char *object = new_object(heap, 32);
        int error;

        fill_object(heap, object, 'd');
        fail_call(ANY_CALL, calls, ENOMEM, 1);
        error = pkeyguard_heap_destroy(heap);
        expect(calls < 20);
        if (!stop_failing()) {
            expect(error == 0);
            break;
        }
        if (error == 0) {
            /* The failed call was not needed: a heap that is unmapped need not be closed. */
            heap = new_heap(key, MIB);
            continue;
        }
        expect(error == -ENOMEM);
        expect(pkeyguard_heap_of(object) == heap);
        assert_denied(READ_BYTE, object, key);
        /* Its objects are all as they were, or all freed and wiped. */
        if (pkeyguard_heap_usable_size(heap, object) == 0)
            assert_bytes(heap, object, 32, 0);
        else
            assert_bytes(heap, object, 32, 'd');
    }
    expect(calls >= 1);
    expect(pkeyguard_key_destroy(key) == 0);
}
END_TEST

/* Under mprotect each call outside a scope makes some system calls. */
START_TEST(calls_fail_when_the_heap_cannot_be_opened)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    char *object = new_object(heap, 32);

    fill_object(heap, object, 'o');
    for (int skip = 0; skip < (guard_pages_inside() ? 1 : 2); skip++) {
        fail_call(CALL_MPROTECT, skip, EACCES, 1);
        errno = 0;
        expect(pkeyguard_heap_alloc(heap, 1) == NULL);
        expect(errno == EACCES);
        fail_call(CALL_MPROTECT, skip, ENOMEM, 1);
        assert_out_of_room(pkeyguard_heap_realloc(heap, object, 100));
        fail_call(CALL_MPROTECT, skip, EACCES, 1);
        errno = 0;
        expect(pkeyguard_heap_usable_size(heap, object) == 0);
        expect(errno == EACCES);
        fail_call(CALL_MPROTECT, skip, EACCES, 1);
        errno = ERANGE;
        expect(pkeyguard_heap_free(heap, object) == -EACCES);
        expect(errno == ERANGE);
        expect(stop_failing());
        assert_denied(READ_BYTE, object, key);
        assert_denied(READ_BYTE, heap_start(heap) + METADATA_START, key);
    }
    assert_bytes(heap, object, 32, 'o');
    expect(pkeyguard_heap_free(heap, object) == 0);
    destroy_heap(heap, key);
}
END_TEST

static void set_errno(void *unused, unsigned long length)
{
    (void)unused, (void)length;
    errno = EDOM;
}

/* A system call of the library changes errno although it succeeds. */
START_TEST(free_keeps_errno)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, MIB);

    for (size_t size = 1; size < 100000; size *= 2) {
        char *object = new_object(heap, size);

        before_call(CALL_MPROTECT, set_errno);
        errno = ERANGE;
        expect(pkeyguard_heap_free(heap, object) == 0);
        expect(errno == ERANGE);
        expect(pkeyguard_heap_free(heap, object) == -EINVAL);
        expect(errno == ERANGE);
        before_call(ANY_CALL, NULL);
    }
    destroy_heap(heap, key);
}
END_TEST

void add_failures(Suite *suite)
{
    TCase *tests = add_case(suite, "failures", NULL, NULL);

    tcase_add_loop_test(tests, failed_creation_leaves_nothing, 0, KINDS);
    tcase_add_loop_test(tests, failed_destruction_leaves_a_working_heap, 0, ENFORCED_KINDS);
    tcase_add_loop_test(tests, free_keeps_errno, 0, KINDS);
    tcase_add_loop_test(tests, calls_fail_when_the_heap_cannot_be_opened, SOFTWARE, PRIVATE + 1);
}
