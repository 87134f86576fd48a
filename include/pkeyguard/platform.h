/* SPDX-License-Identifier: MIT */
/*
 * platform.h - what this machine supports, and which system calls the library makes
 *
 * Sandboxes. A seccomp(2) filter may refuse system calls. If it answers one with an error, the
 * function fails with an error that its comment names, or does without; a release aborts, if the
 * memory would stay open. If the filter kills, it must allow the calls of this list. It is for
 * x86-64, and leaves out the C library's own calls, as for memory in malloc(3).
 *
 * None, for:
 *  - guards on a dedicated key, on an unenforced key, and, in a registered thread, on a virtual key
 *    that has a pkey
 *  - pkeyguard_key_set_rights() on a dedicated key
 *  - the functions of a heap with a dedicated key, but for its creation and destruction
 *  - pkeyguard_thread_save(), _restore(), _switch() and _reset(), until the program uses a virtual
 *    key or destroys a dedicated one
 *  - pkeyguard_fault_format(), and functions that only return what they know
 *
 * Exceptions are guards with PKEYGUARD_DEBUG: gettid, getpid and sigaltstack; a LOCKED heap: mlock,
 * as it grows; and a thread that needs what another has in a heap (heap.h, "Threads"): membarrier,
 * clock_nanosleep.
 *
 * All other functions: rt_sigprocmask, and futex if they wait for another thread (before Linux 4.14
 * also getpid). With them, in each phase:
 *  - the library is loaded: mmap, madvise
 *  - keys are created: mmap; with PKU also munmap, pkey_alloc, pkey_free, pkey_mprotect; for a pkey
 *    that was used before, also the calls of virtual keys
 *  - software keys: guards, heaps, pkeyguard_key_set_rights(), and call gates and
 *    pkeyguard_try_call() with any key: mprotect; the latter, a thread's ninth open guard, and a
 *    switch between coroutines that have guards open: also mmap, mremap, munmap; after a jump out
 *    of a gate pkeyguard_thread_restore(): also gettid, process_vm_readv
 *  - virtual keys, and thread functions once there are any: pkey_mprotect, pkey_alloc, pkey_free,
 *    mmap, munmap, membarrier, gettid, process_vm_readv, unshare; and to count threads, as
 *    pkeyguard_key_set_rights_everywhere() does with PKU for any key: openat, fstat, read, lseek,
 *    getdents64, close
 *  - regions and heaps are created: mmap, munmap, madvise, mprotect, pkey_mprotect; heaps: also
 *    membarrier; LOCKED ones: mlock; SECRET ones: memfd_secret, ftruncate, getcpu, prlimit64,
 *    close; SEALED ones: mseal
 *  - pkeyguard_region_protect(), _associate(): mprotect, pkey_mprotect, and prctl for code;
 *    _name(): prctl
 *  - pkeyguard_region_check(): openat, read, close; for END_ALIGNED regions as guards; to repair,
 *    mprotect, pkey_mprotect
 *  - pkeyguard_region_adopt(): mprotect, pkey_mprotect, prctl, openat, ioctl, newfstatat, read,
 *    close; with PKU also madvise
 *  - regions and heaps are destroyed: munmap, mprotect, pkey_mprotect, openat, pread64, close; for
 *    adopted memory msync
 *  - pkeyguard_fault_decode(), which the reporter and pkeyguard_try_call() call at a fault: gettid,
 *    prctl
 *  - the reporter is installed: rt_sigaction, sigaltstack, mmap
 *  - the reporter reports a fault: writev, or write if that is refused; rt_sigaction, rt_sigreturn;
 *    for a SIGSEGV that was sent: getpid, gettid, rt_tgsigqueueinfo
 *  - pkeyguard_thread_use_signal(): getpid, rt_sigaction; when the signal is sent: the calls of
 *    virtual keys, tgkill, getpid, rt_sigaction, clock_gettime, clock_nanosleep; and in each other
 *    thread getpid, gettid, process_vm_readv, futex, rt_sigreturn
 *  - pkeyguard_protect_records(): mmap, munmap, madvise, mremap, mprotect, pkey_mprotect,
 *    pkey_alloc, pkey_free, and for a pkey that was used before the calls of virtual keys;
 *    afterwards keys, regions and heaps are created with mremap, madvise, mprotect and
 *    pkey_mprotect, too, and fork(3) makes the first six of these calls
 *  - the library aborts: writev or write, and the calls of abort(3)
 *  - pkeyguard_platform_probe(), _self_test(): clone, wait4, mmap, munmap; what their child may not
 *    call, it finds missing
 */
#ifndef PKEYGUARD_PLATFORM_H
#define PKEYGUARD_PLATFORM_H

#include <pkeyguard/key.h>
#include <pkeyguard/types.h>

#include <pkeyguard/begin.h>

/* The result of pkeyguard_platform_probe(). */
struct pkeyguard_platform {
    enum pkeyguard_enforcement enforcement; /* of a key created with no flag */
    int pku_error;               /* 0, or the -errno that rules PKU out, as listed there */
    unsigned hardware_keys_free; /* number of dedicated keys that could be created now */
    bool secret_memory;          /* memfd_secret(2) works, within RLIMIT_MEMLOCK */
    bool sealing;                /* mseal(2) works; SEALED also needs a dedicated key */
    bool guard_madvise;          /* madvise(2) accepts MADV_GUARD_INSTALL */
    uint64_t reserved[8];        /* zero */
};

/*
 * pkeyguard_platform_probe - find out what this machine supports
 * @ret_platform: filled in on success only
 *
 * The function tries everything in a short-lived child process, so it disturbs no key, signal
 * handler or memory of the caller. The child sends no SIGCHLD (except in QEMU's user emulation),
 * and the function reaps it. A pkey that is free now may be taken a moment later. pku_error is one
 * of:
 *  - 0: keys are enforced by PKU (hardware_keys_free tells whether one is free)
 *  - -ENOTSUP: the CPU has no PKU or the kernel has not enabled it (CPUID.OSPKE is clear)
 *  - -ECANCELED: PKEYGUARD_ENFORCEMENT=mprotect in the environment asks for mprotect
 *  - another error, as -ENOSYS, -EPERM or -EINVAL: the answer of the kernel, or of a sandbox's
 *    filter, to pkey_alloc(2); -EPERM also if a filter refuses pkey_mprotect(2), or kills the child
 *    for one of the two
 *
 * Returns 0, or -EAGAIN or -ENOMEM: fork fails, or there is no memory.
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull)) int
pkeyguard_platform_probe(struct pkeyguard_platform *ret_platform);

/*
 * pkeyguard_platform_self_test - check that protection keys really work on this machine
 *
 * In a short-lived child process, as pkeyguard_platform_probe() has it, the function checks:
 *  - A closed pkey stops a read and a write, and a write-disabled pkey stops a write. Each raises
 *    SIGSEGV with SEGV_PKUERR, the exact address and the pkey's number.
 *  - An open pkey lets a write pass, and a write-disabled pkey a read.
 *  - A signal handler starts with the pkey closed.
 *  - The signal frame holds the thread's PKRU, and the register is unchanged after the handler.
 *
 * It finds two kernel bugs: kernels before 5.13 (and 5.10.103) could corrupt PKRU around signals,
 * and the first 6.12 releases lost it at sigreturn on some processors.
 *
 * Returns 0, or:
 *  - -EIO: there is PKU, and a check fails or the child is killed
 *  - the pku_error of pkeyguard_platform_probe(): PKU is ruled out
 *  - -ENOSPC: every pkey is taken
 *  - -EAGAIN, -ENOMEM: fork fails, or there is no memory
 *
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_platform_self_test(void);

#include <pkeyguard/end.h>
#endif
