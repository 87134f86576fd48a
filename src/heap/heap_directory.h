/* SPDX-License-Identifier: MIT */
/* heap_directory.h - the heaps of this process, and what a fork does to them */
#ifndef HEAP_DIRECTORY_H
#define HEAP_DIRECTORY_H

#include "base/registry.h"
#include "heap/heap.h"

/* Returns memory for a heap, all zero. -ENOMEM; -EDEADLK: in a handler that interrupted one of
 * these functions or fork(3). */
int heap_directory_take(struct pkeyguard_heap **ret_heap);

/* Takes that memory back, of a heap that is published or not. */
void heap_directory_give_back(struct pkeyguard_heap *heap);

/*
 * From now on pkeyguard_heap_of() finds the heap by start and size, and a fork waits for its locks.
 * Withdrawing ends that, unless it fails with -EDEADLK, as above; a fork child withdraws the heaps
 * that it does not have by itself.
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
