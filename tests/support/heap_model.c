/* SPDX-License-Identifier: MIT */
#include "heap_model.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY = 64 * 4096, LIVE_MAX = 96, FREED_MAX = 8, ENDS = 32 };

#define agree(condition)                                                                \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fprintf(stderr, "heap_model.c:%d: step %zu: not so: %s\n", __LINE__, steps, \
                    #condition);                                                        \
            abort();                                                                    \
        }                                                                               \
    } while (0)

struct object {
    unsigned char *address;
    size_t size, usable;
    unsigned char seed;
};

static struct pkeyguard_heap *heap, *other;
static void *object_of_other;
static struct object live[LIVE_MAX];
static size_t live_count;
static void *freed[FREED_MAX]; /* the objects freed last; NULL: handed out again */
static size_t freed_next;
static const uint8_t *input, *input_end;
static size_t steps;
static unsigned char next_seed;

static size_t take(int bytes)
{
    size_t number = 0;

    while (bytes-- > 0 && input < input_end)
        number = number << 8 | *input++;
    return number;
}

/* Most sizes are small, some are near a whole number of blocks, some are impossible. */
static size_t take_size(void)
{
    switch (take(1) % 8) {
    case 0:
        return take(1) % 33;
    case 1:
        return 4096 * (take(1) % 70) + take(1) % 3 - 1;
    case 2:
        return take(3);
    case 3:
        return take(2) % 8200;
    case 4:
        return SIZE_MAX - take(2);
    default:
        return take(2) % 2100;
    }
}

static unsigned char pattern(const struct object *object, size_t i)
{
    return (unsigned char)(object->seed + i * 7 + (i >> 8));
}

static void fill(struct object *object)
{
    object->seed = ++next_seed;
    pkeyguard_scoped_write_at (char, all, pkeyguard_heap_region(heap), object->address) {
        for (size_t i = 0; i < object->usable; i++)
            object->address[i] = pattern(object, i);
    }
}

static void assert_filled(const struct object *object, size_t from, size_t to)
{
    pkeyguard_scoped_read_at (char, all, pkeyguard_heap_region(heap), object->address) {
        for (size_t i = from; i < to; i++)
            agree(object->address[i] == pattern(object, i));
    }
}

static void assert_zero(const unsigned char *address, size_t size)
{
    pkeyguard_scoped_read_at (char, all, pkeyguard_heap_region(heap), address) {
        for (size_t i = 0; i < size; i++)
            agree(address[i] == 0);
    }
}

static bool is_live(const void *address)
{
    for (size_t i = 0; i < live_count; i++) {
        if (live[i].address == address)
            return true;
    }
    return false;
}

/* An upper limit of the blocks that the live objects and their slabs take up. */
static size_t most_blocks_in_use(void)
{
    size_t blocks = 0;

    for (size_t i = 0; i < live_count; i++) {
        if (live[i].usable > 2048)
            blocks += live[i].usable / 4096;
        else
            blocks += live[i].usable <= 1024 ? 1 : 2;
    }
    return blocks;
}

static bool may_run_out_of_room(size_t size, size_t alignment)
{
    if (size > CAPACITY)
        return true;
    if (live_count == 0)
        return alignment > 4096;
    return size > 1024 || alignment > 1024 || most_blocks_in_use() >= CAPACITY / 4096;
}

static void record_new(void *address, size_t size, size_t alignment, bool zeroed)
{
    struct object *object = &live[live_count];

    if (address == NULL) {
        agree(errno == ENOMEM);
        agree(may_run_out_of_room(size, alignment));
        return;
    }
    *object = (struct object){.address = address, .size = size};
    object->usable = pkeyguard_heap_usable_size(heap, address);
    agree(object->usable >= size && object->usable >= 16);
    agree(object->usable <= 2048 || object->usable <= size + 4096);
    agree((uintptr_t)address % alignment == 0 && (uintptr_t)address % 16 == 0);
    agree(pkeyguard_heap_owns(heap, address));
    agree(pkeyguard_heap_owns(heap, object->address + object->usable - 1));
    for (size_t i = 0; i < live_count; i++) {
        agree(live[i].address + live[i].usable <= object->address ||
              object->address + object->usable <= live[i].address);
    }
    for (size_t i = 0; i < FREED_MAX; i++) {
        if (freed[i] == address)
            freed[i] = NULL;
    }
    if (zeroed)
        assert_zero(object->address, object->usable);
    fill(object);
    live_count++;
}

static void record_freed(struct object *object)
{
    assert_zero(object->address, object->usable);
    freed[freed_next++ % FREED_MAX] = object->address;
    *object = live[--live_count];
}

static void resize(struct object *object, size_t size)
{
    struct object before = *object;
    void *moved = pkeyguard_heap_realloc(heap, object->address, size);

    if (moved == NULL) {
        agree(errno == ENOMEM && size > before.usable);
        assert_filled(object, 0, object->usable);
        return;
    }
    object->address = moved;
    assert_filled(object, 0, size < before.usable ? size : before.usable);
    if (moved == before.address) {
        agree(size <= before.usable);
        object->size = size;
        return;
    }
    *object = live[--live_count];
    record_new(moved, size, 16, false);
    for (size_t i = 0; i < live_count; i++)
        agree(live[i].address != before.address);
    if ((unsigned char *)moved + live[live_count - 1].usable <= before.address ||
        before.address + before.usable <= (unsigned char *)moved)
        assert_zero(before.address, before.usable);
    agree(pkeyguard_heap_free(heap, before.address) == -EINVAL);
}

static void assert_refused(void *address)
{
    agree(!is_live(address));
    agree(pkeyguard_heap_free(heap, address) == -EINVAL);
    agree(pkeyguard_heap_usable_size(heap, address) == 0 && errno == EINVAL);
    agree(pkeyguard_heap_realloc(heap, address, 1 + take(1)) == NULL && errno == EINVAL);
}

static void try_bad_pointer(void)
{
    unsigned char *start = pkeyguard_region_unsafe_address(pkeyguard_heap_region(heap));
    size_t where = take(3);
    int local;

    switch (take(1) % 6) {
    case 0:
        if (live_count != 0) {
            struct object *object = &live[where % live_count];

            assert_refused(object->address + 1 + take(3) % (object->usable - 1));
        }
        break;
    case 1:
        if (freed[where % FREED_MAX] != NULL)
            assert_refused(freed[where % FREED_MAX]);
        break;
    case 2:
        assert_refused(&local);
        break;
    case 3:
        assert_refused(object_of_other);
        agree(pkeyguard_heap_of(object_of_other) == other);
        break;
    case 4:
        assert_refused(where % 2 == 0 ? start - 1 - where : start + CAPACITY + where);
        break;
    default:
        if (!is_live(start + where % CAPACITY))
            assert_refused(start + where % CAPACITY);
    }
}

static void check_all(void)
{
    for (size_t i = 0; i < live_count; i++) {
        size_t usable = live[i].usable;

        assert_filled(&live[i], 0, usable < ENDS ? usable : ENDS);
        assert_filled(&live[i], usable < ENDS ? 0 : usable - ENDS, usable);
        agree(pkeyguard_heap_usable_size(heap, live[i].address) == usable);
        agree(pkeyguard_heap_of(live[i].address) == heap);
    }
}

static void make_heap(struct pkeyguard_key *key)
{
    agree(pkeyguard_heap_create(key, CAPACITY - 1, 0, &heap) == 0);
    live_count = 0;
    memset(freed, 0, sizeof(freed));
}

static void step(void)
{
    struct object *object = live_count == 0 ? NULL : &live[take(1) % live_count];
    unsigned what = (unsigned)take(1) % 16;
    size_t size = take_size(), count, alignment;

    if (live_count == LIVE_MAX && what < 8)
        what = 8;
    errno = 0;
    switch (what) {
    case 0:
    case 1:
    case 2:
    case 3:
        record_new(pkeyguard_heap_alloc(heap, size), size, 16, true);
        break;
    case 4:
        count = 1 + take(1);
        record_new(pkeyguard_heap_calloc(heap, count, size),
                   size > SIZE_MAX / count ? SIZE_MAX : count * size, 16, true);
        break;
    case 5:
        alignment = (size_t)1 << take(1) % 18;
        record_new(pkeyguard_heap_aligned_alloc(heap, alignment, size), size, alignment, true);
        break;
    case 6:
        alignment = take(2);
        if (alignment == 0 || (alignment & (alignment - 1)) != 0)
            agree(pkeyguard_heap_aligned_alloc(heap, alignment, size) == NULL && errno == EINVAL);
        break;
    case 7:
        record_new(pkeyguard_heap_realloc(heap, NULL, size), size, 16, true);
        break;
    case 8:
    case 9:
    case 10:
        if (object != NULL) {
            assert_filled(object, 0, object->usable);
            agree(pkeyguard_heap_free(heap, object->address) == 0);
            agree(errno == 0);
            record_freed(object);
        }
        break;
    case 11:
    case 12:
        if (object != NULL)
            resize(object, size);
        break;
    case 13:
    case 14:
        try_bad_pointer();
        break;
    default:
        agree(pkeyguard_heap_free(heap, NULL) == 0);
    }
}

/* Half of the steps run inside an open scope; in the others the heap opens itself. */
size_t heap_model_run(struct pkeyguard_key *key, const uint8_t *bytes, size_t count)
{
    input = bytes;
    input_end = bytes + count;
    steps = 0;
    make_heap(key);
    agree(pkeyguard_heap_create(key, 1, 0, &other) == 0);
    object_of_other = pkeyguard_heap_alloc(other, 100);
    agree(object_of_other != NULL);
    for (; input < input_end; steps++) {
        size_t how = take(1);
        struct pkeyguard_guard guard = {0};

        if (how == 255) {
            agree(pkeyguard_heap_destroy(heap) == 0);
            make_heap(key);
        }
        if (how % 2 == 0)
            agree(pkeyguard_acquire(pkeyguard_heap_region(heap), PKEYGUARD_READ_WRITE, &guard) ==
                  0);
        step();
        pkeyguard_scoped_write (char, all, pkeyguard_heap_region(heap))
            check_all();
        pkeyguard_release(&guard);
    }
    agree(pkeyguard_heap_destroy(heap) == 0);
    agree(pkeyguard_heap_destroy(other) == 0);
    return steps;
}
