/* SPDX-License-Identifier: MIT */
/*
 * platform.h - what this machine supports
 */
#ifndef PKEYGUARD_PLATFORM_H
#define PKEYGUARD_PLATFORM_H

#include <stdbool.h>
#include <stdint.h>

#include <pkeyguard/key.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* The result of pkeyguard_platform_probe(). */
struct pkeyguard_platform {
    enum pkeyguard_enforcement enforcement; /* of a key created with no flag */
    int pku_error;               /* 0, or the -errno that rules PKU out, as listed below */
    unsigned hardware_keys_free; /* number of dedicated keys that could be created now */
    bool secret_memory;          /* memfd_secret(2) works, within RLIMIT_MEMLOCK */
    bool sealing;                /* mseal(2) works */
    bool guard_madvise;          /* madvise(2) accepts MADV_GUARD_INSTALL */
    uint64_t reserved[8];        /* zero */
};

/*
 * pkeyguard_platform_probe - find out what this machine supports
 * @ret_platform: filled in on success only
 *
 * The function tries everything in a short-lived child process, so it disturbs no key, signal
 * handler or memory of the caller. The child sends no SIGCHLD, and the function reaps it. A pkey
 * that is free now may be taken a moment later. pku_error is one of:
 *  - 0: keys are enforced by PKU (hardware_keys_free tells whether one is free)
 *  - -ENOTSUP: the CPU has no PKU or the kernel has not enabled it (CPUID.OSPKE is clear)
 *  - -ECANCELED: PKEYGUARD_ENFORCEMENT=mprotect in the environment asks for mprotect
 *  - another error, as -ENOSYS, -EPERM or -EINVAL: the answer of the kernel, or of a sandbox's
 *    filter, to pkey_alloc(2); -EPERM also if the filter kills the child
 *
 * Returns 0, or -EAGAIN or -ENOMEM: fork fails, or there is no memory.
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull)) int
pkeyguard_platform_probe(struct pkeyguard_platform *ret_platform);

/*
 * pkeyguard_platform_self_test - check that protection keys really work on this machine
 *
 * In a short-lived child process, as above, the function checks:
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

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
