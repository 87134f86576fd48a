/* SPDX-License-Identifier: MIT */
/* heap_directory.h - the heaps of this process, and what a fork does to them */
#ifndef HEAP_DIRECTORY_H
#define HEAP_DIRECTORY_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/registry.h"
#include "heap/heap.h"

/* The state that all heaps of the process share. */
struct heap_directory {
    struct registry heaps; /* by the addresses of their objects; changed under `lock` */
    struct heap_lock lock; /* a fork takes it before the locks of each heap */
    pthread_once_t fork_handlers;
    atomic_uint threads; /* that were given a shard; no lock */
};

/* Hidden, so that it is not reached through the global offset table. */
extern struct heap_directory heap_directory __attribute__((visibility("hidden")));

/* Returns memory for a heap, all zero; NULL: there is none. */
struct pkeyguard_heap *heap_directory_take(void);

/* Takes that memory back, of a heap that is published or not. */
void heap_directory_give_back(struct pkeyguard_heap *heap);

/* From now on pkeyguard_heap_of() finds the heap by start and size, and a fork waits for its locks.
 * Withdrawing ends that; a fork child withdraws the heaps that it does not have by itself. */
void heap_directory_publish(struct pkeyguard_heap *heap);
void heap_directory_withdraw(struct pkeyguard_heap *heap);

#endif
