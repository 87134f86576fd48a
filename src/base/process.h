/* SPDX-License-Identifier: MIT */
/*
 * process.h - notices that the process is a fork child
 *
 * A fork child has a copy of the library's state, including the locks and threads of its parent.
 * Not every fork runs handlers: _Fork(3) and clone(2) do not. So the library keeps a word in memory
 * that the kernel clears on fork (MADV_WIPEONFORK). clone(2) with CLONE_VM, as in vfork(2), makes
 * no copy; the library treats such a child as another thread.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/*
 * Returns the number of this process: 1 for the first process, and one more in each fork child.
 * Async-signal-safe.
 */
unsigned process_number(void);

/*
 * True if this process has what belongs to one process alone, given by its process_number(). 0:
 * fork children have it, too. Async-signal-safe.
 */
bool process_has(unsigned only_process);

/*
 * Returns the id of this process's first thread. A child that shares this memory, as that of
 * vfork(2) does, has another. Async-signal-safe.
 */
pid_t process_first_thread(void);

/* True in a fork child, until process_adopted(). Async-signal-safe. */
bool process_is_unnoticed(void);

/*
 * Returns true to the first caller in a fork child. That caller repairs the state and then calls
 * process_adopted(); other callers wait until then. The caller has blocked all signals.
 */
bool process_is_new(void);
void process_adopted(void);

/*
 * In a fork child, between those two: where the thread that forked has the thread-local variable
 * that the calling thread has at `own`. It may be another thread, for the child may create threads
 * before its first call. NULL: not known.
 */
void *process_in_forking_thread(void *own);

#endif
