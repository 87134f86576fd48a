/* SPDX-License-Identifier: MIT */
/*
 * heap.h - a heap: objects smaller than a page inside one keyed region
 *
 *     struct session {
 *         struct pkeyguard_region *region;      pkeyguard_heap_region(heap)
 *         struct secret *secret;                pkeyguard_heap_alloc(heap, sizeof(struct secret))
 *     };
 *     pkeyguard_scoped_write_at(struct secret, secret, session->region, session->secret) {
 *         secret->counter++;
 *     }
 *
 * Keep the region in a field beside the pointer, as here, and mark the pointer
 * PKEYGUARD_GUARDED_BY(region): so Clang's thread safety analysis can tell which region a use of it
 * needs. A scope over the region opens every object of the heap.
 *
 * Every function opens the key as it needs to and leaves the caller's rights as they were, so each
 * works inside and outside scopes. Inside a write scope that costs neither a WRPKRU nor a system
 * call; under mprotect outside of one it is two calls of mprotect(2) to open and two to close, so
 * open a scope around many.
 *
 * Objects lie at multiples of 16. Memory handed out is zero-filled, for it is wiped when it is
 * freed. Up to 2048 bytes an object takes its size rounded up to one of 24 size classes, at most a
 * quarter more (16 bytes more below 128); above that, whole units of 4096 bytes.
 *
 * What the heap knows of its objects lies in pages of its own under the same key, apart from them
 * behind an inaccessible page. Running off the end of the objects faults; it cannot reach those
 * pages, and from outside the key nothing can. Objects themselves lie side by side.
 *
 * The capacity is address space. Memory is committed as objects are first written to, or wiped, and
 * kept until the heap is destroyed. With vm.overcommit_memory=2 the kernel accounts for all of the
 * capacity at once.
 *
 * Threads: any number on one heap, which they rarely contend for; an object may be freed by another
 * thread than it was allocated by. Signals: only heap_of, owns and region are async-signal-safe: a
 * handler that interrupted one of the others would wait for it for ever. Fork: a child's copy of a
 * heap works like the original, unless a handler that interrupted one of these functions forks.
 */
#ifndef PKEYGUARD_HEAP_H
#define PKEYGUARD_HEAP_H

#include <stdbool.h>
#include <stddef.h>

#include <pkeyguard/region.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct pkeyguard_heap;

/*
 * pkeyguard_heap_create - a new heap in a region of its own
 * @key: NULL: a private software key, closed by default, guarded with mprotect
 * @capacity: bytes for all objects together, rounded up to whole pages; be generous: each size in
 *            use takes 4096 bytes at a time (above 1024 bytes, 8192) for each thread, or of more
 *            than 16 threads for each 16th
 * @region_flags: 0 or PKEYGUARD_REGION_* together, as for pkeyguard_region_create(), but for
 *                PKEYGUARD_REGION_FORK_WIPE. With _LOCKED memory is locked as it is first handed
 *                out, and where no more may be locked there is no room; _SECRET takes all of the
 *                capacity at once.
 * @ret_heap: set on success only; destroy it with pkeyguard_heap_destroy()
 *
 * Returns 0; -EINVAL: capacity 0 or too large to be rounded or counted (16 TiB), flags unknown or
 * contradictory, or PKEYGUARD_REGION_FORK_WIPE; or an errno of pkeyguard_region_create().
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(4))) int
pkeyguard_heap_create(struct pkeyguard_key *key, size_t capacity, unsigned region_flags,
                      struct pkeyguard_heap **ret_heap);

/*
 * pkeyguard_heap_destroy - wipe a heap's live objects and give its region up
 * @heap: NULL is allowed and does nothing
 *
 * Returns 0; or an errno of pkeyguard_region_destroy(): the heap stands as before but may be wiped,
 * with no object in it: call again.
 * Thread: any, with no other use of this heap or its objects at the same time. Signal: not
 * async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_heap_destroy(struct pkeyguard_heap *heap);

/*
 * pkeyguard_heap_alloc - a zero-filled object
 * @size: bytes; 0 is as 1
 *
 * Returns the object, at a multiple of 16; or NULL with errno set: ENOMEM: no room for it, and the
 * heap goes on working; EINVAL: no heap; or an errno of pkeyguard_acquire().
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, malloc, alloc_size(2))) void *
pkeyguard_heap_alloc(struct pkeyguard_heap *heap, size_t size);

/*
 * pkeyguard_heap_aligned_alloc - a zero-filled object at a multiple of alignment
 * @alignment: a power of two; beyond 4096 it can need alignment bytes more of free room
 * @size: bytes, any number; 0 is as 1
 *
 * As pkeyguard_heap_alloc(); EINVAL also for an alignment that is not a power of two.
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, malloc, alloc_size(3), alloc_align(2))) void *
pkeyguard_heap_aligned_alloc(struct pkeyguard_heap *heap, size_t alignment, size_t size);

/*
 * pkeyguard_heap_calloc - a zero-filled array
 *
 * As pkeyguard_heap_alloc() of count * size bytes; ENOMEM also where that overflows.
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, malloc, alloc_size(2, 3))) void *
pkeyguard_heap_calloc(struct pkeyguard_heap *heap, size_t count, size_t size);

/*
 * pkeyguard_heap_realloc - change an object's size
 * @object: a live object of this heap; NULL: as pkeyguard_heap_alloc()
 * @size: bytes; 0 is as 1, and never frees
 *
 * The content stays, up to the smaller of both sizes. Where the object's usable size fits well it
 * stays where it is; else it moves to a multiple of 16 and the old place is wiped. A smaller size
 * never fails. Bytes past the old size are zero unless the object wrote there.
 *
 * Returns the object; or NULL with errno set, as pkeyguard_heap_alloc(), and the object is as
 * before; EINVAL also where it is not a live object of this heap.
 * Thread: any, with no other use of the object at the same time. Signal: not async-signal-safe.
 * Since 0.1.
 */
__attribute__((warn_unused_result, alloc_size(3))) void *
pkeyguard_heap_realloc(struct pkeyguard_heap *heap, void *object, size_t size);

/*
 * pkeyguard_heap_free - wipe an object and give its place back
 * @object: NULL is allowed and does nothing
 *
 * All of the usable size is overwritten with zeros. A pointer that no function here returned, into
 * the middle of an object, of another heap, or freed already, is found out and refused, always,
 * unless its place was handed out again: then it is that new object's.
 *
 * Returns 0; -EINVAL: not a live object of this heap, or no heap: nothing changed; or an errno of
 * pkeyguard_acquire(): nothing changed.
 * Thread: any. Signal: not async-signal-safe. Keeps errno. Since 0.1.
 */
int pkeyguard_heap_free(struct pkeyguard_heap *heap, void *object);

/*
 * pkeyguard_heap_usable_size - bytes that an object may use: what was asked for, or more
 *
 * Returns 0 with errno set where it cannot tell: EINVAL: not a live object of this heap; or an
 * errno of pkeyguard_acquire().
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
size_t pkeyguard_heap_usable_size(const struct pkeyguard_heap *heap, const void *object);

/*
 * pkeyguard_heap_owns - whether a pointer lies in the heap's capacity, live or not
 *
 * Needs no guard. False for NULL.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
bool pkeyguard_heap_owns(const struct pkeyguard_heap *heap, const void *object);

/*
 * pkeyguard_heap_of - the heap in whose capacity a pointer lies; NULL: none's
 *
 * For malloc hooks that serve a whole process: takes no lock, and other heaps may come and go
 * meanwhile. The heap itself must not: what is returned is of use while it is not destroyed. Looks
 * at each heap in turn. In a fork child, which does not have every heap, only at its own.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
struct pkeyguard_heap *pkeyguard_heap_of(const void *object);

/*
 * pkeyguard_heap_region - the region that the objects lie in
 *
 * For guards, pkeyguard_region_name() and pkeyguard_region_associate(); it is destroyed with the
 * heap, never by itself. Its size is the heap's capacity. NULL for NULL.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
struct pkeyguard_region *pkeyguard_heap_region(const struct pkeyguard_heap *heap);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
