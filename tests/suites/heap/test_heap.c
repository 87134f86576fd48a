/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "failing.h"
#include "heap_model.h"
#include "place.h"
#include "support.h"

enum { MIB = 1 << 20, METADATA_START = MIB + PAGE_BYTES };

/* libcheck notes every assertion in a file; here are millions. */
#define expect(condition) \
    ((condition) ? (void)0 : ck_abort_msg("line %d: not so: %s", __LINE__, #condition))

/* Compilers warn of sizes that no object can have. */
static volatile size_t most = SIZE_MAX;

/* The kinds of key that a heap can have, for loop tests. */
enum kind { PLAIN, SOFTWARE, PRIVATE, ENFORCED_KINDS, OPTIONAL = ENFORCED_KINDS, KINDS };

static struct pkeyguard_key *key_of_kind(int kind)
{
    static const unsigned flags[] = {
        [PLAIN] = 0, [SOFTWARE] = PKEYGUARD_KEY_SOFTWARE, [OPTIONAL] = PKEYGUARD_KEY_OPTIONAL};

    return kind == PRIVATE ? NULL : new_key(PKEYGUARD_NO_ACCESS, flags[kind]);
}

static struct pkeyguard_heap *new_heap(struct pkeyguard_key *key, size_t capacity)
{
    struct pkeyguard_heap *heap = NULL;

    expect(pkeyguard_heap_create(key, capacity, 0, &heap) == 0);
    expect(heap != NULL);
    return heap;
}

static void destroy_heap(struct pkeyguard_heap *heap, struct pkeyguard_key *key)
{
    expect(pkeyguard_heap_destroy(heap) == 0);
    expect(pkeyguard_key_destroy(key) == 0);
}

static void *new_object(struct pkeyguard_heap *heap, size_t size)
{
    void *object = pkeyguard_heap_alloc(heap, size);

    expect(object != NULL);
    return object;
}

static char *start_of(const struct pkeyguard_heap *heap)
{
    return address_of(pkeyguard_heap_region(heap));
}

/* Every byte that may be used, set to value, or compared with it. */
static void fill(struct pkeyguard_heap *heap, void *object, int value)
{
    size_t usable = pkeyguard_heap_usable_size(heap, object);

    expect(usable > 0);
    pkeyguard_scoped_write_at (char, bytes, pkeyguard_heap_region(heap), object)
        memset(bytes, value, usable);
}

static void assert_all(struct pkeyguard_heap *heap, const void *memory, size_t size, int value)
{
    size_t differ = 0;

    pkeyguard_scoped_read_at (char, bytes, pkeyguard_heap_region(heap), memory) {
        for (size_t i = 0; i < size; i++)
            differ += bytes[i] != (char)value;
    }
    expect(differ == 0);
}

static void assert_refused(struct pkeyguard_heap *heap, void *address)
{
    expect(pkeyguard_heap_free(heap, address) == -EINVAL);
    errno = 0;
    expect(pkeyguard_heap_realloc(heap, address, 1) == NULL);
    expect(errno == EINVAL);
    errno = 0;
    expect(pkeyguard_heap_usable_size(heap, address) == 0);
    expect(errno == EINVAL);
}

#define assert_no_room(object)   \
    do {                         \
        errno = 0;               \
        expect(object == NULL);  \
        expect(errno == ENOMEM); \
    } while (0)

START_TEST(objects_are_reachable_in_scopes_only)
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

/* Whether the guard pages of a heap are inside its mapping, which then is one. */
static bool guards_inside(void)
{
    return test_platform()->guard_madvise;
}

/* With the key open. */
#define assert_guard_page(access, address) \
    assert_fault_(access, address, guards_inside() ? SEGV_MAPERR : SEGV_ACCERR, -1)

/* Metadata lies behind a page that nobody can reach, under the same key. */
START_TEST(metadata_is_out_of_reach)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    struct pkeyguard_region *region = pkeyguard_heap_region(heap);
    char *all = new_object(heap, MIB);

    expect(all == start_of(heap));
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

/* Also when the guard is on the key, and when page rights change or the region moves. */
START_TEST(the_page_between_stays_out_of_reach)
{
    struct pkeyguard_key *key = key_of_kind(SOFTWARE), *next = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    struct pkeyguard_region *region = pkeyguard_heap_region(heap);
    char *gap = start_of(heap) + MIB, *object = new_object(heap, 100);

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

START_TEST(rights_are_left_as_they_were)
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
        assert_refused(heap, object + 1);
        assert_allowed(WRITE_BYTE, object);
    }
    assert_denied(READ_BYTE, object, key);
    destroy_heap(heap, key);
}
END_TEST

/* What the environment of every test counts on: a call that is made is seen. */
START_TEST(an_open_scope_saves_every_system_call)
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
        assert_no_room(pkeyguard_heap_alloc(heap, 1));
    else
        expect(pkeyguard_heap_alloc(heap, 1) != NULL);
    expect(stop_failing() == mprotect_is_called);
    destroy_heap(heap, key);
}
END_TEST

/* Two of every size, side by side. */
START_TEST(objects_are_zero_aligned_and_apart)
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
            assert_all(heap, objects[i], usable, 0);
            fill(heap, objects[i], (int)(i % 251) + 1);
        }
        for (size_t i = 0; i < 2 * SIZES; i++) {
            size_t usable = pkeyguard_heap_usable_size(heap, objects[i]);

            assert_all(heap, objects[i], usable, (int)(i % 251) + 1);
            expect(pkeyguard_heap_free(heap, objects[i]) == 0);
        }
    }
    destroy_heap(heap, key);
}
END_TEST

START_TEST(alignment_can_be_asked_for)
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
                fill(heap, object, 'a');
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
    assert_no_room(pkeyguard_heap_aligned_alloc(heap, most / 2 + 1, 1));
    assert_no_room(
        pkeyguard_heap_aligned_alloc(heap, (most >> 17) + 1, 1)); /* no heap is at 2^47 */
    destroy_heap(heap, key);
}
END_TEST

/* Of each way to hand memory out: a slot, one of a slab of two blocks, whole blocks. */
static const size_t sizes_of_each_way[] = {1, 32, 300, 1024, 1100, 2048, 2049, 12288, 100000};
enum { WAYS = sizeof(sizes_of_each_way) / sizeof(*sizes_of_each_way) };

START_TEST(freed_memory_is_wiped_and_used_again)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    size_t size = sizes_of_each_way[_i], usable;
    char *before = new_object(heap, size), *object = new_object(heap, size);
    char *after = new_object(heap, size);

    usable = pkeyguard_heap_usable_size(heap, object);
    fill(heap, before, 'b');
    fill(heap, object, 'o');
    fill(heap, after, 'a');
    errno = 0;
    expect(pkeyguard_heap_free(heap, object) == 0);
    expect(errno == 0);
    assert_all(heap, object, usable, 0);
    expect(pkeyguard_heap_calloc(heap, 1, size) == object);
    assert_all(heap, object, usable, 0);
    assert_all(heap, before, usable, 'b');
    assert_all(heap, after, usable, 'a');
    destroy_heap(heap, key);
}
END_TEST

START_TEST(bad_frees_are_refused)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB), *other = new_heap(key, MIB);
    size_t size = sizes_of_each_way[_i], usable;
    char *objects[5], *of_malloc = malloc(size), *of_other = new_object(other, size);
    char local;

    for (int i = 0; i < 5; i++) {
        objects[i] = new_object(heap, size);
        fill(heap, objects[i], i + 1);
    }
    usable = pkeyguard_heap_usable_size(heap, objects[0]);
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        /* Into the middle. */
        for (size_t i = 1; i<usable; i += usable> 5000 ? 16 : 1)
            assert_refused(heap, objects[2] + i);
        /* Freed already. */
        expect(pkeyguard_heap_free(heap, objects[1]) == 0);
        assert_refused(heap, objects[1]);
        assert_refused(heap, objects[1] + 1);
        expect(pkeyguard_heap_free(heap, objects[3]) == 0);
        assert_refused(heap, objects[1]);
        assert_refused(heap, objects[3]);
        /* From elsewhere. */
        assert_refused(heap, of_malloc);
        assert_refused(heap, &local);
        assert_refused(heap, of_other);
        assert_refused(other, objects[2]);
        assert_refused(heap, (void *)16);
        assert_refused(heap, (void *)-16);
        /* Never handed out, and beyond. */
        assert_refused(heap, start_of(heap) + MIB - 16);
        assert_refused(heap, start_of(heap) + MIB - PAGE_BYTES);
        assert_refused(heap, start_of(heap) + MIB);
        assert_refused(heap, start_of(heap) + METADATA_START);
        assert_refused(heap, start_of(heap) - 16);
    }
    for (int i = 0; i < 5; i += 2) {
        assert_all(heap, objects[i], usable, i + 1);
        expect(pkeyguard_heap_free(heap, objects[i]) == 0);
        assert_refused(heap, objects[i]);
    }
    expect(pkeyguard_heap_free(other, of_other) == 0);
    free(of_malloc);
    destroy_heap(other, NULL);
    destroy_heap(heap, key);
}
END_TEST

/* Slots that a slab has no room for, and the rest at its end, are nobody's. */
START_TEST(a_slab_has_as_many_slots_as_fit)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, PAGE_BYTES);
    char *start = start_of(heap), *object;
    int count = 0;

    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        while ((object = pkeyguard_heap_alloc(heap, 48)) != NULL) {
            expect(object == start + count * 48);
            count++;
        }
        expect(count == PAGE_BYTES / 48);
        assert_refused(heap, start + count * 48);
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
    fill(heap, neighbour, 'n');
    fill(heap, object, 'o');
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        /* Up through every class, then down. */
        for (size_t size = 1; size < 300000; size += size / 9 + 1) {
            usable = pkeyguard_heap_usable_size(heap, object);
            old = object;
            object = pkeyguard_heap_realloc(heap, object, size);
            expect(object != NULL);
            expect((object == old) == (size <= usable));
            assert_all(heap, object, size < usable ? size : usable, 'o');
            if (object != old) {
                assert_all(heap, old, usable, 0);
                assert_refused(heap, old);
                assert_all(heap, object + usable, pkeyguard_heap_usable_size(heap, object) - usable,
                           0);
                fill(heap, object, 'o');
            }
        }
        for (size_t size = 300000; size > 0; size -= size / 9 + 1) {
            usable = pkeyguard_heap_usable_size(heap, object);
            object = pkeyguard_heap_realloc(heap, object, size);
            expect(object != NULL);
            assert_all(heap, object, size < usable ? size : usable, 'o');
            expect(pkeyguard_heap_usable_size(heap, object) <=
                   (2 * size + 16 > PAGE_BYTES ? 2 * size + PAGE_BYTES : 2 * size + 16));
            fill(heap, object, 'o');
        }
        old = object;
        object = pkeyguard_heap_realloc(heap, object, 0);
        expect(object == old);
        assert_all(heap, neighbour, 16, 'n');
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

    fill(heap, object, 'o');
    assert_no_room(pkeyguard_heap_realloc(heap, object, 3 * PAGE_BYTES + 1));
    assert_no_room(pkeyguard_heap_realloc(heap, object, most));
    assert_all(heap, object, 3 * PAGE_BYTES, 'o');
    /* Smaller always works, if need be in the place that it has. */
    expect(pkeyguard_heap_realloc(heap, object, 1) == object);
    assert_all(heap, object, 3 * PAGE_BYTES, 'o');
    expect(pkeyguard_heap_free(heap, last) == 0);
    expect(pkeyguard_heap_realloc(heap, object, 1) == last);
    assert_all(heap, last, 1, 'o');
    destroy_heap(heap, key);
}
END_TEST

START_TEST(calloc_counts_and_clears)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    char *object = pkeyguard_heap_calloc(heap, 25, 40);

    expect(pkeyguard_heap_usable_size(heap, object) >= 1000);
    assert_all(heap, object, 1000, 0);
    assert_no_room(pkeyguard_heap_calloc(heap, most / 8 + 2, 8));
    assert_no_room(pkeyguard_heap_calloc(heap, 8, most / 8 + 2));
    assert_no_room(pkeyguard_heap_calloc(heap, most, 1));
    expect(pkeyguard_heap_calloc(heap, 0, most) != NULL);
    expect(pkeyguard_heap_calloc(heap, most, 0) != NULL);
    destroy_heap(heap, key);
}
END_TEST

START_TEST(objects_of_no_size_are_apart)
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

/* Full of one size, then of another, then of one object: nothing of the room is lost. */
START_TEST(an_exhausted_heap_goes_on_working)
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
            assert_no_room(pkeyguard_heap_alloc(heap, sizes[s]));
            again = objects[count / 2];
            expect(pkeyguard_heap_free(heap, again) == 0);
            expect(pkeyguard_heap_alloc(heap, sizes[s]) == again);
            /* Odd ones first, so that spans of every shape meet. */
            for (size_t i = 1; i < count; i += 2)
                expect(pkeyguard_heap_free(heap, objects[i]) == 0);
            for (size_t i = 0; i < count; i += 2)
                expect(pkeyguard_heap_free(heap, objects[i]) == 0);
            objects[0] = new_object(heap, 64 * PAGE_BYTES);
            assert_no_room(pkeyguard_heap_alloc(heap, 1));
            assert_all(heap, objects[0], 64 * PAGE_BYTES, 0);
            expect(pkeyguard_heap_free(heap, objects[0]) == 0);
        }
    }
    destroy_heap(heap, key);
}
END_TEST

static struct pkeyguard_heap *shared_heap;

static void *fill_a_page(void *unused)
{
    void *object = new_object(shared_heap, 2048);

    (void)unused;
    expect(pkeyguard_heap_alloc(shared_heap, 2048) != NULL);
    return object;
}

/* Room in a slab that another thread made is room, and an empty one is everybody's. */
START_TEST(threads_do_not_keep_room_from_each_other)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    pthread_t thread;
    void *object;

    shared_heap = new_heap(key, 2 * PAGE_BYTES);
    expect(pthread_create(&thread, NULL, fill_a_page, NULL) == 0);
    expect(pthread_join(thread, &object) == 0);
    expect(pkeyguard_heap_alloc(shared_heap, 2048) != NULL);
    expect(pkeyguard_heap_alloc(shared_heap, 2048) != NULL);
    assert_no_room(pkeyguard_heap_alloc(shared_heap, 2048));
    for (int i = 0; i < 4; i++)
        expect(pkeyguard_heap_free(shared_heap, start_of(shared_heap) + i * 2048) == 0);
    expect(pkeyguard_heap_alloc(shared_heap, 2 * PAGE_BYTES) != NULL);
    destroy_heap(shared_heap, key);
}
END_TEST

START_TEST(capacity_is_a_limit)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB - 1);
    void *all;

    assert_no_room(pkeyguard_heap_alloc(heap, MIB + 1));
    assert_no_room(pkeyguard_heap_alloc(heap, most));
    assert_no_room(pkeyguard_heap_alloc(heap, most - 4094));
    all = new_object(heap, MIB);
    assert_no_room(pkeyguard_heap_alloc(heap, 0));
    expect(pkeyguard_heap_free(heap, all) == 0);
    expect(pkeyguard_heap_alloc(heap, 0) != NULL);
    assert_no_room(pkeyguard_heap_alloc(heap, MIB));
    destroy_heap(heap, key);
}
END_TEST

static long status_kib(const char *field)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    long kib = -1;

    expect(status != NULL);
    while (fgets(line, sizeof(line), status) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0)
            kib = atol(line + strlen(field));
    }
    fclose(status);
    expect(kib >= 0);
    return kib;
}

/* Sanitizers and valgrind take memory of their own beside each of the program's pages, and time. */
static bool runs_without_a_tool(void)
{
    return getenv("PKEYGUARD_TEST_TOOL") == NULL;
}

START_TEST(objects_are_many_and_small)
{
    enum { MANY = 100000 };
    struct pkeyguard_key *key = key_of_kind(_i);
    struct resources before = count_resources(), with_heap;
    static char *objects[MANY];
    struct pkeyguard_heap *heap;
    long kib;

    memset(objects, 1, sizeof(objects));
    kib = status_kib("VmRSS:");
    heap = new_heap(key, 64 * MIB);
    with_heap = count_resources();
    expect(with_heap.mappings - before.mappings <= 5);
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        for (int i = 0; i < MANY; i++) {
            objects[i] = new_object(heap, 32);
            memcpy(objects[i], &i, sizeof(i));
        }
        if (runs_without_a_tool())
            expect((status_kib("VmRSS:") - kib) * 1024 <= 48L * MANY);
        for (int i = 0; i < MANY; i++) {
            expect(memcmp(objects[i], &i, sizeof(i)) == 0);
            expect(pkeyguard_heap_free(heap, objects[i]) == 0);
        }
    }
    expect(pkeyguard_heap_destroy(heap) == 0);
    assert_resources(before);
    expect(pkeyguard_key_destroy(key) == 0);
}
END_TEST

/* More than this machine may have, or valgrind allow; creating, using a little and destroying costs
 * a little. */
START_TEST(capacity_is_committed_on_use)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    long kib = status_kib("VmHWM:");
    struct pkeyguard_heap *heap = new_heap(key, runs_without_a_tool() ? (size_t)64 << 30 : MIB);

    for (int i = 0; i < 100; i++)
        fill(heap, new_object(heap, 3000), 'x');
    destroy_heap(heap, key);
    if (runs_without_a_tool())
        expect(status_kib("VmHWM:") - kib < 2048);
}
END_TEST

static int wiped;

static void look_at(const char *content, size_t length)
{
    if (pku())
        expect(pkey_mprotect((void *)content, length, PROT_READ, 0) == 0);
    else
        expect(mprotect((void *)content, length, PROT_READ) == 0);
    for (size_t i = 0; i < length; i++)
        wiped = wiped && content[i] == 0;
}

/* In the place of munmap: objects and metadata, through page rights and pkey of its own. */
static void look_at_heap(void *address, unsigned long length)
{
    const char *content = (char *)address + PAGE_BYTES;

    wiped = 1;
    look_at(content, MIB);
    look_at(content + METADATA_START, length - 2 * PAGE_BYTES - METADATA_START);
}

START_TEST(destroy_wipes_what_lives)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);

    for (size_t size = 1; size < 100000; size *= 2)
        fill(heap, new_object(heap, size), 's');
    wiped = -1;
    before_call(CALL_MUNMAP, look_at_heap);
    destroy_heap(heap, key);
    expect(wiped == 1);
}
END_TEST

START_TEST(a_guarded_heap_stays)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    char *object = new_object(heap, 32);

    fill(heap, object, 'g');
    pkeyguard_scoped_read_at (char, byte, pkeyguard_heap_region(heap), object) {
        expect(pkeyguard_heap_destroy(heap) == -EBUSY);
        expect(pkeyguard_heap_of(object) == heap);
        assert_all(heap, object, 32, 'g');
    }
    destroy_heap(heap, key);
    expect(pkeyguard_heap_of(object) == NULL);
}
END_TEST

START_TEST(heap_of_finds_the_heap)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heaps[20];
    char *object, *of_malloc = malloc(100);

    for (int i = 0; i < 20; i++)
        heaps[i] = new_heap(i % 2 == 0 ? key : NULL, PAGE_BYTES);
    for (int i = 0; i < 20; i++) {
        object = new_object(heaps[i], 100);
        expect(pkeyguard_heap_of(object) == heaps[i]);
        expect(pkeyguard_heap_of(object + 99) == heaps[i]);
        expect(pkeyguard_heap_of(start_of(heaps[i]) + PAGE_BYTES - 1) == heaps[i]);
        expect(pkeyguard_heap_of(start_of(heaps[i]) + PAGE_BYTES) != heaps[i]);
        expect(pkeyguard_heap_of(start_of(heaps[i]) - 1) != heaps[i]);
        expect(pkeyguard_heap_owns(heaps[i], object));
        expect(!pkeyguard_heap_owns(heaps[(i + 1) % 20], object));
        expect(!pkeyguard_heap_owns(heaps[i], start_of(heaps[i]) + PAGE_BYTES));
    }
    expect(pkeyguard_heap_of(of_malloc) == NULL);
    expect(pkeyguard_heap_of(NULL) == NULL);
    expect(pkeyguard_heap_of(&object) == NULL);
    for (int i = 0; i < 20; i++) {
        object = start_of(heaps[i]);
        expect(pkeyguard_heap_destroy(heaps[i]) == 0);
        expect(pkeyguard_heap_of(object) == NULL);
    }
    free(of_malloc);
    destroy_heap(NULL, key);
}
END_TEST

START_TEST(null_and_bad_arguments)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = NULL;
    struct resources before = count_resources();

    expect(pkeyguard_heap_create(key, 0, 0, &heap) == -EINVAL);
    expect(pkeyguard_heap_create(key, SIZE_MAX, 0, &heap) == -EINVAL);
    expect(pkeyguard_heap_create(key, SIZE_MAX - 4095, 0, &heap) == -EINVAL);
    expect(pkeyguard_heap_create(key, (size_t)1 << 44, 0, &heap) == -EINVAL);
    expect(pkeyguard_heap_create(key, 1, 1u << 31, &heap) == -EINVAL);
    expect(heap == NULL);
    assert_resources(before);
    expect(pkeyguard_heap_destroy(NULL) == 0);
    expect(pkeyguard_heap_region(NULL) == NULL);
    expect(!pkeyguard_heap_owns(NULL, &heap));
    expect(pkeyguard_heap_free(NULL, NULL) == 0);
    assert_refused(NULL, &heap);
    errno = 0;
    expect(pkeyguard_heap_alloc(NULL, 1) == NULL);
    expect(errno == EINVAL);
    heap = new_heap(key, 1);
    expect(pkeyguard_heap_free(heap, NULL) == 0);
    expect(!pkeyguard_heap_owns(heap, NULL));
    errno = 0;
    expect(pkeyguard_heap_usable_size(heap, NULL) == 0);
    expect(errno == EINVAL);
    expect(pkeyguard_region_size(pkeyguard_heap_region(heap)) == PAGE_BYTES);
    destroy_heap(heap, key);
}
END_TEST

START_TEST(region_flags_are_the_region_s)
{
    static const struct {
        unsigned flags;
        int mappings; /* more than without a heap, at most */
    } cases[] = {{PKEYGUARD_REGION_NO_GUARD_PAGES, 3}, {PKEYGUARD_REGION_DUMPABLE, 5}};
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap;
    char flags[512];

    expect(pkeyguard_heap_create(key, MIB, cases[_i].flags, &heap) == 0);
    read_smaps(start_of(heap), "VmFlags:", flags, sizeof(flags));
    expect((strstr(flags, " dd") == NULL) == (cases[_i].flags == PKEYGUARD_REGION_DUMPABLE));
    expect(pkeyguard_heap_alloc(heap, MIB) != NULL);
    destroy_heap(heap, key);
}
END_TEST

/* ---- region flags ---- */

/* Locked as it is handed out: no more than that, and no object where no more may be locked. */
START_TEST(a_locked_heap_locks_what_it_hands_out)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = NULL;
    long before = status_kib("VmLck:");
    char *object;

    expect(pkeyguard_heap_create(key, 64 * MIB, PKEYGUARD_REGION_LOCKED, &heap) == 0);
    expect(status_kib("VmLck:") == before);
    object = new_object(heap, 3 * PAGE_BYTES);
    expect(status_kib("VmLck:") >= before + 3 * PAGE_BYTES / 1024);
    expect(status_kib("VmLck:") <= before + 8 * PAGE_BYTES / 1024);
    fill(heap, object, 'l');
    fail_call(CALL_MLOCK, 0, ENOMEM, 9);
    assert_no_room(pkeyguard_heap_alloc(heap, 3 * PAGE_BYTES));
    expect(stop_failing());
    fail_call(CALL_MLOCK, 1, EPERM, 9);
    assert_no_room(pkeyguard_heap_alloc(heap, 200 * PAGE_BYTES));
    expect(stop_failing());
    fill(heap, new_object(heap, 3 * PAGE_BYTES), 'm');
    assert_all(heap, object, 3 * PAGE_BYTES, 'l');
    destroy_heap(heap, key);
    expect(status_kib("VmLck:") == before);
}
END_TEST

START_TEST(a_secret_heap_works)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = NULL;
    char *object, copy[16], *gap;
    struct iovec to = {copy, sizeof(copy)}, from;

    expect(pkeyguard_heap_create(key, MIB, PKEYGUARD_REGION_SECRET, &heap) == 0);
    gap = start_of(heap) + MIB;
    object = new_object(heap, 32);
    fill(heap, object, 's');
    from = (struct iovec){object, sizeof(copy)};
    expect(process_vm_readv(getpid(), &to, 1, &from, 1, 0) == -1);
    assert_all(heap, object, 32, 's');
    pkeyguard_scoped_write_at (char, byte, pkeyguard_heap_region(heap), object)
        assert_page_denied(READ_BYTE, gap);
    expect(pkeyguard_heap_free(heap, object) == 0);
    destroy_heap(heap, key);
}
END_TEST

START_TEST(a_heap_is_not_wiped_under_itself)
{
    struct pkeyguard_heap *heap = NULL;

    expect(pkeyguard_heap_create(NULL, MIB, PKEYGUARD_REGION_FORK_WIPE, &heap) == -EINVAL);
    expect(heap == NULL);
}
END_TEST

/* ---- failures ---- */

START_TEST(a_heap_that_cannot_be_made)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = NULL;
    struct resources before;
    int calls = 0;

    /* So that page rights are needed at once. */
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
            /* Where the kernel has no guard pages after all, others serve. */
            expect(guards_inside());
            expect(pkeyguard_heap_destroy(heap) == 0);
            heap = NULL;
        } else {
            expect(error == -ENOMEM || (error == -EACCES && calls % 2 == 1));
        }
        expect(heap == NULL);
        assert_resources(before);
    }
    /* Records, mmap, madvise, and page rights. */
    expect(calls >= (key == NULL ? 3 : 5));
    destroy_heap(heap, key);
}
END_TEST

START_TEST(a_heap_that_cannot_be_destroyed)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    int calls = 0;

    for (;; calls++) {
        char *object = new_object(heap, 32);
        int error;

        fill(heap, object, 'd');
        fail_call(ANY_CALL, calls, ENOMEM, 1);
        error = pkeyguard_heap_destroy(heap);
        expect(calls < 20);
        if (!stop_failing()) {
            expect(error == 0);
            break;
        }
        if (error == 0) {
            /* Unmapping needs no closing first. */
            heap = new_heap(key, MIB);
            continue;
        }
        expect(error == -ENOMEM);
        expect(pkeyguard_heap_of(object) == heap);
        assert_denied(READ_BYTE, object, key);
        /* Its objects are as they were, or all gone. */
        if (pkeyguard_heap_usable_size(heap, object) == 0)
            assert_all(heap, object, 32, 0);
        else
            assert_all(heap, object, 32, 'd');
    }
    expect(calls >= 1);
    expect(pkeyguard_key_destroy(key) == 0);
}
END_TEST

/* Under mprotect each use outside of a scope is a few system calls. */
START_TEST(a_heap_that_cannot_be_opened)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    char *object = new_object(heap, 32);

    fill(heap, object, 'o');
    for (int skip = 0; skip < (guards_inside() ? 1 : 2); skip++) {
        fail_call(CALL_MPROTECT, skip, EACCES, 1);
        errno = 0;
        expect(pkeyguard_heap_alloc(heap, 1) == NULL);
        expect(errno == EACCES);
        fail_call(CALL_MPROTECT, skip, ENOMEM, 1);
        assert_no_room(pkeyguard_heap_realloc(heap, object, 100));
        fail_call(CALL_MPROTECT, skip, EACCES, 1);
        errno = 0;
        expect(pkeyguard_heap_usable_size(heap, object) == 0);
        expect(errno == EACCES);
        fail_call(CALL_MPROTECT, skip, EACCES, 1);
        expect(pkeyguard_heap_free(heap, object) == -EACCES);
        expect(stop_failing());
        assert_denied(READ_BYTE, object, key);
        assert_denied(READ_BYTE, start_of(heap) + METADATA_START, key);
    }
    assert_all(heap, object, 32, 'o');
    expect(pkeyguard_heap_free(heap, object) == 0);
    destroy_heap(heap, key);
}
END_TEST

/* ---- whatever the metadata says ---- */

static uint64_t random_state;

static uint32_t random_number(void)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33);
}

/* Exits 0, or aborts with the library's line, but reaches nothing outside. */
static void use_scribbled_heap(struct pkeyguard_heap *heap, unsigned seed)
{
    char *start = start_of(heap), *objects[200] = {NULL};

    random_state = seed;
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        for (int i = 0; i < 200; i++)
            objects[i] = pkeyguard_heap_alloc(heap, random_number() % 6000);
        for (int i = 0; i < 200; i += 3)
            pkeyguard_heap_free(heap, objects[i]);
        for (unsigned i = 0; i <= seed % 40; i++) {
            uint32_t offset = METADATA_START + random_number() % (MIB / 64 + 3000) / 4 * 4;
            uint32_t value = seed % 3 == 0   ? random_number()
                             : seed % 3 == 1 ? random_number() % 600
                                             : 1u << random_number() % 32;

            memcpy(start + offset, &value, sizeof(value));
        }
        for (int i = 0; i < 200; i++) {
            size_t size = random_number() % 6000;
            char *object = pkeyguard_heap_alloc(heap, size);

            if (object != NULL && (object < start || object + size > start + MIB))
                _exit(1);
            pkeyguard_heap_free(heap, objects[random_number() % 200]);
            object = pkeyguard_heap_realloc(heap, objects[random_number() % 200], size);
            if (object != NULL && (object < start || object + size > start + MIB))
                _exit(1);
        }
    }
    _exit(0);
}

START_TEST(overwritten_metadata_leads_nowhere_else)
{
    struct pkeyguard_key *key = key_of_kind(OPTIONAL);
    int aborted = 0, ended = 0;

    for (unsigned seed = 0; seed < 60; seed++) {
        struct pkeyguard_heap *heap = new_heap(key, MIB);
        pid_t child = fork();
        int status;

        expect(child >= 0);
        if (child == 0) {
            /* A list that leads back into itself has no end. */
            signal(SIGALRM, SIG_DFL);
            alarm(5);
            if (freopen("/dev/null", "w", stderr) == NULL)
                _exit(1);
            use_scribbled_heap(heap, seed);
        }
        expect(waitpid(child, &status, 0) == child);
        ck_assert_msg(WIFSIGNALED(status)
                          ? WTERMSIG(status) == SIGABRT || WTERMSIG(status) == SIGALRM
                          : WEXITSTATUS(status) == 0,
                      "seed %u: status %x", seed, status);
        aborted += WIFSIGNALED(status);
        ended += WIFEXITED(status);
        expect(pkeyguard_heap_destroy(heap) == 0);
    }
    expect(aborted > 0);
    expect(ended > 0);
    destroy_heap(NULL, key);
}
END_TEST

static void use_overwritten_heap(void *heap)
{
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        memset(start_of(heap) + METADATA_START, 0xff, MIB / 64);
        (void)!pkeyguard_heap_alloc(heap, 32);
    }
}

START_TEST(overwritten_metadata_aborts)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);

    assert_aborts(use_overwritten_heap, heap, "libpkeyguard: a heap's metadata was overwritten\n");
    destroy_heap(heap, key);
}
END_TEST

/* The slab's map, and the count before it, say that there are more slots than the heap has room
 * for. */
static void use_slots_beyond_the_heap(void *heap)
{
    new_object(heap, 48);
    pkeyguard_scoped_write (char, bytes, pkeyguard_heap_region(heap)) {
        uint64_t *map = (uint64_t *)(void *)(start_of(heap) + METADATA_START - MIB + PAGE_BYTES);

        while (*map != UINT64_MAX - 1)
            map++;
        memset(map, 0xff, 4 * sizeof(*map));
        map[-1] = 4 * 64;
        for (int i = 0; i < 200; i++)
            expect(pkeyguard_heap_alloc(heap, 48) < (void *)(start_of(heap) + PAGE_BYTES));
    }
}

START_TEST(slots_beyond_the_heap_abort)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, PAGE_BYTES);

    assert_aborts(use_slots_beyond_the_heap, heap,
                  "libpkeyguard: a heap's metadata was overwritten\n");
    destroy_heap(heap, key);
}
END_TEST

/* ---- threads, fork ---- */

enum { THREADS = 20, MEETING_PLACES = 64, ROUNDS = 2000 };

static void *_Atomic meeting_places[MEETING_PLACES];
static atomic_bool stop;

static struct pkeyguard_key *shared_key;

/* Opening and closing under mprotect takes long. */
static int rounds(const struct pkeyguard_key *key)
{
    bool slow = pkeyguard_key_enforcement(key) == PKEYGUARD_MPROTECT;

    return (runs_without_a_tool() ? ROUNDS : ROUNDS / 20) / (slow ? 10 : 1);
}

/* Objects carry their size; each is freed by whichever thread finds it. */
static void *exchange_objects(void *number)
{
    unsigned seed = (unsigned)(uintptr_t)number;

    for (int i = 0; i < rounds(shared_key); i++) {
        struct pkeyguard_region *region = pkeyguard_heap_region(shared_heap);
        size_t size = sizeof(size_t) + (unsigned)rand_r(&seed) % (i % 50 == 0 ? 9000 : 300);
        struct pkeyguard_guard guard = {0};
        size_t *object;

        if (i % 3 == 0)
            expect(pkeyguard_acquire(region, PKEYGUARD_READ_WRITE, &guard) == 0);
        object = pkeyguard_heap_alloc(shared_heap, size);
        expect(object != NULL);
        pkeyguard_scoped_write_at (size_t, first, region, object) {
            for (size_t byte = 0; byte < size; byte++)
                expect(((char *)first)[byte] == 0);
            memset(first, (int)(size % 255) + 1, size);
            *first = size;
        }
        object = atomic_exchange(&meeting_places[rand_r(&seed) % MEETING_PLACES], object);
        if (object != NULL) {
            pkeyguard_scoped_read_at (size_t, first, region, object) {
                for (size_t byte = sizeof(size_t); byte < *first; byte++)
                    expect(((unsigned char *)first)[byte] == *first % 255 + 1);
            }
            expect(pkeyguard_heap_free(shared_heap, object) == 0);
        }
        pkeyguard_release(&guard);
    }
    return NULL;
}

START_TEST(many_threads_on_one_heap)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    pthread_t threads[THREADS];
    void *all;

    shared_key = key;
    shared_heap = new_heap(key, 16 * MIB);
    for (uintptr_t i = 0; i < THREADS; i++)
        expect(pthread_create(&threads[i], NULL, exchange_objects, (void *)(i + 1)) == 0);
    for (int i = 0; i < THREADS; i++)
        expect(pthread_join(threads[i], NULL) == 0);
    for (int i = 0; i < MEETING_PLACES; i++)
        expect(pkeyguard_heap_free(shared_heap, meeting_places[i]) == 0);
    /* Nothing is left of it all. */
    all = new_object(shared_heap, 16 * MIB);
    expect(pkeyguard_heap_free(shared_heap, all) == 0);
    destroy_heap(shared_heap, key);
}
END_TEST

static void *free_contested(void *result)
{
    for (int i = 0; i < rounds(shared_key); i++) {
        void *object = atomic_load(&meeting_places[i % MEETING_PLACES]);

        if (pkeyguard_heap_free(shared_heap, object) == 0 && object != NULL)
            ++*(int *)result;
    }
    return NULL;
}

/* Two free the same objects: each object is one's. */
START_TEST(of_two_frees_one_is_refused)
{
    struct pkeyguard_key *key = key_of_kind(OPTIONAL);
    int freed[2] = {0}, made = 0;
    pthread_t threads[2];

    shared_key = key;
    for (size_t size = 64; size < 20000; size *= 4) {
        shared_heap = new_heap(key, 16 * MIB);
        for (int i = 0; i < MEETING_PLACES; i++, made++)
            meeting_places[i] = new_object(shared_heap, size);
        for (int i = 0; i < 2; i++)
            expect(pthread_create(&threads[i], NULL, free_contested, &freed[i]) == 0);
        for (int i = 0; i < 2; i++)
            expect(pthread_join(threads[i], NULL) == 0);
        expect(freed[0] + freed[1] == made);
        expect(pkeyguard_heap_destroy(shared_heap) == 0);
    }
    destroy_heap(NULL, key);
}
END_TEST

static void *use_until_stopped(void *unused)
{
    (void)unused;
    while (!stop) {
        void *small = new_object(shared_heap, 32), *large = new_object(shared_heap, 5000);

        expect(pkeyguard_heap_free(shared_heap, small) == 0);
        expect(pkeyguard_heap_free(shared_heap, large) == 0);
    }
    return NULL;
}

/* Threads that exist no longer may have been in the middle of using it. */
START_TEST(a_fork_child_s_heap_works)
{
    struct pkeyguard_key *key = key_of_kind(_i);
    pthread_t threads[2];
    char *object;

    shared_heap = new_heap(key, 16 * MIB);
    object = new_object(shared_heap, 100);
    fill(shared_heap, object, 'f');
    stop = false;
    for (int i = 0; i < 2; i++)
        expect(pthread_create(&threads[i], NULL, use_until_stopped, NULL) == 0);
    for (int i = 0; i < (runs_without_a_tool() ? 6 : 3); i++) {
        pid_t child = fork();

        if (child == 0) {
            alarm(20);
            for (size_t size = 1; size < 10000; size *= 2) {
                for (int shard = 0; shard < 20; shard++)
                    new_object(shared_heap, size);
            }
            assert_all(shared_heap, object, 100, 'f');
            expect(pkeyguard_heap_free(shared_heap, object) == 0);
            expect(pkeyguard_heap_destroy(shared_heap) == 0);
            _exit(7);
        }
        assert_exits(child, 7);
    }
    stop = true;
    for (int i = 0; i < 2; i++)
        expect(pthread_join(threads[i], NULL) == 0);
    assert_all(shared_heap, object, 100, 'f');
    destroy_heap(shared_heap, key);
}
END_TEST

START_TEST(heap_of_in_a_child_that_has_not_every_heap)
{
    struct pkeyguard_heap *forked = new_heap(NULL, MIB), *not_forked = NULL;
    pid_t child;

    expect(pkeyguard_heap_create(NULL, MIB, PKEYGUARD_REGION_NO_FORK, &not_forked) == 0);
    child = fork();
    if (child == 0) {
        expect(pkeyguard_heap_of(start_of(forked)) == forked);
        expect(pkeyguard_heap_of(start_of(not_forked)) == NULL);
        destroy_heap(not_forked, NULL);
        _exit(0);
    }
    assert_exits(child, 0);
    expect(pkeyguard_heap_of(start_of(not_forked)) == not_forked);
    destroy_heap(forked, NULL);
    destroy_heap(not_forked, NULL);
}
END_TEST

static void *make_and_destroy_heaps(void *unused)
{
    (void)unused;
    while (!stop) {
        struct pkeyguard_heap *one = new_heap(NULL, PAGE_BYTES), *two = new_heap(NULL, 4 * MIB);

        expect(pkeyguard_heap_destroy(one) == 0);
        expect(pkeyguard_heap_destroy(two) == 0);
    }
    return NULL;
}

/* heap_of is right about what stays, whatever else comes and goes. */
START_TEST(heap_of_while_other_heaps_come_and_go)
{
    struct pkeyguard_key *key = key_of_kind(PLAIN);
    struct pkeyguard_heap *heap = new_heap(key, MIB);
    char *object = new_object(heap, 32), *mapped[50];
    pthread_t threads[2];

    /* Where heaps come and go, too. */
    for (int i = 0; i < 50; i++) {
        mapped[i] = mmap(NULL, 4 * PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        expect(mapped[i] != MAP_FAILED);
    }
    for (int i = 0; i < 50; i += 2)
        munmap(mapped[i], 4 * PAGE_BYTES);
    stop = false;
    for (int i = 0; i < 2; i++)
        expect(pthread_create(&threads[i], NULL, make_and_destroy_heaps, NULL) == 0);
    for (int i = 0; i < 100000; i++) {
        expect(pkeyguard_heap_of(object) == heap);
        expect(pkeyguard_heap_of(mapped[1 + i % 25 * 2]) == NULL);
    }
    stop = true;
    for (int i = 0; i < 2; i++)
        expect(pthread_join(threads[i], NULL) == 0);
    destroy_heap(heap, key);
}
END_TEST

/* ---- against the model ---- */

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

int main(void)
{
    Suite *suite = suite_create("heap");
    TCase *heaps = tcase_create("heaps");
    const char *tool = getenv("PKEYGUARD_TEST_TOOL");

    suite_add_tcase(suite, heaps);
    tcase_set_timeout(heaps, 20);
    tcase_add_loop_test(heaps, objects_are_reachable_in_scopes_only, 0, ENFORCED_KINDS);
    tcase_add_loop_test(heaps, metadata_is_out_of_reach, 0, ENFORCED_KINDS);
    tcase_add_test(heaps, the_page_between_stays_out_of_reach);
    tcase_add_test(heaps, rights_are_left_as_they_were);
    tcase_add_loop_test(heaps, an_open_scope_saves_every_system_call, 0, KINDS);
    tcase_add_loop_test(heaps, objects_are_zero_aligned_and_apart, 0, KINDS);
    tcase_add_test(heaps, alignment_can_be_asked_for);
    tcase_add_loop_test(heaps, freed_memory_is_wiped_and_used_again, 0, WAYS);
    tcase_add_loop_test(heaps, bad_frees_are_refused, 0, WAYS);
    tcase_add_test(heaps, a_slab_has_as_many_slots_as_fit);
    tcase_add_test(heaps, realloc_keeps_the_content);
    tcase_add_test(heaps, realloc_without_room_changes_nothing);
    tcase_add_test(heaps, calloc_counts_and_clears);
    tcase_add_test(heaps, objects_of_no_size_are_apart);
    tcase_add_loop_test(heaps, an_exhausted_heap_goes_on_working, 0, KINDS);
    tcase_add_test(heaps, threads_do_not_keep_room_from_each_other);
    tcase_add_test(heaps, capacity_is_a_limit);
    tcase_add_loop_test(heaps, objects_are_many_and_small, 0, KINDS);
    tcase_add_loop_test(heaps, capacity_is_committed_on_use, 0, KINDS);
    tcase_add_test(heaps, destroy_wipes_what_lives);
    tcase_add_loop_test(heaps, a_guarded_heap_stays, SOFTWARE, PRIVATE + 1);
    tcase_add_test(heaps, heap_of_finds_the_heap);
    tcase_add_test(heaps, heap_of_in_a_child_that_has_not_every_heap);
    tcase_add_test(heaps, null_and_bad_arguments);
    tcase_add_loop_test(heaps, region_flags_are_the_region_s, 0, 2);
    /* Sanitizers make nothing of mlock(2). */
    if (runs_without_a_tool())
        tcase_add_loop_test(heaps, a_locked_heap_locks_what_it_hands_out, 0, KINDS);
    if (test_platform()->secret_memory)
        tcase_add_loop_test(heaps, a_secret_heap_works, 0, ENFORCED_KINDS);
    tcase_add_test(heaps, a_heap_is_not_wiped_under_itself);
    tcase_add_loop_test(heaps, a_heap_that_cannot_be_made, 0, KINDS);
    tcase_add_loop_test(heaps, a_heap_that_cannot_be_destroyed, 0, ENFORCED_KINDS);
    tcase_add_loop_test(heaps, a_heap_that_cannot_be_opened, SOFTWARE, PRIVATE + 1);
    tcase_add_test(heaps, overwritten_metadata_leads_nowhere_else);
    tcase_add_test(heaps, overwritten_metadata_aborts);
    tcase_add_test(heaps, slots_beyond_the_heap_abort);
    tcase_add_test(heaps, of_two_frees_one_is_refused);
    /* Under valgrind threads that never wait hardly let another one have its turn. */
    if (tool == NULL || strcmp(tool, "valgrind") != 0) {
        tcase_add_loop_test(heaps, many_threads_on_one_heap, 0, KINDS);
        tcase_add_loop_test(heaps, a_fork_child_s_heap_works, 0, KINDS);
    }
    tcase_add_test(heaps, heap_of_while_other_heaps_come_and_go);
    tcase_add_loop_test(heaps, heap_and_model_agree, 0, KINDS);
    return run_suite(suite);
}
