/* SPDX-License-Identifier: MIT */
#include "base/os.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Newer than Debian 12's headers; the numbers are those of every architecture. */
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif
/* From the kernel's own headers, which not every libc comes with. */
#ifndef FUTEX_WAIT_PRIVATE
#define FUTEX_WAIT_PRIVATE 128
#define FUTEX_WAKE_PRIVATE 129
#endif
#ifndef MEMBARRIER_CMD_PRIVATE_EXPEDITED
#define MEMBARRIER_CMD_PRIVATE_EXPEDITED          (1 << 3)
#define MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED (1 << 4)
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static int memory_error(void)
{
    return errno == EACCES ? -EACCES : -ENOMEM;
}

size_t os_page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static int map(size_t length, int prot, int flags, int file, void **ret_address)
{
    void *address = mmap(NULL, length, prot, flags, file, 0);

    if (address == MAP_FAILED)
        return -ENOMEM;
    *ret_address = address;
    return 0;
}

int os_reserve(size_t length, void **ret_address)
{
    return map(length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, ret_address);
}

int os_reserve_secret(void *address, size_t length)
{
    int file = (int)syscall(SYS_memfd_secret, O_CLOEXEC);
    int error = 0;

    if (file < 0)
        return errno == ENOSYS || errno == EPERM ? -ENOTSUP : -ENOMEM;
    if (ftruncate(file, (off_t)length) != 0 ||
        mmap(address, length, PROT_NONE, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED)
        error = -ENOMEM;
    /* Raw, for close(3) is a cancellation point. */
    syscall(SYS_close, file);
    return error;
}

int os_reserve_uncommitted(size_t length, void **ret_address)
{
    return map(length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, ret_address);
}

int os_allocate_pages(size_t length, void **ret_address)
{
    return map(length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, ret_address);
}

int os_allocate_shared_pages(size_t length, void **ret_address)
{
    return map(length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, ret_address);
}

int os_grow_pages(size_t length, size_t grown, void **address)
{
    void *moved = mremap(*address, length, grown, MREMAP_MAYMOVE);

    if (moved == MAP_FAILED)
        return -ENOMEM;
    *address = moved;
    return 0;
}

int os_unmap(void *address, size_t length)
{
    return munmap(address, length) == 0 ? 0 : -ENOMEM;
}

void os_free_pages(void *address, size_t length)
{
    munmap(address, length);
}

int os_protect(void *address, size_t length, int prot)
{
    return mprotect(address, length, prot) == 0 ? 0 : memory_error();
}

/* Raw system call: musl has no wrapper. */
int os_protect_with_pkey(void *address, size_t length, int prot, int pkey)
{
    return syscall(SYS_pkey_mprotect, address, length, prot, pkey) == 0 ? 0 : memory_error();
}

int os_exclude_from_dumps(void *address, size_t length)
{
    return madvise(address, length, MADV_DONTDUMP) == 0 ? 0 : -ENOMEM;
}

int os_wipe_on_fork(void *address, size_t length)
{
    return madvise(address, length, MADV_WIPEONFORK) == 0 ? 0 : -ENOMEM;
}

int os_unmap_on_fork(void *address, size_t length)
{
    return madvise(address, length, MADV_DONTFORK) == 0 ? 0 : -ENOMEM;
}

int os_lock(void *address, size_t length)
{
    if (mlock(address, length) == 0)
        return 0;
    return errno == EPERM ? -EPERM : -ENOMEM;
}

int os_touch(void *address, size_t length)
{
    size_t page = os_page_size();

    for (char *start = address; start < (char *)address + length; start += page) {
        /* Any call that does nothing but write to memory: the kernel's own faults are errors. */
        if (syscall(SYS_getcpu, start, NULL, NULL) != 0)
            return -ENOMEM;
        memset(start, 0, sizeof(unsigned));
    }
    return 0;
}

int os_seal(void *address, size_t length)
{
    if (syscall(SYS_mseal, address, length, 0UL) == 0)
        return 0;
    return errno == ENOMEM ? -ENOMEM : -ENOTSUP;
}

bool os_has_guards(void)
{
    /* No pages: it only asks whether the kernel knows the advice, says madvise(2). */
    return madvise(NULL, 0, MADV_GUARD_INSTALL) == 0;
}

int os_install_guard(void *address, size_t length)
{
    if (madvise(address, length, MADV_GUARD_INSTALL) == 0)
        return 0;
    return errno == EINVAL ? -ENOTSUP : -ENOMEM;
}

void os_name(void *address, size_t length, const char *name)
{
    prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, address, length, name);
}

int os_pkey_alloc(void)
{
    long pkey;

    /* A program that freed pkey 0, which every ordinary page has, is given it again. */
    do {
        pkey = syscall(SYS_pkey_alloc, 0UL, 0UL);
    } while (pkey == 0);
    return pkey < 0 ? -errno : (int)pkey;
}

void os_pkey_free(int pkey)
{
    syscall(SYS_pkey_free, pkey);
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

bool os_peek(const void *address, void *buffer, size_t length)
{
    struct iovec to = {.iov_base = buffer, .iov_len = length};
    struct iovec from = {.iov_base = (void *)(uintptr_t)address, .iov_len = length};

    /* By the thread's id, for the process's own is that of a thread which may have ended. */
    return process_vm_readv(os_thread_id(), &to, 1, &from, 1, 0) == (ssize_t)length;
}

const void *os_main_stack_end(void)
{
    /* The kernel puts these bytes above the first frame (getauxval(3)). */
    return (const void *)(uintptr_t)getauxval(AT_RANDOM);
}

uint64_t os_milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void os_sleep_briefly(void)
{
    const struct timespec briefly = {.tv_nsec = 50000};
    int cancelable;

    /* nanosleep(3) is a cancellation point. */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancelable);
    nanosleep(&briefly, NULL);
    pthread_setcancelstate(cancelable, NULL);
}

pid_t os_thread_id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

void os_signal_self(int signal)
{
    /* Not raise(3): its thread id may be a remembered one. */
    syscall(SYS_tgkill, syscall(SYS_getpid), os_thread_id(), signal);
}

int os_signal_thread(pid_t thread, int signal)
{
    if (syscall(SYS_tgkill, syscall(SYS_getpid), thread, signal) == 0)
        return 0;
    return errno == ESRCH ? -ESRCH : -EAGAIN;
}

/* Raw, for the C library keeps some out of its own; these are the kernel's 64. */
enum { SIGNAL_SET = 8 };

void os_block_signals(sigset_t *ret_before)
{
    sigset_t all;

    memset(&all, 0xff, sizeof(all));
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, ret_before, SIGNAL_SET);
}

void os_unblock_signals(const sigset_t *before)
{
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, before, NULL, SIGNAL_SET);
}

void os_signal_self_as(const siginfo_t *info)
{
    syscall(SYS_rt_tgsigqueueinfo, syscall(SYS_getpid), os_thread_id(), info->si_signo, info);
}

void os_handle_signal(int signal, const struct sigaction *action, struct sigaction *ret_before)
{
    sigaction(signal, action, ret_before);
}

int os_ensure_signal_stack(void)
{
    /* The kernel's part depends on the CPU's registers; the rest is for handlers. */
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

int os_fork_quietly(pid_t *ret_child)
{
    /* clone(2) with no flags and no exit signal: every argument 0, so their order does not matter.
     */
    long child = syscall(SYS_clone, 0UL, 0UL, 0UL, 0UL, 0UL);

    if (child < 0)
        return errno == EAGAIN ? -EAGAIN : -ENOMEM;
    *ret_child = (pid_t)child;
    return 0;
}

void os_reap(pid_t child)
{
    /* Raw, for waitpid(3) is a cancellation point. */
    while (syscall(SYS_wait4, child, NULL, __WALL, NULL) < 0 && errno == EINTR)
        ;
}

static struct iovec text(const char *string)
{
    return (struct iovec){.iov_base = (void *)string, .iov_len = strlen(string)};
}

void os_print(const char *string)
{
    struct iovec line[] = {text("libpkeyguard: "), text(string), text("\n")};

    syscall(SYS_writev, STDERR_FILENO, line, 3);
}

void os_abort(const char *piece, ...)
{
    struct iovec line[12] = {text("libpkeyguard: ")};
    int count = 1;
    va_list pieces;

    va_start(pieces, piece);
    for (; piece != NULL && count < 11; piece = va_arg(pieces, const char *))
        line[count++] = text(piece);
    va_end(pieces);
    line[count++] = text("\n");
    /* Raw, for writev(3) is a cancellation point. Aborts whether or not the line could be written.
     */
    syscall(SYS_writev, STDERR_FILENO, line, count);
    abort();
}
