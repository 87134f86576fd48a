/* SPDX-License-Identifier: MIT */
#include "heap/heap_directory.h"

#include <errno.h>

#include "base/os.h"
#include "region/annexed_region.h"

static struct heap_directory {
    /* Changed under `lock` and the library's lock. */
    struct registry heaps;  /* by the addresses of their objects */
    struct registry states; /* each belongs to a heap */
    struct heap_lock lock;  /* a fork takes it before the locks of each heap */
} heap_directory = {.heaps = REGISTRY_INIT(struct pkeyguard_heap),
                    .states = REGISTRY_INIT_WRITABLE(struct heap_state)};

static NEEDS_LIBRARY_LOCK void begin_checking(const struct pkeyguard_heap *heap,
                                              void (*on_opened)(const struct pages *))
{
    if (heap->checker != NULL && heap->checker->forgets_at_mprotect)
        to_write(heap->region)->pages.on_opened = on_opened;
}

static NEEDS_LIBRARY_LOCK void end_checking(struct pkeyguard_heap *heap)
{
    if (heap->checker == NULL)
        return;
    to_write(heap->region)->pages.on_opened = NULL;
    heap->checker->end(heap->start, (size_t)heap->state->used << BLOCK_SHIFT);
    to_write(heap)->checker = NULL;
}

static NEEDS_LIBRARY_LOCK void withdraw(struct pkeyguard_heap *heap)
{
    registry_withdraw(heap);
    end_checking(heap);
}

/* ---- fork ---- */

#define for_each_heap(heap)                                                     \
    for (struct registry_cursor cursor = registry_begin(&heap_directory.heaps); \
         ((heap) = registry_next(&heap_directory.heaps, &cursor)) != NULL;)

#define for_each_shard(shard) for (unsigned shard = 0; shard < SHARD_COUNT; shard++)

void heaps_lock_for_fork(void)
{
    struct pkeyguard_heap *heap;

    own_heap_thread.forks++;
    heap_lock_take_for_fork(&heap_directory.lock);
    for_each_heap(heap)
    {
        for_each_shard(i) shard_lock_take_for_fork(&heap->state->shard_locks[i], i);
        heap_lock_take_for_fork(&heap->state->spans_lock);
    }
}

void heaps_unlock_after_fork(void)
{
    struct pkeyguard_heap *heap;

    for_each_heap(heap)
    {
        for_each_shard(i) shard_lock_release_after_fork(&heap->state->shard_locks[i]);
        heap_lock_release_after_fork(&heap->state->spans_lock);
    }
    heap_lock_release_after_fork(&heap_directory.lock);
    own_heap_thread.forks--;
}

/* Returns false if a thread that does not exist here may have left the heap half-changed. */
static bool mend_locks(struct pkeyguard_heap *heap, unsigned forking)
{
    bool whole = !heap_lock_is_lost(&heap->state->spans_lock, forking);

    for_each_shard(i) whole &= shard_lock_mend(&heap->state->shard_locks[i], i, forking);
    return whole;
}

static void give_locks_up(struct pkeyguard_heap *heap, unsigned forking)
{
    for_each_shard(i) shard_lock_give_up(&heap->state->shard_locks[i], forking);
    heap_lock_give_up(&heap->state->spans_lock, forking);
}

void heaps_forget_parent(void)
{
    unsigned forking = heap_thread_that_forked();
    struct pkeyguard_heap *heap;

    /* A fork in a signal handler may have interrupted a change of the registry. At worst one record
     * is lost by that. */
    if (heap_lock_is_lost(&heap_directory.lock, forking))
        heap_lock_reset(&heap_directory.lock);
    for_each_heap(heap)
    {
        if (pages_absent(&heap->region->pages))
            withdraw(heap);
        else if (!mend_locks(heap, forking))
            give_locks_up(heap, forking);
    }
    heap_threads_forget_others(forking);
}

/* ---- the heaps ---- */

static LOCK_ANALYSIS(try_acquire_capability(0, heap_directory.lock, library_mutex))
    LOCK_ANALYSIS(no_thread_safety_analysis) int lock_directory(void)
{
    int error = heap_lock_acquire(&heap_directory.lock);

    if (error != 0)
        return error;
    error = library_lock();
    if (error != 0)
        heap_lock_release(&heap_directory.lock);
    return error;
}

static void unlock_directory(void)
    LOCK_ANALYSIS(release_capability(heap_directory.lock, library_mutex))
{
    library_unlock();
    heap_lock_release(&heap_directory.lock);
}

/* Takes the locks again in a thread that has just released them. That cannot be refused. */
static void lock_directory_again(void)
    LOCK_ANALYSIS(acquire_capability(heap_directory.lock, library_mutex))
{
    if (lock_directory() != 0)
        os_abort("the directory of heaps cannot be locked", NULL);
}

static int take_heap(struct pkeyguard_heap **ret_heap)
    LOCK_ANALYSIS(requires_capability(heap_directory.lock, library_mutex))
{
    struct pkeyguard_heap *heap = registry_take(&heap_directory.heaps);

    if (heap == NULL)
        return -ENOMEM;
    to_write(heap)->state = registry_take(&heap_directory.states);
    if (heap->state == NULL) {
        registry_give_back(&heap_directory.heaps, heap);
        return -ENOMEM;
    }
    heap->state->of_no_shard.inside = true;
    *ret_heap = heap;
    return 0;
}

int heap_directory_take(struct pkeyguard_heap **ret_heap)
{
    int error = lock_directory();

    if (error != 0)
        return error;
    error = take_heap(ret_heap);
    unlock_directory();
    return error;
}

void heap_directory_give_back(struct pkeyguard_heap *heap)
{
    lock_directory_again();
    registry_give_back(&heap_directory.states, heap->state);
    registry_give_back(&heap_directory.heaps, heap);
    unlock_directory();
}

void heap_directory_publish(struct pkeyguard_heap *heap, const struct pkeyguard_heap *content,
                            void (*on_opened)(const struct pages *))
{
    const struct registry_addresses objects = {content->start, content->size, content->start,
                                               content->size, content->region->pages.only_process};

    lock_directory_again();
    *to_write(heap) = *content;
    begin_checking(heap, on_opened);
    registry_publish(&heap_directory.heaps, heap, &objects);
    unlock_directory();
}

int heap_directory_withdraw(struct pkeyguard_heap *heap)
{
    int error = lock_directory();

    if (error != 0)
        return error;
    withdraw(heap);
    unlock_directory();
    return 0;
}

struct pkeyguard_heap *pkeyguard_heap_of(const void *object)
{
    return registry_owner(&heap_directory.heaps, object);
}
