/* SPDX-License-Identifier: MIT */
/*
 * kernel_threads.h - the kernel's account of this process's threads
 *
 * It is the one account that has the threads this library has never seen. Those of its own list
 * are in thread_records.h.
 */
#ifndef KERNEL_THREADS_H
#define KERNEL_THREADS_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * How many threads this process has, ended ones included until the kernel forgets them; 0: unknown.
 * It costs one system call, on a file that it keeps open. Needs the library's lock, as the next.
 */
unsigned kernel_threads_count(void);

/* A thread that passes the test and is not about to end; 0: none. */
pid_t kernel_threads_find(bool (*test)(pid_t thread));

/*
 * Whether the first thread has ended, or is about to, for certain. It is counted to the end of the
 * process all the same.
 */
bool kernel_threads_leader_exited(void);

/* Whether the calling thread is certainly the only one. At a sixth of the price of counting them.
 */
bool kernel_threads_only_own(void);

#endif
