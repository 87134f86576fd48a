/* SPDX-License-Identifier: MIT */
/* heap_directory.h - the heaps of this process, and what a fork does to them */
#ifndef HEAP_DIRECTORY_H
#define HEAP_DIRECTORY_H

#include "base/registry.h"
#include "heap/heap.h"
#include "key/pages.h"

/* Returns zeroed memory for a heap, with a state. -ENOMEM, -EDEADLK. */
int heap_directory_take(struct pkeyguard_heap **ret_heap);

/* Frees this memory. Withdraws the heap first if it is published. */
void heap_directory_give_back(struct pkeyguard_heap *heap);

/*
 * Publishing gives the heap its content. After it pkeyguard_heap_of() finds the heap by `start` and
 * `size`, a fork waits for its locks, and its memory checker, if it has one, knows its memory.
 * Withdrawing ends these; a heap that is published again has no checker. A fork child withdraws the
 * heaps whose memory it did not get.
 *
 * @on_opened: for the heap's pages (pages.h), if the checker needs it
 */
void heap_directory_publish(struct pkeyguard_heap *heap, const struct pkeyguard_heap *content,
                            void (*on_opened)(const struct pages *));
int heap_directory_withdraw(struct pkeyguard_heap *heap);

/*
 * fork(3) waits until no other thread is changing a heap. Otherwise the child would get a
 * half-changed heap without the thread that finishes the change.
 */
void heaps_lock_for_fork(void);
void heaps_unlock_after_fork(void);

/*
 * Runs in a fork child: makes the heaps unusable that a thread of the parent was changing, and
 * withdraws the heaps that fork did not copy, because other memory may get their addresses.
 */
void heaps_forget_parent(void) NEEDS_LIBRARY_LOCK;

#endif
