/* SPDX-License-Identifier: MIT */
/*
 * kernel_threads.h - the kernel's account of this process's threads, in /proc/self/task
 *
 * It is the one account that has the threads which this library has never seen. thread_records.h
 * has those that are registered.
 */
#ifndef KERNEL_THREADS_H
#define KERNEL_THREADS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/lock.h"

/*
 * The number of threads of this process. A thread that has ended counts until the kernel forgets
 * it, the first thread until the process ends. 0: /proc does not tell. It costs one system call, on
 * a file that stays open.
 */
unsigned kernel_threads_count(void) NEEDS_LIBRARY_LOCK;

/*
 * A thread that passes the test and is not about to end; 0: there is none. Comes after
 * kernel_threads_count() has returned more than 0. The test runs with the lock held.
 */
pid_t kernel_threads_find(bool (*test)(pid_t thread)) NEEDS_LIBRARY_LOCK;

/* True if the thread has the signal blocked now. Comes after a count, as above. */
bool kernel_threads_blocks(pid_t thread, int signal) NEEDS_LIBRARY_LOCK;

/* True if the first thread has certainly ended, or is about to. Comes after a count, as above. */
bool kernel_threads_leader_exited(void) NEEDS_LIBRARY_LOCK;

/* True if the calling thread is certainly the only one. It costs a sixth of a count. */
bool kernel_threads_only_own(void);

#endif
