/* SPDX-License-Identifier: MIT */
/*
 * failing.h - makes one of the library's calls to the system fail, or runs something in its stead
 *
 * The linker sends these calls through here (--wrap).
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
    CALL_FOPEN,
    CALL_PKEY_ALLOC,
    CALL_PKEY_MPROTECT,
    CALL_MEMFD_SECRET,
    CALL_MSEAL,
    CALL_GETCPU,
    CALL_CLONE,
    CALL_MEMBARRIER,
    CALL_OPENAT,
    LOOK_AT_PINS,
    CALL_GETDENTS64,
    CALLS
};

/*
 * The call after `skip` more of its kind returns this error, and the `times - 1` next ones too.
 * With error 0 a pkey call does nothing and says that it succeeded.
 */
void fail_call(enum call call, int skip, int error, int times);

/* The same for the next madvise with this advice. */
void fail_advice(int advice, int error);

/*
 * From now on this call, one made through syscall(2), does nothing and says that it succeeded,
 * unless it is to fail; with CALL_PKEY_ALLOC the CPU is said to have PKU, with one pkey that
 * protects nothing.
 */
void pretend_call(enum call call);

/* Ends failing; whether any call failed. */
bool stop_failing(void);

/*
 * Before the next call of this kind, once; after it with LOOK_AT_PINS, the library's own look at
 * whether a thread pins a pkey, which is no call to the system.
 */
void before_call(enum call call, void (*run)(void *address, unsigned long length));

/* From now on the library waits until it is woken, for however long. */
void wait_without_limit(void);

#endif
