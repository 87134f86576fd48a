/* SPDX-License-Identifier: MIT */
/*
 * heap.h - a heap: objects of any size inside one region
 *
 *     struct session {
 *         struct pkeyguard_region *region;  pkeyguard_heap_region(heap)
 *         struct secret *secret;            pkeyguard_heap_alloc(heap, ...)
 *     };
 *     pkeyguard_scoped_write_at(struct secret, secret, session->region,
 *                               session->secret) {
 *         secret->counter++;
 *     }
 *
 * Keep the region in a field beside the pointer, as in this example, and mark the pointer
 * PKEYGUARD_GUARDED_BY_MEMBER(region). Then Clang's thread safety analysis knows which region an
 * access needs (analysis.h). A scope on the region opens every object of the heap.
 *
 * Rights. The functions work inside and outside scopes. Each opens the key for itself and leaves
 * the caller's rights as they were. Inside a write scope that takes no WRPKRU and no system call.
 * Outside, under mprotect, it takes one or two calls of mprotect(2) to open and as many to close,
 * so open a scope around a series of calls. If more than 128 KiB of the heap were ever in use, and
 * it has no PKEYGUARD_REGION_HUGE_PAGES, an allocation or a free of up to 2048 bytes opens the
 * metadata and the pages of that object, and the other objects stay closed.
 *
 * Objects. They start at multiples of 16 and lie side by side. Memory is wiped when it is freed, so
 * a new object is filled with zeros. An object of up to 2048 bytes is rounded up to one of 24 size
 * classes: by at most 15 bytes up to a size of 128, by at most a quarter above. A larger object is
 * rounded up to a multiple of 4096 bytes.
 *
 * An access past the end of an object, a large one, too, hits the object behind it. Only at the end
 * of the capacity is an inaccessible page.
 *
 * Freed memory. It is kept in quarantine for a while. A small object's memory is not handed out
 * again before 7 more objects of its size class were freed (that threads of one shard allocated:
 * see pkeyguard_heap_create()), a large object's not before 4 more large objects were freed. A heap
 * that has no other room uses it earlier. Memory that the program wrote to after it freed it is
 * never handed out as it is: for a small object the library prints one line on stderr and aborts,
 * "a freed object of a heap was written to"; a large object's memory is wiped again.
 *
 * Metadata. The heap's records of its objects are in separate pages under the same key, behind an
 * inaccessible page. An access that runs off the end of the last object faults before it reaches
 * them. They cannot be reached while the key is closed.
 *
 * Memory. The capacity is address space. Memory is committed when an object is first written to or
 * wiped, and is kept until the heap is destroyed. That is so, too, in a process that locks all of
 * its memory (mlockall(2) with MCL_FUTURE), if the kernel has mlock2(2). With
 * vm.overcommit_memory=2 the kernel accounts for the whole capacity when the heap's pages first
 * become writable.
 *
 * Threads. Any number of threads may use one heap, and they seldom wait for each other. A thread
 * may free an object that another thread allocated. That costs more than to free an own one, and
 * sometimes a membarrier(2): up to 16 threads at a time own the part of a heap that they allocate
 * from, and use it without locked instructions until another thread needs it. The ownership passes
 * on when the thread ends. Where the kernel had no membarrier(2) when the first heap was created,
 * no thread owns a part. If a sandbox refuses that call later, a function that needs it fails with
 * -EAGAIN or errno EAGAIN.
 *
 * Signals. Only pkeyguard_heap_of(), _owns() and _region() are async-signal-safe. A handler that
 * interrupted another of these functions may call them all, but those that need what the
 * interrupted one was changing fail with -EDEADLK or errno EDEADLK. A handler must not leave a
 * function by siglongjmp(3): the heap may then refuse the thread with EDEADLK for good.
 *
 * Fork. A child's copy of a heap works like the original, also if fork(3) was called in a signal
 * handler that interrupted one of these functions. With PKEYGUARD_REGION_NO_FORK or _SECRET the
 * child does not have the heap. fork(3) waits until no other thread is changing a heap. _Fork(3)
 * and clone(2) do not: if another thread was changing a heap at that moment, the child may destroy
 * it, and the other functions may fail with EDEADLK in the child. Fork handlers of the program
 * that were registered before this library was loaded run while fork(3) holds the heaps, and are
 * refused with EDEADLK.
 *
 * Memory checkers. AddressSanitizer, in a program that is compiled with -fsanitize=address, and
 * valgrind's memcheck, if the library was built where valgrind's headers are, report a program's
 * mistakes with objects. The library need not be compiled for a checker. It looks for one when a
 * heap is created. The report has the line of the program that
 *  - accesses up to 32 bytes behind an object, or before one that has another in front of it
 *  - accesses a freed object, until its memory is handed out again
 *  - accesses memory in a block of 4096 bytes in use where no object was ever
 *  - frees or reallocates an object that was freed already. AddressSanitizer calls this
 *    "use-after-poison", as the others, after a line with "double free", and ends the process. In
 *    memcheck it is an "Invalid free()", and the function then fails with EINVAL, as without it.
 *
 * Each object of such a heap takes up at least 32 bytes more, so less fits into the capacity.
 * pkeyguard_heap_usable_size() is the size that was asked for. Threads own no part of the heap, and
 * it is never opened in parts. The functions for objects can abort with "the red zone after an
 * object of a heap was written to" on stderr, if the checker did not end the process when that
 * happened. With PKEYGUARD_MEMORY_CHECKER=none in the environment, read with secure_getenv(3) when
 * a heap is created, the heap has no checker and is as usual. memcheck's search for leaks does not
 * look into memory that is closed. Where memory was handed out again, memcheck can show the stacks
 * of the object that was there first. Since 0.2.
 */
#ifndef PKEYGUARD_HEAP_H
#define PKEYGUARD_HEAP_H

#include <pkeyguard/region.h>
#include <pkeyguard/types.h>

#include <pkeyguard/begin.h>

struct pkeyguard_heap;

/*
 * pkeyguard_heap_create - a new heap in a region of its own
 * @key: NULL: a private software key, closed by default
 * @capacity: bytes for all objects together, rounded up to whole pages. Be generous: a thread takes
 *            at least 4096 bytes for each size class that it uses, 8192 for one above 1024 bytes.
 *            More than 16 threads share 16 such sets.
 * @region_flags: 0 or PKEYGUARD_REGION_* together, as for pkeyguard_region_create(), without
 *                PKEYGUARD_REGION_FORK_WIPE and _END_ALIGNED. With _LOCKED memory is locked when it
 *                is first handed out; an allocation whose memory cannot be locked fails with
 *                ENOMEM. With _SECRET the whole capacity is committed at creation.
 * @ret_heap: set on success only; destroy it with pkeyguard_heap_destroy()
 *
 * Returns 0, an errno of pkeyguard_region_create(), or:
 *  - -EINVAL: capacity 0, or about 16 TiB or more, or a flag that it is without
 *  - -EDEADLK: see "Signals" and "Fork" in heap.h
 *
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(4))) int
pkeyguard_heap_create(struct pkeyguard_key *key, size_t capacity, unsigned region_flags,
                      struct pkeyguard_heap **ret_heap);

/*
 * pkeyguard_heap_destroy - wipe a heap's live objects, destroy its region and the heap
 * @heap: NULL is allowed and does nothing
 *
 * Returns 0, or an errno of pkeyguard_region_destroy(), or -EDEADLK. The heap then still exists,
 * but may be wiped and hold no object any more. Call again, unless the region is SEALED.
 * Thread: any, with no other use of this heap or its objects at the same time. Signal: not
 * async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_heap_destroy(struct pkeyguard_heap *heap);

/*
 * pkeyguard_heap_alloc - a zero-filled object
 * @size: bytes; 0 counts as 1
 *
 * Returns the object, at a multiple of 16; or NULL with errno set to ENOMEM: there is no room, but
 * the heap keeps working; EINVAL: heap is NULL; EDEADLK; EAGAIN: see "Threads" in heap.h; or an
 * error of pkeyguard_acquire(). Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, malloc, alloc_size(2))) void *
pkeyguard_heap_alloc(struct pkeyguard_heap *heap, size_t size);

/*
 * pkeyguard_heap_aligned_alloc - a zero-filled object at a multiple of alignment
 * @alignment: a power of two; above 4096 the object can need alignment bytes more of free space
 * @size: bytes, any number; 0 counts as 1
 *
 * Returns as pkeyguard_heap_alloc(), with EINVAL also if alignment is not a power of two.
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, malloc, alloc_size(3), alloc_align(2))) void *
pkeyguard_heap_aligned_alloc(struct pkeyguard_heap *heap, size_t alignment, size_t size);

/*
 * pkeyguard_heap_calloc - a zero-filled array of count * size bytes
 *
 * Returns as pkeyguard_heap_alloc(), with ENOMEM also if count * size overflows.
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, malloc, alloc_size(2, 3))) void *
pkeyguard_heap_calloc(struct pkeyguard_heap *heap, size_t count, size_t size);

/*
 * pkeyguard_heap_realloc - change an object's size
 * @object: a live object of this heap; NULL: as pkeyguard_heap_alloc()
 * @size: bytes; 0 counts as 1, and does not free the object
 *
 * The content is kept, up to the smaller of both sizes. The object stays where it is if the new
 * size fits and does not waste more than about half. Else it moves to a multiple of 16, and its old
 * memory is wiped. Shrinking an object needs no free space. Bytes past the old size are zero,
 * unless the program wrote to them before.
 *
 * Returns the object; or NULL with errno set as by pkeyguard_heap_alloc(), and to EINVAL also if it
 * is not a live object of this heap. Then the object is unchanged.
 * Thread: any, with no other use of the object at the same time. Signal: not async-signal-safe.
 * Since 0.1.
 */
__attribute__((warn_unused_result, alloc_size(3))) void *
pkeyguard_heap_realloc(struct pkeyguard_heap *heap, void *object, size_t size);

/*
 * pkeyguard_heap_free - wipe and free an object
 * @object: NULL is allowed and does nothing
 *
 * The function overwrites the object's whole usable size with zeros. It always refuses a pointer
 * that is no live object of this heap: one into the middle of an object, an object of another heap,
 * or an object that was freed already. It cannot refuse a freed object whose memory was handed out
 * again, because the pointer is then that of a live object: see "Freed memory" in heap.h. It keeps
 * errno.
 *
 * Returns 0; or, with nothing changed, -EINVAL: not a live object of this heap, or heap is NULL;
 * -EDEADLK; -EAGAIN: see "Threads" in heap.h; or an errno of pkeyguard_acquire().
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
int pkeyguard_heap_free(struct pkeyguard_heap *heap, void *object);

/*
 * pkeyguard_heap_usable_size - bytes that an object may use: as many as asked for, or more
 *
 * Returns the size; or 0 with errno set to EINVAL: not a live object of this heap; to EDEADLK; to
 * EAGAIN: see "Threads" in heap.h; or to an error of pkeyguard_acquire().
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
size_t pkeyguard_heap_usable_size(const struct pkeyguard_heap *heap, const void *object);

/*
 * pkeyguard_heap_owns - whether a pointer points into the heap's capacity, at a live object or not
 *
 * It needs no guard. If object or heap is NULL the answer is false.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
bool pkeyguard_heap_owns(const struct pkeyguard_heap *heap, const void *object);

/*
 * pkeyguard_heap_of - the heap that a pointer points into, or NULL
 *
 * For malloc hooks that serve a whole process. The function takes no lock, and other threads may
 * create and destroy other heaps meanwhile. The caller must make sure that the heap it gets is not
 * destroyed while it uses it. The time does not depend on how many heaps there are. In a fork child
 * the heaps that the child does not have (PKEYGUARD_REGION_NO_FORK, _SECRET) are not found.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
struct pkeyguard_heap *pkeyguard_heap_of(const void *object);

/*
 * pkeyguard_heap_region - the region that holds the objects; NULL if heap is NULL
 *
 * For guards, pkeyguard_region_name() and pkeyguard_region_associate(). pkeyguard_heap_destroy()
 * destroys it; do not destroy it yourself. Its size is the heap's capacity.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
struct pkeyguard_region *pkeyguard_heap_region(const struct pkeyguard_heap *heap);

#include <pkeyguard/end.h>
#endif
