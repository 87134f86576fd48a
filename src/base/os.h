/* SPDX-License-Identifier: MIT */
/*
 * os.h - the library's system calls
 *
 * A function returns 0 or one of the errors that its comment lists. Any other error that the kernel
 * gives is reported as the last one listed. Only os_pkey_alloc() returns the kernel's error as it
 * is. errno may change. No function here is a cancellation point.
 *
 * The library makes no other system calls, except by these functions of the C library: calloc,
 * getpid, pthread_*; in the child process of
 * platform.c also sigsetjmp, siglongjmp and _exit.
 */
#ifndef OS_H
#define OS_H

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* ---- mappings: address and length are multiples of the page size, in bytes ---- */

size_t os_page_size(void);

/* Reserves address space, PROT_NONE. An uncommitted one counts as used memory only page by page, on
 * first use. -ENOMEM. */
int os_reserve(size_t length, void **ret_address);
int os_reserve_uncommitted(size_t length, void **ret_address);

/*
 * Replaces a reservation by PROT_NONE memory that the kernel cannot read (memfd_secret(2)).
 * -ENOTSUP: the kernel does not have it. -ENOMEM: no memory, or RLIMIT_MEMLOCK is reached.
 */
int os_reserve_secret(void *address, size_t length);

/* Unmaps memory. On -ENOMEM nothing was unmapped. */
int os_unmap(void *address, size_t length);

/* The library's own memory, zeroed, readable and writable. Shared pages stay common to this process
 * and the children that it forks later. -ENOMEM. */
int os_allocate_pages(size_t length, void **ret_address);
int os_allocate_shared_pages(size_t length, void **ret_address);

/* Enlarges allocated pages from length to grown; may move them, and then changes *address.
 * -ENOMEM: nothing changed. */
int os_grow_pages(size_t length, size_t grown, void **address);

/*
 * Shared pages at a given address. os_map_shared_at() maps new ones there, zeroed, readable and
 * writable. os_map_again() maps existing ones there, too, with the same page rights; at any address
 * if it is NULL. os_move_pages() moves them there. They replace what is mapped there, which may be
 * lost on failure. -ENOMEM; -EACCES: the kernel or a sandbox refuses it.
 */
int os_map_shared_at(void *address, size_t length);
int os_map_again(void *pages, size_t length, void *address, void **ret_address);
int os_move_pages(void *pages, size_t length, void *address);

void os_free_pages(void *address, size_t length);

/* True if every page of the range is mapped. */
bool os_is_mapped(const void *address, size_t length);

/*
 * What the kernel knows of the mapping at an address, except its pkey (PROCMAP_QUERY, Linux 6.11).
 * @maps: an open /proc/thread-self/maps. -ENOMEM: there is no mapping; -ENOTSUP: the kernel does
 * not tell.
 */
struct os_mapping {
    uintptr_t end;
    int prot;
    size_t page_size; /* more than os_page_size() for hugetlb pages */
};
int os_query_mapping(int maps, uintptr_t address, struct os_mapping *ret_mapping);

/* Gives anonymous memory a name in /proc/PID/maps, if the kernel can. */
void os_name(void *address, size_t length, const char *name);

/*
 * Copies this process's memory from any address, even if it is unmapped or closed. Returns false if
 * some of it cannot be read. Where process_vm_readv(2) is refused, it does not read closed memory,
 * and no other thread may unmap the memory meanwhile.
 */
bool os_peek(const void *address, void *buffer, size_t length);

/* ---- page rights and pkeys ---- */

/*
 * Change page rights. os_protect_with_pkey() also sets the pages' pkey; 0 removes it. -EACCES: a
 * security policy or the mapped file forbids it. -ENOMEM. On failure some of the pages may have
 * changed.
 */
int os_protect(void *address, size_t length, int prot);
int os_protect_with_pkey(void *address, size_t length, int prot, int pkey);

/* Returns a pkey from 1 to 15, open for the calling thread; or the kernel's own -errno. */
int os_pkey_alloc(void);

/*
 * Gives the pkey back to the kernel. No page may have it, because its next owner would control that
 * page.
 */
void os_pkey_free(int pkey);

/* ---- memory in core dumps, in fork children, in swap; changes of a mapping ---- */

/* Excludes the memory from core dumps. -ENOMEM. */
int os_exclude_from_dumps(void *address, size_t length);

/* Keeps the kernel from sharing equal pages of it with others (KSM). -ENOMEM, -EACCES. */
int os_never_merge(void *address, size_t length);

/*
 * A new mapping may be locked from the start (mlockall(2) with MCL_FUTURE): the kernel would commit
 * all of it at once when it becomes accessible. This commits each page on first use instead, and
 * locks it then (MLOCK_ONFAULT, Linux 4.4). Does nothing to a mapping that is not locked.
 */
void os_commit_on_use(void *address, size_t length);

/*
 * Keeps pages in a mapping of their own, as far as the kernel allows: mprotect(2) of these pages
 * alone then neither splits nor joins mappings, which takes most of its time. The advice that makes
 * the mapping differ (MADV_RANDOM) only says how memory comes back from swap.
 */
void os_keep_apart(void *address, size_t length);

/* A fork child finds zeros there, or no mapping at all. -ENOMEM, -EACCES. */
int os_wipe_on_fork(void *address, size_t length);
int os_unmap_on_fork(void *address, size_t length);

/* Keeps the memory from being swapped out. -EPERM: this process may lock none; -ENOMEM. On failure
 * some of the pages may be locked. */
int os_lock(void *address, size_t length);

/*
 * Gives the pages memory as if they were read, with the rights that the thread has now. -EACCES:
 * the thread may not read them all, or the kernel cannot do this.
 */
int os_populate_to_read(void *address, size_t length);

/*
 * Brings writable pages into memory, by writing to the first bytes of each page and zeroing them.
 * -ENOMEM: there is no memory for a page. (A plain write would raise SIGBUS, because some kernels
 * count secret memory against RLIMIT_MEMLOCK page by page.)
 */
int os_touch(void *address, size_t length);

/* Asks for huge pages (MADV_HUGEPAGE). -ENOTSUP: the kernel has none; -ENOMEM, -EACCES. */
int os_prefer_huge_pages(void *address, size_t length);

/* Overwrites memory with zeros. Skips pages that were never used. */
void os_wipe(void *address, size_t length);

/* Forbids every later change of the mapping (mseal, Linux 6.10). -ENOMEM, -ENOTSUP. */
int os_seal(void *address, size_t length);

/* True if the process can make no further page executable (PR_SET_MDWE, Linux 6.3). */
bool os_forbids_new_code(void);

/* Makes pages inaccessible within their mapping (MADV_GUARD_INSTALL, Linux 6.13). -ENOTSUP,
 * -ENOMEM. */
int os_install_guard(void *address, size_t length);

/* True if os_install_guard() works here. */
bool os_has_guards(void);

/* ---- threads ---- */

/* These ask the kernel. The C library's remembered numbers may be wrong after clone(2). */
pid_t os_process_id(void);
pid_t os_thread_id(void);

/* Gets the calling thread's name in /proc, with a NUL. */
enum { OS_THREAD_NAME_SIZE = 16 };
void os_thread_name(char ret_name[OS_THREAD_NAME_SIZE]);

/* True if the calling thread is certainly the only one that runs in this process's memory. */
bool os_is_only_thread(void);

/*
 * True if the calling thread is changing its list of robust mutexes. Called from its signal
 * handlers.
 */
bool os_changes_robust_list(void);

/*
 * Where a thread of this process keeps its list of robust mutexes: the C library has it at the same
 * place in each thread's own memory. NULL: it has none, or the kernel does not tell.
 */
const char *os_robust_list(pid_t thread);

/* An address in the main thread's stack that is above all of its frames. */
const void *os_main_stack_end(void);

/*
 * os_barrier() makes every running thread of this process pass a full memory barrier
 * (membarrier(2), private expedited) before it returns. Each process, and each fork child, must
 * call os_barrier_prepare() once before. os_barrier_prepare: -ENOTSUP. os_barrier: -ENOMEM, there
 * was no barrier. A system call filter that the program installed after os_barrier_prepare() also
 * gives -ENOMEM.
 */
int os_barrier_prepare(void);
int os_barrier(void);

/*
 * Sleeps while *word is value, for at most this many milliseconds. It may return early, so callers
 * check again. os_wake() wakes every thread of this process that sleeps on word.
 */
void os_wait(const atomic_uint *word, unsigned value, unsigned milliseconds);
void os_wake(const atomic_uint *word);

/* Sleeps for 50 microseconds, or until a signal handler has run. */
void os_sleep_briefly(void);

/* Returns the monotonic clock in milliseconds. */
uint64_t os_milliseconds(void);

/* ---- files and directories, read only ---- */

/*
 * Opens path, relative to an open directory or AT_FDCWD. `flags` are added to O_RDONLY and
 * O_CLOEXEC (open(2)). Returns a file descriptor, or -1 on any failure. os_close_file() ignores -1.
 */
int os_open_file_at(int directory, const char *path, int flags);
void os_close_file(int file);

/* Reads up to size bytes. Returns their number; 0 at the end; -1 on failure. */
ssize_t os_read_file(int file, void *buffer, size_t size);

/* Gets the file's status. Returns false on failure. The caller includes <sys/stat.h>. */
struct stat;
bool os_stat_file(int file, struct stat *ret_status);

/*
 * Reads directory entries, each `length` bytes long, one after the other. The buffer has the
 * alignment of an entry. Returns the number of bytes; 0 at the end; -1 on failure.
 */
struct os_directory_entry { /* the kernel's linux_dirent64 */
    uint64_t inode, offset;
    uint16_t length;
    uint8_t type;
    char name[];
};
ssize_t os_read_directory(int directory, void *entries, size_t size);

/* The next os_read_directory() starts at the first entry again. */
void os_rewind_directory(int directory);

/* ---- signals ---- */

/* Sets and gets a signal's action; either pointer may be NULL. */
void os_handle_signal(int signal, const struct sigaction *action, struct sigaction *ret_before);

/*
 * Blocks the calling thread's signals, including those that the C library keeps for itself. Does
 * not block the signals that an instruction raises: the kernel kills a process that has such a
 * signal blocked, and seccomp(2) filters and debuggers depend on them. A mask has a bit for each
 * signal; bit 0 is signal 1.
 */
void os_block_signals(uint64_t *ret_before);
void os_set_signal_mask(uint64_t mask);

/* Sends the calling thread a signal. Works also in a child of os_fork_quietly(). */
void os_signal_self(int signal);

/* Sends the calling thread a signal that it has received, once more and with the same siginfo. */
void os_signal_self_as(const siginfo_t *info);

/* Sends another thread of this process a signal. -ESRCH: it has ended; -EAGAIN: too many signals
 * are pending. */
int os_signal_thread(pid_t thread, int signal);

/*
 * Gives the calling thread an alternate signal stack if it has none. The stack is never freed.
 * -ENOMEM.
 */
int os_ensure_signal_stack(void);

/* True if the calling thread runs on its alternate signal stack. */
bool os_on_signal_stack(void);

/* ---- child processes ---- */

/*
 * Like fork(2), but runs no fork handlers and sends no SIGCHLD (except under QEMU's user
 * emulation). The child may make only async-signal-safe calls, because other threads may hold locks
 * of the C library. -EAGAIN, -ENOMEM.
 */
int os_fork_quietly(pid_t *ret_child);

/* Waits until such a child has ended. */
void os_reap(pid_t child);

/* ---- messages: one line on stderr, "libpkeyguard: " and the text; async-signal-safe ---- */

void os_print(const char *string);

/* The text is these pieces together, at most 10; NULL ends them. Then calls abort(). */
__attribute__((noreturn, sentinel)) void os_abort(const char *piece, ...);

#endif
