/* SPDX-License-Identifier: MIT */
#include "failing.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>

/* FUTEX_WAIT_PRIVATE of <linux/futex.h>, a kernel header, which musl-gcc does not find. */
enum { NUMBER_OF_FUTEX_WAIT = 128 };

/* System calls that Debian 12's headers do not know yet. */
enum { NUMBER_OF_MEMFD_SECRET = 447, NUMBER_OF_MSEAL = 462 };

static enum call failing_call;
static int to_skip, failing_error, times_left;
static bool failed;
static int failing_advice = -1;
static bool pretended[CALLS];
static int refused[CALLS]; /* the errors; 0: not refused */

static enum call hooked_call;
static void (*hook)(void *address, unsigned long length);
static bool without_limit;

static bool clock_is_set;
static atomic_uint clock_step;
static _Atomic uint64_t clock_time;

static enum call followed_call;
static int calls_to_skip;
static void (*hook_after)(void *address, unsigned long length);

void fail_call(enum call call, int skip, int error, int times)
{
    failing_call = call;
    to_skip = skip;
    failing_error = error;
    times_left = times;
    failed = false;
    failing_advice = -1;
}

void fail_advice(int advice, int error)
{
    fail_call(CALL_MADVISE, 0, error, 1);
    failing_advice = advice;
}

void pretend_call(enum call call)
{
    pretended[call] = true;
}

void refuse_call(enum call call, int error)
{
    refused[call] = error;
}

bool stop_failing(void)
{
    times_left = 0;
    return failed;
}

void before_call(enum call call, void (*run)(void *address, unsigned long length))
{
    hooked_call = call;
    hook = run;
}

void after_call(enum call call, int skip, void (*run)(void *address, unsigned long length))
{
    followed_call = call;
    calls_to_skip = skip;
    hook_after = run;
}

void wait_without_limit(bool without)
{
    without_limit = without;
}

void set_clock(unsigned step)
{
    clock_step = step;
    clock_is_set = true;
}

static void run_hook(enum call call, void *address, unsigned long length)
{
    void (*run)(void *, unsigned long) = hook;

    if (run == NULL || call != hooked_call)
        return;
    hook = NULL;
    run(address, length);
}

static long passed(enum call call, void *address, unsigned long length, long result)
{
    void (*run)(void *, unsigned long) = hook_after;

    if (run == NULL || call != followed_call || result != 0 || calls_to_skip-- > 0)
        return result;
    hook_after = NULL;
    run(address, length);
    return result;
}

static bool fails(enum call call, void *address, unsigned long length)
{
    run_hook(call, address, length);
    if (times_left == 0 || (failing_call != ANY_CALL && failing_call != call))
        return false;
    if (to_skip > 0) {
        to_skip--;
        return false;
    }
    times_left--;
    failed = true;
    errno = failing_error;
    return true;
}

void *__real_calloc(size_t count, size_t size);
void *__real_mmap(void *address, size_t length, int prot, int flags, int file, off_t offset);
void *__real_mremap(void *address, size_t length, size_t grown, int flags);
int __real_munmap(void *address, size_t length);
int __real_mprotect(void *address, size_t length, int prot);
int __real_madvise(void *address, size_t length, int advice);
int __real_mlock(const void *address, size_t length);
int __real_ftruncate(int file, off_t length);
bool __real_pkeyguard_pkru_supported(void);
uint32_t __real_thread_records_unpinned(uint32_t pkeys);
uint64_t __real_os_milliseconds(void);
long __real_syscall(long number, ...);

void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size)
{
    return fails(CALL_CALLOC, NULL, size) ? NULL : __real_calloc(count, size);
}

void *__wrap_mmap(void *address, size_t length, int prot, int flags, int file, off_t offset);
void *__wrap_mmap(void *address, size_t length, int prot, int flags, int file, off_t offset)
{
    return fails(CALL_MMAP, address, length)
               ? MAP_FAILED
               : __real_mmap(address, length, prot, flags, file, offset);
}

void *__wrap_mremap(void *address, size_t length, size_t grown, int flags);
void *__wrap_mremap(void *address, size_t length, size_t grown, int flags)
{
    return fails(CALL_MREMAP, address, length) ? MAP_FAILED
                                               : __real_mremap(address, length, grown, flags);
}

int __wrap_munmap(void *address, size_t length);
int __wrap_munmap(void *address, size_t length)
{
    return fails(CALL_MUNMAP, address, length) ? -1 : __real_munmap(address, length);
}

int __wrap_mprotect(void *address, size_t length, int prot);
int __wrap_mprotect(void *address, size_t length, int prot)
{
    if (fails(CALL_MPROTECT, address, length))
        return -1;
    return (int)passed(CALL_MPROTECT, address, length, __real_mprotect(address, length, prot));
}

int __wrap_madvise(void *address, size_t length, int advice);
int __wrap_madvise(void *address, size_t length, int advice)
{
    if ((failing_advice < 0 || failing_advice == advice) && fails(CALL_MADVISE, address, length))
        return -1;
    return __real_madvise(address, length, advice);
}

int __wrap_mlock(const void *address, size_t length);
int __wrap_mlock(const void *address, size_t length)
{
    return fails(CALL_MLOCK, (void *)address, length) ? -1 : __real_mlock(address, length);
}

int __wrap_ftruncate(int file, off_t length);
int __wrap_ftruncate(int file, off_t length)
{
    return fails(CALL_FTRUNCATE, NULL, (unsigned long)length) ? -1 : __real_ftruncate(file, length);
}

bool __wrap_pkeyguard_pkru_supported(void);
bool __wrap_pkeyguard_pkru_supported(void)
{
    return pretended[CALL_PKEY_ALLOC] || __real_pkeyguard_pkru_supported();
}

uint32_t __wrap_thread_records_unpinned(uint32_t pkeys);
uint32_t __wrap_thread_records_unpinned(uint32_t pkeys)
{
    uint32_t unpinned = __real_thread_records_unpinned(pkeys);

    run_hook(LOOK_AT_PINS, NULL, 0);
    return unpinned;
}

uint64_t __wrap_os_milliseconds(void);
uint64_t __wrap_os_milliseconds(void)
{
    return clock_is_set ? atomic_fetch_add(&clock_time, clock_step) : __real_os_milliseconds();
}

static enum call call_of(long number, long second_argument)
{
    switch (number) {
    case SYS_futex:
        return second_argument == NUMBER_OF_FUTEX_WAIT ? CALL_FUTEX_WAIT : ANY_CALL;
    case SYS_pkey_alloc:
        return CALL_PKEY_ALLOC;
    case SYS_pkey_mprotect:
        return CALL_PKEY_MPROTECT;
    case SYS_clone:
        return CALL_CLONE;
    case SYS_membarrier:
        return CALL_MEMBARRIER;
    case SYS_openat:
        return CALL_OPENAT;
    case SYS_ioctl:
        return CALL_IOCTL;
    case SYS_getdents64:
        return CALL_GETDENTS64;
    case SYS_tgkill:
        return CALL_TGKILL;
    case SYS_getcpu:
        return CALL_GETCPU;
    case NUMBER_OF_MEMFD_SECRET:
        return CALL_MEMFD_SECRET;
    case NUMBER_OF_MSEAL:
        return CALL_MSEAL;
    default:
        return ANY_CALL;
    }
}

/* The pkey of the CPU that pretend_call(CALL_PKEY_ALLOC) stands for. */
static long the_one_pkey(void)
{
    static bool taken;

    if (taken) {
        errno = ENOSPC;
        return -1;
    }
    taken = true;
    return 1;
}

/*
 * System calls that not every libc has a function for. It reads six arguments of each; where there
 * are fewer, AddressSanitizer would report the last one, which is read from the stack.
 */
long __wrap_syscall(long number, ...);
__attribute__((no_sanitize_address)) long __wrap_syscall(long number, ...)
{
    enum call call;
    long a[6];
    va_list arguments;

    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    call = call_of(number, a[1]);
    if (call == CALL_FUTEX_WAIT && without_limit)
        a[3] = 0;
    if (call != ANY_CALL && fails(call, (void *)a[0], (unsigned long)a[1]))
        return failing_error == 0 ? 0 : -1;
    if (refused[call] != 0) {
        errno = refused[call];
        return -1;
    }
    if (pretended[CALL_PKEY_ALLOC] && call == CALL_PKEY_ALLOC)
        return the_one_pkey();
    if (pretended[CALL_PKEY_ALLOC] && call == CALL_PKEY_MPROTECT)
        return __real_mprotect((void *)a[0], (size_t)a[1], (int)a[2]);
    if (pretended[call])
        return 0;
    return passed(call, (void *)a[0], (unsigned long)a[1],
                  __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]));
}
