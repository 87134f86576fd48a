/* SPDX-License-Identifier: MIT */
/*
 * os.h - the kernel's calls, each wrapped once
 *
 * Results are 0 or -errno from a closed set: what the kernel may answer beyond it reads as -ENOMEM,
 * its word for "no room in the kernel's tables".
 */
#ifndef OS_H
#define OS_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

size_t os_page_size(void);

/* Address space that nothing can reach. -ENOMEM. */
int os_reserve(size_t length, void **ret_address);
int os_reserve_uncommitted(size_t length, void **ret_address); /* accounted for on use */
int os_unmap(void *address, size_t length);

/* Memory that the kernel cannot read itself, closed to everyone, in the place of a reservation.
 * -ENOTSUP where it has none; -ENOMEM also where RLIMIT_MEMLOCK has no room for it. */
int os_reserve_secret(void *address, size_t length);

/* Zeroed memory in whole pages, from outside malloc. -ENOMEM. */
int os_allocate_pages(size_t length, void **ret_address);
int os_allocate_shared_pages(size_t length, void **ret_address); /* with children to come */
int os_grow_pages(size_t length, size_t grown, void **address);
void os_free_pages(void *address, size_t length);

/* Page rights, with a pkey where there is one; pkey 0 takes one away. -ENOMEM, -EACCES. */
int os_protect(void *address, size_t length, int prot);
int os_protect_with_pkey(void *address, size_t length, int prot, int pkey);

/* What becomes of memory elsewhere: not in a core dump; zeroed, or not mapped, in a fork child;
 * never swapped out (-EPERM where this process may lock none). -ENOMEM. */
int os_exclude_from_dumps(void *address, size_t length);
int os_wipe_on_fork(void *address, size_t length);
int os_unmap_on_fork(void *address, size_t length);
int os_lock(void *address, size_t length);

/*
 * Writes to the first bytes of each page, and zeroes them again. -ENOMEM where a page cannot be
 * had, which an access would learn from SIGBUS: kernels that count secret memory against
 * RLIMIT_MEMLOCK page by page do that.
 */
int os_touch(void *address, size_t length);

/* What newer kernels offer: mappings that nobody can change; inaccessible pages inside a mapping.
 * -ENOMEM, -ENOTSUP where it does not work. */
int os_seal(void *address, size_t length);
int os_install_guard(void *address, size_t length);
bool os_has_guards(void);

/* Names anonymous memory in /proc/PID/maps, where the kernel can. */
void os_name(void *address, size_t length, const char *name);

/* A pkey, 1 to 15 and open for the calling thread; or -errno as the kernel said it. */
int os_pkey_alloc(void);

void os_pkey_free(int pkey);

/*
 * A barrier in every running thread of this process, at the price of one system call here
 * (membarrier(2)). Once a process and again in a fork child it is made ready. -ENOTSUP; -ENOMEM.
 */
int os_barrier_prepare(void);
int os_barrier(void);

/* Waits while the word has this value, but not for longer; wakes all who wait. */
void os_wait(const atomic_uint *word, unsigned value, unsigned milliseconds);
void os_wake(const atomic_uint *word);

/* Reads own memory that may be out of reach. False: some of it is. */
bool os_peek(const void *address, void *buffer, size_t length);

/* The main thread's stack ends above this. */
const void *os_main_stack_end(void);

pid_t os_thread_id(void);

/* Since some moment in the past. */
uint64_t os_milliseconds(void);

/* For 50 microseconds, or less. */
void os_sleep_briefly(void);

/* Sends the calling thread a signal; works in a child that os_fork_quietly() made, too. */
void os_signal_self(int signal);

/* Sends another thread of this process a signal. -ESRCH; -EAGAIN: too many are pending. */
int os_signal_thread(pid_t thread, int signal);

/* All the calling thread's signals, the C library's own included, stay pending. */
void os_block_signals(sigset_t *ret_before);
void os_unblock_signals(const sigset_t *before);

/* Sends it once more a signal that it got. */
void os_signal_self_as(const siginfo_t *info);

/* A signal's action: each may be NULL. */
void os_handle_signal(int signal, const struct sigaction *action, struct sigaction *ret_before);

/* The calling thread has an alternate signal stack from now on, for good. -ENOMEM. */
int os_ensure_signal_stack(void);

/* A child process that shares nothing, sends no SIGCHLD and runs no fork handler. -EAGAIN, -ENOMEM.
 */
int os_fork_quietly(pid_t *ret_child);

/* Waits for it to end. */
void os_reap(pid_t child);

/* "libpkeyguard: " and this as a line on stderr. In a signal handler too. */
void os_print(const char *string);

/* "libpkeyguard: " and these pieces (NULL ends them) as a line on stderr; then abort(). In a signal
 * handler too. */
__attribute__((noreturn, sentinel)) void os_abort(const char *piece, ...);

#endif
