/* SPDX-License-Identifier: MIT */
/* heap_directory.h - the heaps of this process, and what a fork does to them */
#ifndef HEAP_DIRECTORY_H
#define HEAP_DIRECTORY_H

#include "base/registry.h"
#include "heap/heap.h"

/* Returns zeroed memory for a heap, or NULL. */
int heap_directory_take(struct pkeyguard_heap **ret_heap);

/* Frees this memory. Withdraws the heap first if it is published. */
void heap_directory_give_back(struct pkeyguard_heap *heap);

/*
 * After publishing, pkeyguard_heap_of() finds the heap by `start` and `size`, and a fork waits for
 * its locks. Withdrawing ends both. A fork child withdraws the heaps whose memory it did not get.
 */
void heap_directory_publish(struct pkeyguard_heap *heap);
int heap_directory_withdraw(struct pkeyguard_heap *heap);

/*
 * For fork(3), which waits until no other thread is changing a heap: the child would have the
 * half-changed heap, but not the thread that is to finish.
 */
void heaps_lock_for_fork(void);
void heaps_unlock_after_fork(void);

/* In a fork child: gives up the heaps that a thread which is not there was changing, and withdraws
 * those that fork did not copy, for other memory may come to lie at their addresses. */
void heaps_forget_parent(void) NEEDS_LIBRARY_LOCK;

#endif
