/* SPDX-License-Identifier: MIT */
#include "heap/heap_directory.h"

#include "region/annexed_region.h"

struct heap_directory heap_directory = {.heaps = REGISTRY_INIT(struct pkeyguard_heap),
                                        .fork_handlers = PTHREAD_ONCE_INIT};

/* ---- fork ---- */

/* A fork waits until no thread is changing a heap, because the child would have the half-changed
 * heap, but not the thread that is to finish. */
static void hold_heaps_before_fork(void) LOCK_ANALYSIS(no_thread_safety_analysis)
{
    struct registry_cursor cursor;
    struct pkeyguard_heap *heap;

    heap_lock_acquire(&heap_directory.lock);
    cursor = registry_begin(&heap_directory.heaps);
    while ((heap = registry_next(&heap_directory.heaps, &cursor)) != NULL) {
        for (unsigned i = 0; i < SHARD_COUNT; i++)
            heap_lock_acquire(&heap->shard_locks[i]);
        heap_lock_acquire(&heap->spans_lock);
    }
}

static void release_heaps_after_fork(void) LOCK_ANALYSIS(no_thread_safety_analysis)
{
    struct registry_cursor cursor = registry_begin(&heap_directory.heaps);
    struct pkeyguard_heap *heap;

    while ((heap = registry_next(&heap_directory.heaps, &cursor)) != NULL) {
        for (unsigned i = 0; i < SHARD_COUNT; i++)
            heap_lock_release(&heap->shard_locks[i]);
        heap_lock_release(&heap->spans_lock);
    }
    heap_lock_release(&heap_directory.lock);
}

/* Withdraws the heaps whose memory the child does not have (MADV_DONTFORK): other memory may come
 * to lie at their addresses. */
static void withdraw_heaps_in_fork_child(void)
{
    struct registry_cursor cursor;
    struct pkeyguard_heap *heap;

    release_heaps_after_fork();
    heap_lock_acquire(&heap_directory.lock);
    cursor = registry_begin(&heap_directory.heaps);
    while ((heap = registry_next(&heap_directory.heaps, &cursor)) != NULL) {
        if (heap->region->pages.not_forked)
            registry_withdraw(heap);
    }
    heap_lock_release(&heap_directory.lock);
}

static void install_heap_fork_handlers(void)
{
    pthread_atfork(hold_heaps_before_fork, release_heaps_after_fork, withdraw_heaps_in_fork_child);
}

/* ---- the heaps ---- */

struct pkeyguard_heap *heap_directory_take(void)
{
    struct pkeyguard_heap *heap;

    pthread_once(&heap_directory.fork_handlers, install_heap_fork_handlers);
    heap_lock_acquire(&heap_directory.lock);
    heap = registry_take(&heap_directory.heaps);
    heap_lock_release(&heap_directory.lock);
    return heap;
}

void heap_directory_give_back(struct pkeyguard_heap *heap)
{
    heap_lock_acquire(&heap_directory.lock);
    registry_give_back(&heap_directory.heaps, heap);
    heap_lock_release(&heap_directory.lock);
}

void heap_directory_publish(struct pkeyguard_heap *heap)
{
    const struct registry_addresses objects = {heap->start, heap->size, heap->start, heap->size};

    heap_lock_acquire(&heap_directory.lock);
    registry_publish(&heap_directory.heaps, heap, &objects);
    heap_lock_release(&heap_directory.lock);
}

void heap_directory_withdraw(struct pkeyguard_heap *heap)
{
    heap_lock_acquire(&heap_directory.lock);
    registry_withdraw(heap);
    heap_lock_release(&heap_directory.lock);
}

struct pkeyguard_heap *pkeyguard_heap_of(const void *object)
{
    return registry_owner(&heap_directory.heaps, object);
}
