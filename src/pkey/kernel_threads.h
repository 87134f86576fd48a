/* SPDX-License-Identifier: MIT */
/*
 * kernel_threads.h - the kernel's list of this process's threads, in /proc/self/task
 *
 * Only the kernel knows the threads that never called the library. thread_records.h has the
 * registered threads.
 */
#ifndef KERNEL_THREADS_H
#define KERNEL_THREADS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/lock.h"

/*
 * Returns the number of threads of this process, or 0 if /proc cannot be read or would not tell. A
 * thread that has ended counts until the kernel removes it. The first thread counts until the
 * process ends. Costs one system call on a file that stays open.
 */
unsigned kernel_threads_count(void) NEEDS_LIBRARY_LOCK;

/*
 * Returns a thread that passes the test and is not about to end; 0: there is none; -1: the threads
 * cannot be read. Call kernel_threads_count() first, and this only if the count is more than 0. The
 * test runs with the lock held.
 */
pid_t kernel_threads_find(bool (*test)(pid_t thread)) NEEDS_LIBRARY_LOCK;

/*
 * True if the thread blocks the signal now and is not about to end. Call it after a count, as
 * above.
 */
bool kernel_threads_blocks(pid_t thread, int signal) NEEDS_LIBRARY_LOCK;

/*
 * True if the first thread has certainly ended or is about to end. Call it after a count, as above.
 */
bool kernel_threads_leader_exited(void) NEEDS_LIBRARY_LOCK;

/* True if the calling thread is certainly the only one. Costs a sixth of a count. */
bool kernel_threads_only_own(void);

#endif
