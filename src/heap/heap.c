/* SPDX-License-Identifier: MIT */
/*
 * heap.c - objects in slabs of one size class, and in whole blocks
 *
 * Each thread allocates from one of a few shards, which each have slabs of their own, so that
 * threads seldom meet at a lock. An object is freed into the shard of its slab.
 */
#include <pkeyguard/heap.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include <pkeyguard/guard.h>

#include "base/os.h"
#include "region/annexed_region.h"
#include "base/registry.h"
#include "heap/spans.h"

/* The offset of a slot is a multiple of size; dividing by it is multiplying by 2^32 / size. */
struct size_class {
    uint16_t size, slots;
    uint32_t inverse;
};

/* A slab has 4 slots at least, and wastes an eighth of itself at most. */
enum { ONE_BLOCK_SLAB_MAX = 1024 };
#define SLAB_BLOCKS(size) ((size) <= ONE_BLOCK_SLAB_MAX ? 1u : 2u)
#define CLASS(size)                                                            \
    {                                                                          \
        size, SLAB_BLOCKS(size) * BLOCK_SIZE / (size), UINT32_MAX / (size) + 1 \
    }

static const struct size_class classes[] = {
    CLASS(16),  CLASS(32),   CLASS(48),   CLASS(64),   CLASS(80),   CLASS(96),
    CLASS(112), CLASS(128),  CLASS(160),  CLASS(192),  CLASS(224),  CLASS(256),
    CLASS(320), CLASS(384),  CLASS(448),  CLASS(512),  CLASS(640),  CLASS(768),
    CLASS(896), CLASS(1024), CLASS(1280), CLASS(1536), CLASS(1792), CLASS(2048),
};
enum { CLASS_COUNT = sizeof(classes) / sizeof(classes[0]), SMALL_MAX = 2048, ALIGNMENT = 16 };

/* The class of a size from 1 to SMALL_MAX: 8 steps of 16, then 4 steps in each power of two. */
static unsigned class_of(size_t size)
{
    unsigned last = (unsigned)size - 1, log2;

    if (last < 128)
        return last / 16;
    log2 = 31 - (unsigned)__builtin_clz(last);
    return 8 + 4 * (log2 - 7) + (last >> (log2 - 2)) % 4;
}

/* A slab's role in its first block. */
static unsigned slab_role(unsigned shard, unsigned size_class)
{
    return BLOCK_SLAB | size_class << 8 | shard << 16;
}

static enum block_kind role_kind(unsigned role)
{
    return (enum block_kind)(role & 0xff);
}

static unsigned role_class(unsigned role)
{
    return role >> 8 & 0xff;
}

static unsigned role_shard(unsigned role)
{
    return role >> 16;
}

/*
 * Held for a few instructions, or while one small object is wiped. Giving it back is one store: who
 * waits looks, and then sleeps, but is not in line.
 */
struct heap_lock {
    atomic_bool taken;
    char apart[63]; /* no two locks in a cache line */
};

static __attribute__((noinline, cold)) void wait_for(struct heap_lock *wanted)
{
    unsigned looks = 0;

    do {
        while (atomic_load_explicit(&wanted->taken, memory_order_relaxed)) {
            if (++looks % 128 == 0)
                os_sleep_briefly();
        }
    } while (atomic_exchange_explicit(&wanted->taken, true, memory_order_acquire));
}

static inline void lock(struct heap_lock *wanted)
{
    if (atomic_exchange_explicit(&wanted->taken, true, memory_order_acquire))
        wait_for(wanted);
}

static inline void unlock(struct heap_lock *held)
{
    atomic_store_explicit(&held->taken, false, memory_order_release);
}

/* For each size class the slabs that have free slots: block numbers + 1. */
struct shard {
    _Alignas(64) uint32_t slabs[CLASS_COUNT];
};

enum { SHARD_COUNT = 16 };

/* All zeroes is a heap without objects. */
struct metadata {
    struct shard shards[SHARD_COUNT];
    struct free_spans spans;
    _Alignas(64) struct block blocks[];
};

struct pkeyguard_heap {
    struct pkeyguard_region *region;
    char *start;
    size_t size;
    struct metadata *metadata;
    struct spans spans;
    uint32_t used;               /* blocks from the start that were ever handed out */
    struct heap_lock spans_lock; /* taken after a shard's */
    struct heap_lock shard_locks[SHARD_COUNT];
};

/* By the addresses of their objects. */
static struct registry heaps = REGISTRY_INIT(struct pkeyguard_heap);
static struct heap_lock heaps_lock;

static atomic_uint threads_seen;
static __thread unsigned own_shard_number __attribute__((tls_model("initial-exec"))); /* + 1 */

static unsigned own_shard(void)
{
    if (own_shard_number == 0)
        own_shard_number = atomic_fetch_add(&threads_seen, 1) % SHARD_COUNT + 1;
    return own_shard_number - 1;
}

/* The child's copy of a heap must not be one that a thread was in the middle of changing. */
static void before_fork(void)
{
    struct registry_cursor cursor;
    struct pkeyguard_heap *heap;

    lock(&heaps_lock);
    cursor = registry_begin(&heaps);
    while ((heap = registry_next(&heaps, &cursor)) != NULL) {
        for (unsigned i = 0; i < SHARD_COUNT; i++)
            lock(&heap->shard_locks[i]);
        lock(&heap->spans_lock);
    }
}

static void after_fork(void)
{
    struct registry_cursor cursor = registry_begin(&heaps);
    struct pkeyguard_heap *heap;

    while ((heap = registry_next(&heaps, &cursor)) != NULL) {
        for (unsigned i = 0; i < SHARD_COUNT; i++)
            unlock(&heap->shard_locks[i]);
        unlock(&heap->spans_lock);
    }
    unlock(&heaps_lock);
}

/* What the child does not have is none of its heaps, and others may be in that place. */
static void after_fork_in_child(void)
{
    struct registry_cursor cursor = registry_begin(&heaps);
    struct pkeyguard_heap *heap;

    after_fork();
    while ((heap = registry_next(&heaps, &cursor)) != NULL) {
        if (heap->region->pages.not_forked)
            registry_withdraw(heap);
    }
}

static void install_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
}

static struct pkeyguard_heap *take_record(void)
{
    struct pkeyguard_heap *heap;

    lock(&heaps_lock);
    heap = registry_take(&heaps);
    unlock(&heaps_lock);
    return heap;
}

static void give_record_back(struct pkeyguard_heap *heap)
{
    lock(&heaps_lock);
    registry_give_back(&heaps, heap);
    unlock(&heaps_lock);
}

static void publish(struct pkeyguard_heap *heap)
{
    lock(&heaps_lock);
    registry_publish(heap, heap->start, heap->size);
    unlock(&heaps_lock);
}

static void withdraw(struct pkeyguard_heap *heap)
{
    lock(&heaps_lock);
    registry_withdraw(heap);
    unlock(&heaps_lock);
}

int pkeyguard_heap_create(struct pkeyguard_key *key, size_t capacity, unsigned region_flags,
                          struct pkeyguard_heap **ret_heap)
{
    static pthread_once_t fork_handlers = PTHREAD_ONCE_INIT;
    size_t size, blocks, metadata_size;
    struct pkeyguard_heap *heap;
    int error;

    /* What the heap knows of its objects would be wiped, too. */
    if (region_flags & PKEYGUARD_REGION_FORK_WIPE || capacity == 0 ||
        __builtin_add_overflow(capacity, os_page_size() - 1, &size))
        return -EINVAL;
    size -= size % os_page_size();
    blocks = size >> BLOCK_SHIFT;
    if (blocks >= UINT32_MAX)
        return -EINVAL;
    metadata_size = sizeof(struct metadata) + blocks * sizeof(struct block);
    pthread_once(&fork_handlers, install_fork_handlers);
    heap = take_record();
    if (heap == NULL)
        return -ENOMEM;
    error = region_create_with_annex(key, size, metadata_size, region_flags, &heap->region);
    if (error != 0) {
        give_record_back(heap);
        return error;
    }
    heap->start = pkeyguard_region_unsafe_address(heap->region);
    heap->size = size;
    heap->metadata = region_annex(heap->region);
    heap->spans = (struct spans){
        .blocks = heap->metadata->blocks,
        .free = &heap->metadata->spans,
        .count = (uint32_t)blocks,
        .base = (uintptr_t)heap->start >> BLOCK_SHIFT,
    };
    publish(heap);
    *ret_heap = heap;
    return 0;
}

int pkeyguard_heap_destroy(struct pkeyguard_heap *heap)
{
    int error;

    if (heap == NULL)
        return 0;
    if (guard_counts_any(&heap->region->pages.guards))
        return -EBUSY;
    /* Before the addresses can be somebody else's. */
    withdraw(heap);
    error = pkeyguard_region_destroy(heap->region);
    if (error != 0) {
        publish(heap);
        return error;
    }
    give_record_back(heap);
    return 0;
}

bool pkeyguard_heap_owns(const struct pkeyguard_heap *heap, const void *object)
{
    return heap != NULL && (uintptr_t)object - (uintptr_t)heap->start < heap->size;
}

struct pkeyguard_heap *pkeyguard_heap_of(const void *object)
{
    unsigned generation;

    return registry_find(&heaps, object, &generation);
}

struct pkeyguard_region *pkeyguard_heap_region(const struct pkeyguard_heap *heap)
{
    return heap == NULL ? NULL : heap->region;
}

/* What follows runs with the heap's key open for reading and writing. */

static inline void *address_of(const struct pkeyguard_heap *heap, uint32_t block, size_t offset,
                               size_t size)
{
    size_t place = ((size_t)block << BLOCK_SHIFT) + offset;

    if (place + size > heap->size)
        spans_abort();
    return heap->start + place;
}

static unsigned load_role(const struct block *block)
{
    return atomic_load_explicit(&block->role, memory_order_relaxed);
}

static void store_role(struct block *block, unsigned role)
{
    atomic_store_explicit(&block->role, role, memory_order_relaxed);
}

/* Announces blocks that were never used before. */
static bool use_blocks(struct pkeyguard_heap *heap, uint32_t end)
{
    if (end <= heap->used)
        return true;
    if (region_use(heap->region, (size_t)end << BLOCK_SHIFT,
                   sizeof(struct metadata) + end * sizeof(struct block)) != 0)
        return false;
    heap->used = end;
    return true;
}

static bool take_span(struct pkeyguard_heap *heap, uint32_t count, uintptr_t alignment,
                      unsigned role, uint32_t *ret_number)
{
    bool taken;

    lock(&heap->spans_lock);
    taken = spans_take(&heap->spans, count, alignment, ret_number);
    if (taken && !use_blocks(heap, *ret_number + count)) {
        spans_give_back(&heap->spans, *ret_number, count);
        taken = false;
    }
    if (taken) {
        struct block *block = spans_block(&heap->spans, *ret_number);

        block->count = count;
        store_role(block, role);
    }
    unlock(&heap->spans_lock);
    return taken;
}

static void give_span_back(struct pkeyguard_heap *heap, uint32_t number, uint32_t count)
{
    lock(&heap->spans_lock);
    spans_give_back(&heap->spans, number, count);
    unlock(&heap->spans_lock);
}

/*
 * Small ones by plain stores: a call costs more than that. Large ones in pieces, for above 2 KiB
 * glibc fills by REP STOS, which is slower to start than its loop of vector stores and catches up
 * only when the memory is in no cache near the CPU.
 */
enum { STORED_MAX = 128, PIECE = 2048, PIECES_MAX = 16384 };

static inline void wipe_slot(char *slot, size_t size)
{
    const char *end = slot + size;

    if (size > STORED_MAX) {
        explicit_bzero(slot, size);
        return;
    }
    do {
        memset(slot, 0, ALIGNMENT);
        __asm__ volatile("" : : "r"(slot) : "memory"); /* that the compiler keeps the stores */
        slot += ALIGNMENT;
    } while (slot != end);
}

static void wipe_blocks(char *first, size_t size)
{
    size_t piece = size <= PIECES_MAX ? PIECE : size;

    for (size_t wiped = 0; wiped < size; wiped += piece)
        explicit_bzero(first + wiped, piece);
}

/* Slabs. The shard's lock is held. */

static __attribute__((noinline)) bool add_slab(struct pkeyguard_heap *heap, unsigned shard,
                                               unsigned size_class)
{
    const struct size_class *c = &classes[size_class];
    struct block *block;
    uint32_t number;

    if (!take_span(heap, SLAB_BLOCKS(c->size), 1, slab_role(shard, size_class), &number))
        return false;
    block = spans_block(&heap->spans, number);
    block->available = c->slots;
    for (unsigned first = 0; first < 256; first += 64) {
        unsigned slots = c->slots > first ? c->slots - first : 0;

        block->free[first / 64] = slots >= 64 ? UINT64_MAX : (UINT64_C(1) << slots) - 1;
    }
    if (block->count == 2)
        store_role(spans_block(&heap->spans, number + 1), BLOCK_SLAB_SECOND);
    spans_list_insert(&heap->spans, &heap->metadata->shards[shard].slabs[size_class], number);
    return true;
}

static __attribute__((noinline)) void remove_slab(struct pkeyguard_heap *heap, uint32_t *slabs,
                                                  uint32_t number, unsigned size_class)
{
    uint32_t count = SLAB_BLOCKS(classes[size_class].size);

    spans_list_remove(&heap->spans, slabs, number);
    for (uint32_t i = 0; i < count; i++)
        store_role(spans_block(&heap->spans, number + i), BLOCK_OTHER);
    give_span_back(heap, number, count);
}

static inline void *take_slot(struct pkeyguard_heap *heap, uint32_t *slabs, unsigned size_class)
{
    uint32_t number = *slabs - 1;
    struct block *block = spans_block(&heap->spans, number);
    unsigned word = 0, slot;

    while (block->free[word] == 0) {
        if (++word == 4)
            spans_abort();
    }
    slot = 64 * word + (unsigned)__builtin_ctzll(block->free[word]);
    block->free[word] &= block->free[word] - 1;
    if (--block->available == 0)
        spans_list_remove(&heap->spans, slabs, number);
    return address_of(heap, number, (size_t)slot * classes[size_class].size,
                      classes[size_class].size);
}

/* Gives every slab without objects back, so that other sizes and shards can have the room. */
static void give_empty_slabs_back(struct pkeyguard_heap *heap)
{
    for (unsigned shard = 0; shard < SHARD_COUNT; shard++) {
        lock(&heap->shard_locks[shard]);
        for (unsigned i = 0; i < CLASS_COUNT; i++) {
            uint32_t *slabs = &heap->metadata->shards[shard].slabs[i];

            for (uint32_t link = *slabs, next; link != 0; link = next) {
                const struct block *block = spans_block(&heap->spans, link - 1);

                next = block->next;
                if (block->available == classes[i].slots)
                    remove_slab(heap, slabs, link - 1, i);
            }
        }
        unlock(&heap->shard_locks[shard]);
    }
}

/* Objects. */

static void *alloc_in(struct pkeyguard_heap *heap, unsigned shard, unsigned size_class)
{
    uint32_t *slabs = &heap->metadata->shards[shard].slabs[size_class];
    void *object = NULL;

    lock(&heap->shard_locks[shard]);
    if (*slabs != 0 || add_slab(heap, shard, size_class))
        object = take_slot(heap, slabs, size_class);
    unlock(&heap->shard_locks[shard]);
    return object;
}

/* When the shard has no slab with a free slot. */
static __attribute__((noinline)) void *alloc_anywhere(struct pkeyguard_heap *heap, unsigned shard,
                                                      unsigned size_class)
{
    void *object = alloc_in(heap, shard, size_class);

    if (object == NULL)
        give_empty_slabs_back(heap);
    for (unsigned i = 0; i < SHARD_COUNT && object == NULL; i++)
        object = alloc_in(heap, i, size_class);
    return object;
}

static inline void *alloc_small(struct pkeyguard_heap *heap, unsigned size_class)
{
    unsigned shard = own_shard();
    uint32_t *slabs = &heap->metadata->shards[shard].slabs[size_class];
    void *object;

    lock(&heap->shard_locks[shard]);
    if (*slabs == 0) {
        unlock(&heap->shard_locks[shard]);
        return alloc_anywhere(heap, shard, size_class);
    }
    object = take_slot(heap, slabs, size_class);
    unlock(&heap->shard_locks[shard]);
    return object;
}

static __attribute__((noinline)) void *alloc_large(struct pkeyguard_heap *heap, size_t size,
                                                   uintptr_t alignment)
{
    size_t count = (size >> BLOCK_SHIFT) + (size % BLOCK_SIZE != 0);
    uint32_t number;

    if (count > heap->spans.count)
        return NULL;
    alignment = alignment > BLOCK_SIZE ? alignment >> BLOCK_SHIFT : 1;
    if (!take_span(heap, (uint32_t)count, alignment, BLOCK_LARGE, &number)) {
        give_empty_slabs_back(heap);
        if (!take_span(heap, (uint32_t)count, alignment, BLOCK_LARGE, &number))
            return NULL;
    }
    return address_of(heap, number, 0, count << BLOCK_SHIFT);
}

/* A slab starts at a block, so a slot is aligned as its size is. Powers of two are. */
static unsigned class_of_aligned(size_t size, size_t alignment)
{
    unsigned size_class = class_of(size < alignment ? alignment : size);

    while ((classes[size_class].size & (alignment - 1)) != 0)
        size_class++;
    return size_class;
}

static inline void *alloc(struct pkeyguard_heap *heap, size_t size, size_t alignment)
{
    void *object;

    if (size == 0)
        size = 1;
    if (size > SMALL_MAX || alignment > SMALL_MAX)
        object = alloc_large(heap, size, alignment);
    else
        object = alloc_small(heap, alignment > ALIGNMENT ? class_of_aligned(size, alignment)
                                                         : class_of(size));
    if (object == NULL)
        errno = ENOMEM;
    return object;
}

/* Where an object would be. */
struct place {
    uint32_t number;     /* of its slab's or its own first block */
    struct block *block; /* which is this */
    unsigned role;       /* which was, without a lock, this one's */
    unsigned offset;     /* from there */
};

/* False outside the heap. */
static inline bool locate(const struct pkeyguard_heap *heap, const void *address,
                          struct place *ret_place)
{
    size_t offset = (uintptr_t)address - (uintptr_t)heap->start;
    struct place place;

    if (offset >= heap->size)
        return false;
    place.number = (uint32_t)(offset >> BLOCK_SHIFT);
    place.block = &heap->spans.blocks[place.number];
    place.role = load_role(place.block);
    place.offset = offset % BLOCK_SIZE;
    if (role_kind(place.role) == BLOCK_SLAB_SECOND) {
        place.block = spans_block(&heap->spans, --place.number);
        place.role = load_role(place.block);
        place.offset += BLOCK_SIZE;
    }
    if (role_class(place.role) >= CLASS_COUNT || role_shard(place.role) >= SHARD_COUNT)
        spans_abort();
    *ret_place = place;
    return true;
}

/*
 * With the place's lock held: whether there is a live object. While there is one, the role of its
 * block stays as it is; so where that changed on the way to the lock there was none.
 */
static inline bool is_live_slot(const struct place *place, unsigned *ret_slot)
{
    const struct size_class *c = &classes[role_class(place->role)];
    unsigned slot = (unsigned)((uint64_t)place->offset * c->inverse >> 32);

    *ret_slot = slot;
    return load_role(place->block) == place->role && slot * c->size == place->offset &&
           slot < c->slots && (place->block->free[slot / 64] >> slot % 64 & 1) == 0;
}

/* 0: there is none; else how many blocks it has. */
static uint32_t live_blocks(const struct pkeyguard_heap *heap, uint32_t number, unsigned offset)
{
    if (load_role(spans_block(&heap->spans, number)) != BLOCK_LARGE || offset != 0)
        return 0;
    return spans_length(&heap->spans, number);
}

static inline int free_small(struct pkeyguard_heap *heap, struct place place, void *address)
{
    unsigned shard = role_shard(place.role), size_class = role_class(place.role), slot;
    uint32_t *slabs = &heap->metadata->shards[shard].slabs[size_class];
    struct block *block = place.block;

    lock(&heap->shard_locks[shard]);
    if (!is_live_slot(&place, &slot)) {
        unlock(&heap->shard_locks[shard]);
        return -EINVAL;
    }
    wipe_slot(address, classes[size_class].size);
    block->free[slot / 64] |= UINT64_C(1) << slot % 64;
    if (++block->available == 1)
        spans_list_insert(&heap->spans, slabs, place.number);
    /* An empty slab stays when it is the last, lest one object bring it to and fro. */
    if (block->available == classes[size_class].slots && (block->next | block->previous) != 0)
        remove_slab(heap, slabs, place.number, size_class);
    unlock(&heap->shard_locks[shard]);
    return 0;
}

static __attribute__((noinline)) int free_large(struct pkeyguard_heap *heap, uint32_t number,
                                                unsigned offset, void *address)
{
    uint32_t count;

    lock(&heap->spans_lock);
    count = live_blocks(heap, number, offset);
    /* Neither live nor free while it is wiped without the lock. */
    if (count != 0)
        store_role(spans_block(&heap->spans, number), BLOCK_OTHER);
    unlock(&heap->spans_lock);
    if (count == 0)
        return -EINVAL;
    wipe_blocks(address, (size_t)count << BLOCK_SHIFT);
    give_span_back(heap, number, count);
    return 0;
}

static inline int free_object(struct pkeyguard_heap *heap, void *address)
{
    struct place place;

    if (!locate(heap, address, &place))
        return -EINVAL;
    if (role_kind(place.role) == BLOCK_SLAB)
        return free_small(heap, place, address);
    return free_large(heap, place.number, place.offset, address);
}

/* 0: not a live object. */
static size_t live_size(struct pkeyguard_heap *heap, const void *address)
{
    struct place place;
    size_t size;

    if (!locate(heap, address, &place))
        return 0;
    if (role_kind(place.role) == BLOCK_SLAB) {
        unsigned shard = role_shard(place.role), slot;

        lock(&heap->shard_locks[shard]);
        size = is_live_slot(&place, &slot) ? classes[role_class(place.role)].size : 0;
        unlock(&heap->shard_locks[shard]);
    } else {
        lock(&heap->spans_lock);
        size = (size_t)live_blocks(heap, place.number, place.offset) << BLOCK_SHIFT;
        unlock(&heap->spans_lock);
    }
    return size;
}

static void *resize(struct pkeyguard_heap *heap, void *object, size_t size)
{
    size_t usable = live_size(heap, object);
    void *moved;

    if (usable == 0) {
        errno = EINVAL;
        return NULL;
    }
    if (size <= usable && 2 * size + ALIGNMENT >= usable)
        return object;
    moved = pkeyguard_heap_alloc(heap, size);
    if (moved == NULL)
        return size <= usable ? object : NULL;
    memcpy(moved, object, size < usable ? size : usable);
    (void)pkeyguard_heap_free(heap, object);
    return moved;
}

/* Opens the heap, or says in errno why not. */
static inline bool open_heap(struct pkeyguard_heap *heap, struct pkeyguard_guard *ret_guard)
{
    int error =
        heap == NULL ? -EINVAL : pkeyguard_acquire(heap->region, PKEYGUARD_READ_WRITE, ret_guard);

    if (error != 0)
        errno = -error;
    return error == 0;
}

static void *open_and_alloc(struct pkeyguard_heap *heap, size_t size, size_t alignment)
{
    struct pkeyguard_guard guard;
    void *object;

    if (!open_heap(heap, &guard))
        return NULL;
    object = alloc(heap, size, alignment);
    pkeyguard_release(&guard);
    return object;
}

void *pkeyguard_heap_alloc(struct pkeyguard_heap *heap, size_t size)
{
    return open_and_alloc(heap, size, ALIGNMENT);
}

void *pkeyguard_heap_aligned_alloc(struct pkeyguard_heap *heap, size_t alignment, size_t size)
{
    if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
        errno = EINVAL;
        return NULL;
    }
    return open_and_alloc(heap, size, alignment < ALIGNMENT ? ALIGNMENT : alignment);
}

void *pkeyguard_heap_calloc(struct pkeyguard_heap *heap, size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total)) {
        errno = ENOMEM;
        return NULL;
    }
    return pkeyguard_heap_alloc(heap, total);
}

void *pkeyguard_heap_realloc(struct pkeyguard_heap *heap, void *object, size_t size)
{
    struct pkeyguard_guard guard;

    if (object == NULL)
        return pkeyguard_heap_alloc(heap, size);
    if (!open_heap(heap, &guard))
        return NULL;
    object = resize(heap, object, size);
    pkeyguard_release(&guard);
    return object;
}

int pkeyguard_heap_free(struct pkeyguard_heap *heap, void *object)
{
    struct pkeyguard_guard guard;
    int error;

    if (object == NULL)
        return 0;
    if (heap == NULL)
        return -EINVAL;
    error = pkeyguard_acquire(heap->region, PKEYGUARD_READ_WRITE, &guard);
    if (error != 0)
        return error;
    error = free_object(heap, object);
    pkeyguard_release(&guard);
    return error;
}

size_t pkeyguard_heap_usable_size(const struct pkeyguard_heap *heap, const void *object)
{
    struct pkeyguard_heap *changing = (struct pkeyguard_heap *)heap;
    struct pkeyguard_guard guard;
    size_t size;

    if (!open_heap(changing, &guard))
        return 0;
    size = live_size(changing, object);
    if (size == 0)
        errno = EINVAL;
    pkeyguard_release(&guard);
    return size;
}
