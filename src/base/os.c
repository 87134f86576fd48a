/* SPDX-License-Identifier: MIT */
#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Debian 12's headers do not have these. The numbers are the same on every architecture. */
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif
/* As in Linux 6.11's linux/fs.h. */
struct procmap_query {
    uint64_t size, flags, address; /* of this struct in bytes; what to look for */
    uint64_t start, end, rights, page_size, offset, inode;
    uint32_t device_major, device_minor, name_size, build_id_size;
    uint64_t name, build_id;
};
#define PROCMAP_QUERY _IOWR('f', 17, struct procmap_query)
enum { PROCMAP_READABLE = 1, PROCMAP_WRITABLE = 2, PROCMAP_EXECUTABLE = 4 };

/* The kernel's own headers define these; a system with musl may lack the headers. */
#ifndef FUTEX_WAIT_PRIVATE
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129
#endif
#ifndef MEMBARRIER_CMD_PRIVATE_EXPEDITED
#define MEMBARRIER_CMD_PRIVATE_EXPEDITED          (1 << 3)
#define MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED (1 << 4)
#endif
#ifndef PR_GET_MDWE
#define PR_GET_MDWE 66
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

/* ---- mappings ---- */

size_t os_page_size(void)
{
    static atomic_size_t known; /* sysconf(3) takes some 50 instructions */
    size_t size = atomic_load_explicit(&known, memory_order_relaxed);

    if (size == 0) {
        size = (size_t)sysconf(_SC_PAGESIZE);
        atomic_store_explicit(&known, size, memory_order_relaxed);
    }
    return size;
}

static int map_anonymous(size_t length, int prot, int flags, void **ret_address)
{
    void *address = mmap(NULL, length, prot, flags | MAP_ANONYMOUS, -1, 0);

    if (address == MAP_FAILED)
        return -ENOMEM;
    *ret_address = address;
    return 0;
}

int os_reserve(size_t length, void **ret_address)
{
    return map_anonymous(length, PROT_NONE, MAP_PRIVATE, ret_address);
}

int os_reserve_uncommitted(size_t length, void **ret_address)
{
    return map_anonymous(length, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE, ret_address);
}

/* Beyond the limit ftruncate(2) raises SIGXFSZ, which can kill the process. */
static bool exceeds_file_size_limit(size_t length)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < length;
}

int os_reserve_secret(void *address, size_t length)
{
    int file = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
    int error = 0;

    if (file < 0)
        return errno == ENOSYS || errno == EPERM ? -ENOTSUP : -ENOMEM;
    if (exceeds_file_size_limit(length)) {
        os_close_file(file);
        return -ENOMEM;
    }
    if (ftruncate(file, (off_t)length) != 0 ||
        mmap(address, length, PROT_NONE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED)
        error = -ENOMEM;
    os_close_file(file);
    return error;
}

int os_unmap(void *address, size_t length)
{
    return munmap(address, length) == 0 ? 0 : -ENOMEM;
}

int os_allocate_pages(size_t length, void **ret_address)
{
    return map_anonymous(length, PROT_READ | PROT_WRITE, MAP_PRIVATE, ret_address);
}

int os_allocate_shared_pages(size_t length, void **ret_address)
{
    return map_anonymous(length, PROT_READ | PROT_WRITE, MAP_SHARED, ret_address);
}

int os_grow_pages(size_t length, size_t grown, void **address)
{
    void *moved = mremap(*address, length, grown, MREMAP_MAYMOVE);

    if (moved == MAP_FAILED)
        return -ENOMEM;
    *address = moved;
    return 0;
}

/* EAGAIN: the process locks all new memory, and may lock no more. */
static int mapping_error(void)
{
    return errno == ENOMEM || errno == EAGAIN ? -ENOMEM : -EACCES;
}

int os_map_shared_at(void *address, size_t length)
{
    void *pages = mmap(address, length, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

    return pages == MAP_FAILED ? mapping_error() : 0;
}

int os_map_again(void *pages, size_t length, void *address, void **ret_address)
{
    int fixed = address != NULL ? MREMAP_FIXED : 0;
    void *again = mremap(pages, 0, length, MREMAP_MAYMOVE | fixed, address);

    if (again == MAP_FAILED)
        return mapping_error();
    *ret_address = again;
    return 0;
}

int os_move_pages(void *pages, size_t length, void *address)
{
    void *moved = mremap(pages, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, address);

    return moved == MAP_FAILED ? mapping_error() : 0;
}

bool os_is_mapped(const void *address, size_t length)
{
    /*
     * MS_ASYNC writes nothing: the memory is anonymous, or the kernel writes it back later in any
     * case.
     */
    return msync((void *)(uintptr_t)address, length, MS_ASYNC) == 0 || errno != ENOMEM;
}

int os_query_mapping(int maps, uintptr_t address, struct os_mapping *ret_mapping)
{
    struct procmap_query query = {.size = sizeof(query), .address = address};

    if (syscall(SYS_ioctl, maps, PROCMAP_QUERY, &query) != 0)
        return errno == ENOENT ? -ENOMEM : -ENOTSUP;
    *ret_mapping = (struct os_mapping){
        .end = (uintptr_t)query.end,
        .prot = (query.rights & PROCMAP_READABLE ? PROT_READ : 0) |
                (query.rights & PROCMAP_WRITABLE ? PROT_WRITE : 0) |
                (query.rights & PROCMAP_EXECUTABLE ? PROT_EXEC : 0),
        .page_size = (size_t)query.page_size,
    };
    return 0;
}

void os_free_pages(void *address, size_t length)
{
    munmap(address, length);
}

void os_name(void *address, size_t length, const char *name)
{
    prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, address, length, name);
}

/*
 * True if the kernel can read this word for the calling thread. It copies the new signal mask
 * before it looks at the first argument, which is not valid.
 */
static bool is_readable(uintptr_t word)
{
    return syscall(SYS_rt_sigprocmask, -1, word, NULL, sizeof(uint64_t)) != 0 && errno == EINVAL;
}

/* For a sandbox that refuses to read memory. Other threads do not unmap it meanwhile. */
static bool peek_directly(const void *address, void *buffer, size_t length)
{
    enum { NOT_MAPPED = sizeof(uint64_t) };
    uintptr_t start = (uintptr_t)address, page = os_page_size();

    if (is_readable(NOT_MAPPED)) /* this kernel looks at the first argument first */
        return false;
    for (uintptr_t at = start & -page; at < start + length; at += page) {
        if (!is_readable(at))
            return false;
    }
    memcpy(buffer, address, length);
    return true;
}

bool os_peek(const void *address, void *buffer, size_t length)
{
    struct iovec to = {.iov_base = buffer, .iov_len = length};
    struct iovec from = {.iov_base = (void *)(uintptr_t)address, .iov_len = length};
    /* The thread id, because the process id belongs to the first thread, which may have ended. */
    ssize_t count = process_vm_readv(os_thread_id(), &to, 1, &from, 1, 0);

    return count == (ssize_t)length ||
           (count < 0 && errno != EFAULT && peek_directly(address, buffer, length));
}

/* ---- page rights and pkeys ---- */

/* A sandbox's filter may return any error. The call has then changed nothing. */
static int protect_error(void)
{
    return errno == ENOMEM ? -ENOMEM : -EACCES;
}

int os_protect(void *address, size_t length, int prot)
{
    return mprotect(address, length, prot) == 0 ? 0 : protect_error();
}

/* The pkey functions make raw system calls: musl has no wrappers for them. */
int os_protect_with_pkey(void *address, size_t length, int prot, int pkey)
{
    return syscall(SYS_pkey_mprotect, address, length, prot, pkey) == 0 ? 0 : protect_error();
}

int os_pkey_alloc(void)
{
    long pkey;

    /*
     * The kernel returns pkey 0 only if the program has freed it. All ordinary pages have pkey 0,
     * so no key may get it.
     */
    do {
        pkey = syscall(SYS_pkey_alloc, 0UL, 0UL);
    } while (pkey == 0);
    return pkey < 0 ? -errno : (int)pkey;
}

void os_pkey_free(int pkey)
{
    syscall(SYS_pkey_free, pkey);
}

/* ---- memory in core dumps, in fork children, in swap; changes of a mapping ---- */

/* EPERM, EACCES and ENOSYS are answers of a sandbox's filter: the kernel has others. */
static int advice_error(void)
{
    return errno == EPERM || errno == EACCES || errno == ENOSYS ? -EACCES : -ENOMEM;
}

int os_exclude_from_dumps(void *address, size_t length)
{
    return madvise(address, length, MADV_DONTDUMP) == 0 ? 0 : advice_error();
}

int os_never_merge(void *address, size_t length)
{
    /* EINVAL: the kernel has no KSM. */
    return madvise(address, length, MADV_UNMERGEABLE) == 0 || errno == EINVAL ? 0 : -ENOMEM;
}

void os_commit_on_use(void *address, size_t length)
{
    /* Nothing is there to be dropped: the kernel only says whether the mapping is locked. */
    if (madvise(address, length, MADV_DONTNEED) != 0 && errno == EINVAL)
        syscall(SYS_mlock2, address, length, MLOCK_ONFAULT);
}

void os_keep_apart(void *address, size_t length)
{
    (void)madvise(address, length, MADV_RANDOM);
}

int os_wipe_on_fork(void *address, size_t length)
{
    return madvise(address, length, MADV_WIPEONFORK) == 0 ? 0 : advice_error();
}

int os_unmap_on_fork(void *address, size_t length)
{
    return madvise(address, length, MADV_DONTFORK) == 0 ? 0 : advice_error();
}

int os_lock(void *address, size_t length)
{
    if (mlock(address, length) == 0)
        return 0;
    return errno == EPERM ? -EPERM : -ENOMEM;
}

int os_populate_to_read(void *address, size_t length)
{
    return madvise(address, length, MADV_POPULATE_READ) == 0 ? 0 : -EACCES;
}

int os_touch(void *address, size_t length)
{
    size_t page = os_page_size();

    for (char *start = address; start < (char *)address + length; start += page) {
        /*
         * getcpu(2) only writes to memory. If the kernel cannot write there it returns an error and
         * raises no signal.
         */
        if (syscall(SYS_getcpu, start, NULL, NULL) != 0)
            return -ENOMEM;
        memset(start, 0, sizeof(unsigned));
    }
    return 0;
}

int os_prefer_huge_pages(void *address, size_t length)
{
    if (madvise(address, length, MADV_HUGEPAGE) == 0)
        return 0;
    return errno == EINVAL ? -ENOTSUP : advice_error();
}

/* The kernel's words for pages: one of 64 bits for each (proc(5), /proc/PID/pagemap). */
enum { PAGEMAP_WORDS = 256, FEW_PAGES = 16 };
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)

static void wipe_populated_pages(char *start, size_t pages, const uint64_t *words)
{
    size_t page = os_page_size();

    for (size_t i = 0; i < pages; i++) {
        if (words[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED))
            explicit_bzero(start + i * page, page);
    }
}

void os_wipe(void *address, size_t length)
{
    size_t page = os_page_size(), pages = length / page, done = 0;
    uint64_t words[PAGEMAP_WORDS];
    int file = -1;

    if (pages > FEW_PAGES)
        file = os_open_file_at(AT_FDCWD, "/proc/self/pagemap", 0);
    while (file >= 0 && done < pages) {
        size_t count = pages - done < PAGEMAP_WORDS ? pages - done : PAGEMAP_WORDS;
        off_t place = (off_t)(((uintptr_t)address / page + done) * sizeof(*words));

        if (syscall(SYS_pread64, file, words, count * sizeof(*words), place) !=
            (long)(count * sizeof(*words)))
            break;
        wipe_populated_pages((char *)address + done * page, count, words);
        done += count;
    }
    os_close_file(file);
    /* The rest: the part of the last page, and every page of which the kernel says nothing. */
    explicit_bzero((char *)address + done * page, length - done * page);
}

int os_seal(void *address, size_t length)
{
    if (syscall(SYS_mseal, address, length, 0UL) == 0)
        return 0;
    return errno == ENOMEM ? -ENOMEM : -ENOTSUP;
}

bool os_forbids_new_code(void)
{
    return prctl(PR_GET_MDWE, 0UL, 0UL, 0UL, 0UL) > 0;
}

int os_install_guard(void *address, size_t length)
{
    if (madvise(address, length, MADV_GUARD_INSTALL) == 0)
        return 0;
    return errno == EINVAL ? -ENOTSUP : -ENOMEM;
}

bool os_has_guards(void)
{
    /* With length 0 madvise(2) only checks whether the kernel knows the advice. */
    return madvise(NULL, 0, MADV_GUARD_INSTALL) == 0;
}

/* ---- threads ---- */

pid_t os_process_id(void)
{
    return (pid_t)syscall(SYS_getpid);
}

pid_t os_thread_id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

void os_thread_name(char ret_name[OS_THREAD_NAME_SIZE])
{
    prctl(PR_GET_NAME, ret_name);
}

bool os_changes_robust_list(void)
{
    /* The kernel's struct robust_list_head (linux/futex.h). */
    struct {
        void *first;
        long offset;
        void *pending;
    } * head;
    size_t length;

    return syscall(SYS_get_robust_list, 0, &head, &length) != 0 || head == NULL ||
           head->pending != NULL;
}

bool os_is_only_thread(void)
{
    /*
     * With this flag unshare(2) changes nothing here. It succeeds only if no other thread runs in
     * this memory: none of this process, and no parent after vfork(2).
     */
    return syscall(SYS_unshare, CLONE_VM) == 0;
}

const char *os_robust_list(pid_t thread)
{
    size_t length;
    void *list;

    return syscall(SYS_get_robust_list, thread, &list, &length) == 0 ? list : NULL;
}

const void *os_main_stack_end(void)
{
    /* The 16 random bytes that the kernel puts above the first frame (getauxval(3)). */
    return (const void *)(uintptr_t)getauxval(AT_RANDOM);
}

int os_barrier_prepare(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0 ? 0
                                                                                         : -ENOTSUP;
}

int os_barrier(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0 ? 0 : -ENOMEM;
}

void os_wait(const atomic_uint *word, unsigned value, unsigned milliseconds)
{
    struct timespec limit = {.tv_sec = milliseconds / 1000,
                             .tv_nsec = milliseconds % 1000 * 1000000L};

    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, &limit, NULL, 0);
}

void os_wake(const atomic_uint *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

void os_sleep_briefly(void)
{
    const struct timespec briefly = {.tv_nsec = 50000};
    int cancelable;

    /* nanosleep(2) is a cancellation point. */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    nanosleep(&briefly, NULL);
    pthread_setcancelstate(cancelable, NULL);
}

uint64_t os_milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* ---- files and directories ---- */

/* Raw system calls: open(3), read(3) and close(3) are cancellation points. */

int os_open_file_at(int directory, const char *path, int flags)
{
    return (int)syscall(SYS_openat, directory, path, O_RDONLY | O_CLOEXEC | flags, 0);
}

void os_close_file(int file)
{
    if (file >= 0)
        syscall(SYS_close, file);
}

ssize_t os_read_file(int file, void *buffer, size_t size)
{
    return syscall(SYS_read, file, buffer, size);
}

bool os_stat_file(int file, struct stat *ret_status)
{
    /*
     * Raw system call: glibc's fstat(3) calls newfstatat with an empty path, which takes eight
     * times longer.
     */
    return syscall(SYS_fstat, file, ret_status) == 0;
}

ssize_t os_read_directory(int directory, void *entries, size_t size)
{
    /* Raw system call: readdir(3) needs memory from malloc. */
    return syscall(SYS_getdents64, directory, entries, size);
}

void os_rewind_directory(int directory)
{
    lseek(directory, 0, SEEK_SET);
}

/* ---- signals ---- */

void os_handle_signal(int signal, const struct sigaction *action, struct sigaction *ret_before)
{
    sigaction(signal, action, ret_before);
}

/*
 * Raw system calls: the C library's functions leave its own signals out of every set. The kernel's
 * set is 64 bits.
 */
enum { KERNEL_SIGSET_SIZE = sizeof(uint64_t) };
#define SIGNAL_BIT(signal) (UINT64_C(1) << ((signal)-1))

void os_block_signals(uint64_t *ret_before)
{
    static const uint64_t of_instructions = SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGTRAP) |
                                            SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGFPE) |
                                            SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGSYS);
    const uint64_t others = ~of_instructions;

    syscall(SYS_rt_sigprocmask, SIG_BLOCK, &others, ret_before, KERNEL_SIGSET_SIZE);
}

void os_set_signal_mask(uint64_t mask)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, KERNEL_SIGSET_SIZE);
}

void os_signal_self(int signal)
{
    /* Not raise(3): in such a child the C library may still have the parent's thread id. */
    syscall(SYS_tgkill, syscall(SYS_getpid), os_thread_id(), signal);
}

void os_signal_self_as(const siginfo_t *info)
{
    syscall(SYS_rt_tgsigqueueinfo, syscall(SYS_getpid), os_thread_id(), info->si_signo, info);
}

int os_signal_thread(pid_t thread, int signal)
{
    if (syscall(SYS_tgkill, syscall(SYS_getpid), thread, signal) == 0)
        return 0;
    return errno == ESRCH ? -ESRCH : -EAGAIN;
}

int os_ensure_signal_stack(void)
{
    /* The kernel's frame, whose size depends on the CPU's registers, and 64 KiB for handlers. */
    size_t size = getauxval(AT_MINSIGSTKSZ) + (64 << 10);
    stack_t stack;
    int error;

    sigaltstack(NULL, &stack);
    if (!(stack.ss_flags & SS_DISABLE))
        return 0;
    error = os_allocate_pages(size, &stack.ss_sp);
    if (error != 0)
        return error;
    stack.ss_size = size;
    stack.ss_flags = 0;
    if (sigaltstack(&stack, NULL) != 0) {
        os_free_pages(stack.ss_sp, size);
        return -ENOMEM;
    }
    return 0;
}

bool os_on_signal_stack(void)
{
    stack_t stack;

    sigaltstack(NULL, &stack);
    return stack.ss_flags & SS_ONSTACK;
}

/* ---- child processes ---- */

int os_fork_quietly(pid_t *ret_child)
{
    /*
     * No flags and no exit signal. The order of clone's arguments depends on the architecture; here
     * all are 0.
     */
    long child = syscall(SYS_clone, 0UL, 0UL, 0UL, 0UL, 0UL);

    /* QEMU's user emulation refuses clone without SIGCHLD. */
    if (child < 0 && errno == EINVAL)
        child = syscall(SYS_clone, (unsigned long)SIGCHLD, 0UL, 0UL, 0UL, 0UL);
    if (child < 0)
        return errno == EAGAIN ? -EAGAIN : -ENOMEM;
    *ret_child = (pid_t)child;
    return 0;
}

void os_reap(pid_t child)
{
    /* Raw system call: waitpid(3) is a cancellation point. */
    while (syscall(SYS_wait4, child, NULL, __WALL, NULL) < 0 && errno == EINTR)
        ;
}

/* ---- messages ---- */

static struct iovec iovec_of(const char *string)
{
    return (struct iovec){.iov_base = (void *)string, .iov_len = strlen(string)};
}

static void print_line(const struct iovec *pieces, int count)
{
    /* Raw system calls: writev(3) and write(3) are cancellation points. */
    if (syscall(SYS_writev, STDERR_FILENO, pieces, count) >= 0)
        return;
    /* A sandbox may allow write(2) and refuse writev(2). */
    for (int i = 0; i < count; i++)
        syscall(SYS_write, STDERR_FILENO, pieces[i].iov_base, pieces[i].iov_len);
}

void os_print(const char *string)
{
    struct iovec line[] = {iovec_of("libpkeyguard: "), iovec_of(string), iovec_of("\n")};

    print_line(line, 3);
}

void os_abort(const char *piece, ...)
{
    struct iovec line[12] = {iovec_of("libpkeyguard: ")};
    int count = 1;
    va_list pieces;

    va_start(pieces, piece);
    for (; piece != NULL && count < 11; piece = va_arg(pieces, const char *))
        line[count++] = iovec_of(piece);
    va_end(pieces);
    line[count++] = iovec_of("\n");
    print_line(line, count);
    abort();
}
