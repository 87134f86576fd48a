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

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum process_mark { PROCESS_WIPED, PROCESS_BEING_ADOPTED, PROCESS_KNOWN };

struct process_state {
    /*
     * An enum process_mark. The kernel wipes its page on fork. Written by the thread that calls
     * process_adopted().
     */
    atomic_uint *mark;

    /*
     * Used before the library is loaded, and where the kernel cannot wipe a page on fork (before
     * Linux 4.14). There the library clears it when the process id changes.
     */
    atomic_uint mark_in_data;
    _Atomic pid_t pid; /* 0: the kernel clears the mark */

    /* Written by the thread that calls process_adopted(). */
    atomic_uint number;
    pid_t id;
    bool forking_thread_known;
    ptrdiff_t to_forking_thread; /* from the adopting thread's thread-local memory, in bytes */
};
extern struct process_state process_state __attribute__((visibility("hidden")));

/* Clears the mark if the process id has changed. */
void process_compare_id(void);

static inline enum process_mark process_read_mark(void)
{
    if (__builtin_expect(atomic_load_explicit(&process_state.pid, memory_order_relaxed) != 0, 0))
        process_compare_id();
    return (enum process_mark)atomic_load_explicit(process_state.mark, memory_order_acquire);
}

/*
 * Returns the number of this process: 1 for the first process, and one more in each fork child.
 * Async-signal-safe.
 */
static inline unsigned process_number(void)
{
    return process_read_mark() == PROCESS_WIPED ? process_state.number + 1 : process_state.number;
}

/* The same, but in a fork child its parent's number until process_is_new() was called there. */
static inline unsigned process_number_noticed(void)
{
    return process_state.number;
}

/*
 * True if this process has what belongs to one process alone, given by its process_number(). 0:
 * fork children have it, too. Async-signal-safe.
 */
static inline bool process_has(unsigned only_process)
{
    return only_process == 0 || only_process == process_number();
}

/*
 * Returns the id of this process's first thread. A child that shares this memory, as that of
 * vfork(2) does, has another. Async-signal-safe.
 */
pid_t process_first_thread(void);

/* True in a fork child, until process_adopted(). Async-signal-safe. */
static inline bool process_is_unnoticed(void)
{
    return process_read_mark() != PROCESS_KNOWN;
}

/*
 * Returns true to the first caller in a fork child. That caller repairs the state and then calls
 * process_adopted(); other callers wait until then. The caller has blocked all signals.
 */
bool process_begin_adoption(void);
static inline bool process_is_new(void)
{
    return __builtin_expect(process_is_unnoticed(), 0) && process_begin_adoption();
}
void process_adopted(void);

/*
 * In a fork child, between those two: where the thread that forked has the thread-local variable
 * that the calling thread has at `own`. It may be another thread, for the child may create threads
 * before its first call. NULL: not known.
 */
void *process_in_forking_thread(void *own);

#endif
