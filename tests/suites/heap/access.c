/* SPDX-License-Identifier: MIT */
/* When objects and metadata are accessible. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>

#include "failing.h"
#include "test_heap.h"

START_TEST(objects_are_reachable_only_in_scopes)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    struct pkeyguard_region *region = pkeyguard_heap_region(heap);
    char *small = new_object(heap, 32), *large = new_object(heap, 10000);

    expect(pkeyguard_region_key(region) == key);
    expect(pkeyguard_region_size(region) == MIB);
    assert_denied(READ_BYTE, small, key);
    assert_denied(WRITE_BYTE, large + 9999, key);
    pkeyguard_scoped_read_at (char, byte, region, small) {
        assert_allowed(READ_BYTE, small);
        assert_denied(WRITE_BYTE, small, key);
    }
    pkeyguard_scoped_write_at (char, byte, region, large) {
        assert_allowed(WRITE_BYTE, large);
        assert_allowed(WRITE_BYTE, small + 31);
    }
    assert_denied(READ_BYTE, small, key);
    assert_denied(READ_BYTE, large, key);
    destroy_heap(heap, key);
}
END_TEST

/* A guard page of a heap, with the heap's key open. */
#define assert_guard_page(access, address) \
    assert_fault_(access, address, guard_pages_inside() ? SEGV_MAPERR : SEGV_ACCERR, -1)

/* The metadata has the key of the objects, and an inaccessible page lies between them. */
START_TEST(metadata_is_behind_a_guard_page)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    struct pkeyguard_region *region = pkeyguard_heap_region(heap);
    char *all = new_object(heap, MIB);

    expect(all == heap_start(heap));
    assert_denied(READ_BYTE, all + METADATA_START, key);
    assert_denied(WRITE_BYTE, all + METADATA_START, key);
    pkeyguard_scoped_write_at (char[MIB], bytes, region, all) {
        assert_allowed(WRITE_BYTE, all + MIB - 1);
        assert_guard_page(WRITE_BYTE, all + MIB);
        assert_guard_page(READ_BYTE, all + METADATA_START - 1);
        assert_guard_page(READ_BYTE, all - 1);
        assert_allowed(READ_BYTE, all + METADATA_START);
    }
    pkeyguard_scoped_read_at (char, byte, region, all)
        assert_denied(WRITE_BYTE, all + METADATA_START, key);
    if (denial_pkey(key) > 0)
        expect(pkey_of_mapping(all + METADATA_START) == pkeyguard_key_number(key));
    destroy_heap(heap, key);
}
END_TEST

/*
 * That page stays inaccessible with a guard on the key, after page rights have changed and after
 * the region has moved to another key.
 */
START_TEST(page_before_the_metadata_stays_inaccessible)
{
    struct pkeyguard_key *key = key_of_kind(SOFTWARE), *next = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    struct pkeyguard_region *region = pkeyguard_heap_region(heap);
    char *gap = heap_start(heap) + MIB, *object = new_object(heap, 100);

    pkeyguard_scoped_key_write (all, key) {
        assert_allowed(WRITE_BYTE, gap - 1);
        assert_guard_page(READ_BYTE, gap);
    }
    expect(pkeyguard_region_associate(region, next) == 0);
    expect(pkeyguard_region_protect(region, PROT_READ) == 0);
    expect(pkeyguard_region_protect(region, PAGE_RW) == 0);
    assert_denied(READ_BYTE, object, next);
    assert_denied(READ_BYTE, gap + PAGE_BYTES, next);
    pkeyguard_scoped_key_write (all, next) {
        assert_allowed(WRITE_BYTE, gap - 1);
        assert_guard_page(READ_BYTE, gap);
    }
    expect(pkeyguard_heap_free(heap, object) == 0);
    expect(pkeyguard_key_destroy(key) == 0);
    destroy_heap(heap, next);
}
END_TEST

START_TEST(heap_calls_leave_rights_as_they_were)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    struct pkeyguard_region *region = pkeyguard_heap_region(heap);
    char *object;

    object = new_object(heap, 32);
    assert_denied(READ_BYTE, object, key);
    pkeyguard_scoped_read_at (char, byte, region, object) {
        expect(pkeyguard_heap_free(heap, new_object(heap, 32)) == 0);
        object = pkeyguard_heap_realloc(heap, object, 5000);
        assert_allowed(READ_BYTE, object);
        assert_denied(WRITE_BYTE, object, key);
    }
    assert_denied(READ_BYTE, object, key);
    pkeyguard_scoped_write_at (char, byte, region, object) {
        expect(pkeyguard_heap_usable_size(heap, object) >= 5000);
        expect(pkeyguard_heap_free(heap, new_object(heap, 32)) == 0);
        assert_pointer_refused(heap, object + 1);
        assert_allowed(WRITE_BYTE, object);
    }
    assert_denied(READ_BYTE, object, key);
    destroy_heap(heap, key);
}
END_TEST

/*
 * No call fails although every system call would. The second part shows that a call that is made
 * does fail.
 */
START_TEST(open_scope_saves_every_system_call)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    bool mprotect_is_called = pkeyguard_key_enforcement(key) == PKEYGUARD_MPROTECT;

    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        fail_call(ANY_CALL, 0, ENOMEM, 1000000);
        for (size_t size = 1; size < 20000; size += 97) {
            char *object = pkeyguard_heap_realloc(heap, new_object(heap, size), 2 * size);

            expect(object != NULL);
            expect(pkeyguard_heap_free(heap, object) == 0);
        }
        expect(!stop_failing());
    }
    fail_call(ANY_CALL, 0, ENOMEM, 1);
    if (mprotect_is_called)
        assert_out_of_room(pkeyguard_heap_alloc(heap, 5000));
    else
        expect(pkeyguard_heap_alloc(heap, 5000) != NULL);
    expect(stop_failing() == mprotect_is_called);
    destroy_heap(heap, key);
}
END_TEST

static struct pkeyguard_guard guard_to_release;

static void *release_guard(void *unused)
{
    pkeyguard_release(&guard_to_release);
    return unused;
}

/* A guard that no longer has the heap open does not stand for the one that a call needs. */
START_TEST(heap_is_opened_where_its_guard_has_it_closed)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    struct pkeyguard_region *region = pkeyguard_heap_region(heap);
    pthread_t thread;

    pkeyguard_scoped_write (char, bytes, region) {
        pkeyguard_scoped_closed (gate)
            expect(pkeyguard_heap_free(heap, new_object(heap, 32)) == 0);
    }
    pkeyguard_scoped_read (char, byte, region)
        expect(pkeyguard_heap_free(heap, new_object(heap, 32)) == 0);
    if (pkeyguard_key_enforcement(key) == PKEYGUARD_MPROTECT) {
        expect(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard_to_release) == 0);
        expect(pthread_create(&thread, NULL, release_guard, NULL) == 0);
        expect(pthread_join(thread, NULL) == 0);
        expect(pkeyguard_heap_free(heap, new_object(heap, 32)) == 0);
    }
    assert_denied(READ_BYTE, heap_start(heap), key);
    destroy_heap(heap, key);
}
END_TEST

void add_access(Suite *suite)
{
    TCase *tests = add_case(suite, "access", NULL, NULL);

    tcase_add_loop_test(tests, objects_are_reachable_only_in_scopes, 0, ENFORCED_KINDS);
    tcase_add_loop_test(tests, metadata_is_behind_a_guard_page, 0, ENFORCED_KINDS);
    tcase_add_test(tests, page_before_the_metadata_stays_inaccessible);
    tcase_add_test(tests, heap_calls_leave_rights_as_they_were);
    tcase_add_loop_test(tests, open_scope_saves_every_system_call, 0, KINDS);
    tcase_add_loop_test(tests, heap_is_opened_where_its_guard_has_it_closed, 0, ENFORCED_KINDS);
}
