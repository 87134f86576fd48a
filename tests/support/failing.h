/* SPDX-License-Identifier: MIT */
/*
 * failing.h - makes a system call of the library fail, or runs a function before it
 *
 * The linker option --wrap sends these calls to failing.c. It catches calls between object files
 * only.
 */
#ifndef FAILING_H
#define FAILING_H

#include <stdbool.h>

enum call {
    ANY_CALL,
    CALL_CALLOC,
    CALL_MMAP,
    CALL_MREMAP,
    CALL_MUNMAP,
    CALL_MPROTECT,
    CALL_MADVISE,
    CALL_MLOCK,
    CALL_FTRUNCATE,
    CALL_PKEY_ALLOC,
    CALL_PKEY_MPROTECT,
    CALL_MEMFD_SECRET,
    CALL_MSEAL,
    CALL_GETCPU,
    CALL_CLONE,
    CALL_MEMBARRIER,
    CALL_OPENAT,
    CALL_IOCTL,
    LOOK_AT_PINS,
    CALL_GETDENTS64,
    CALL_FUTEX_WAIT,
    CALL_TGKILL,
    CALLS
};

/*
 * Lets the next `skip` calls of this kind pass and makes the `times` calls after them fail with
 * this error. With error 0 a pkey call does nothing and reports success instead.
 */
void fail_call(enum call call, int skip, int error, int times);

/* Makes the next madvise(2) with this advice fail with this error. */
void fail_advice(int advice, int error);

/*
 * From now on this call, one of those made through syscall(2), does nothing and reports success,
 * unless fail_call() makes it fail. With CALL_PKEY_ALLOC the library is told that the CPU has PKU,
 * and gets one pkey, which protects nothing.
 */
void pretend_call(enum call call);

/* From now on this call, one of those made through syscall(2), always fails with this error. */
void refuse_call(enum call call, int error);

/*
 * Lets every call pass again that fail_call() or fail_advice() makes fail. Returns true if one was
 * made to fail.
 */
bool stop_failing(void);

/*
 * Runs this function once, before the next call of this kind. CALL_FUTEX_WAIT are the library's
 * waits. LOOK_AT_PINS is not a system call but the library's own look which pkeys threads pin:
 * there the function runs after it.
 */
void before_call(enum call call, void (*run)(void *address, unsigned long length));

/* Whether the library's waits have no time limit: then they end only when a thread wakes them. */
void wait_without_limit(bool without);

/*
 * Runs this function once, after this call has passed `skip` times and then succeeded: MPROTECT or
 * PKEY_MPROTECT.
 */
void after_call(enum call call, int skip, void (*run)(void *address, unsigned long length));

/*
 * From now on the library's clock advances by so many milliseconds whenever the library reads it.
 * With 0 it stands still: the library never gives up.
 */
void set_clock(unsigned step);

#endif
