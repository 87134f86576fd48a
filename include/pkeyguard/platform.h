/* SPDX-License-Identifier: MIT */
/*
 * platform.h - what this machine gives
 */
#ifndef PKEYGUARD_PLATFORM_H
#define PKEYGUARD_PLATFORM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
#define PKEYGUARD_STATIC_ASSERT_ static_assert
extern "C" {
#else
#define PKEYGUARD_STATIC_ASSERT_ _Static_assert
#endif
#pragma GCC visibility push(default)

/* Who stops a bad access. */
enum pkeyguard_enforcement {
    PKEYGUARD_MPROTECT,  /* the page tables: a guard opens for the whole process */
    PKEYGUARD_PKU,       /* the CPU's protection keys: a guard opens for its own thread */
    PKEYGUARD_UNENFORCED /* nobody: a PKEYGUARD_KEY_OPTIONAL key where there is no PKU */
};

/* What pkeyguard_platform_probe() finds. */
struct pkeyguard_platform {
    enum pkeyguard_enforcement enforcement; /* what a key created with no flag gets here */
    int pku_error;               /* 0, or the -errno that rules PKU out, as listed below */
    unsigned hardware_keys_free; /* how many dedicated keys could be created now */
    bool secret_memory;          /* memfd_secret(2) works, within RLIMIT_MEMLOCK */
    bool sealing;                /* mseal(2) works */
    bool guard_madvise;          /* madvise(2) takes MADV_GUARD_INSTALL */
    uint64_t reserved[8];        /* zero */
};

/*
 * pkeyguard_platform_probe - find out what this machine gives
 * @ret_platform: filled in on success only
 *
 * Looks from a short-lived child process, so no key, signal handler or memory of the caller is
 * disturbed; the child sends no SIGCHLD and is reaped here. What is free now may be taken a moment
 * later. pku_error is one of:
 *  - 0: keys are enforced by PKU (all may be in use: see hardware_keys_free)
 *  - -ENOTSUP: the CPU has no PKU or the kernel has not enabled it (CPUID.OSPKE is clear)
 *  - -ECANCELED: PKEYGUARD_ENFORCEMENT=mprotect in the environment asks for mprotect
 *  - -ENOSYS, -EPERM, -EINVAL: what the kernel, or a sandbox's filter, answers to pkey_alloc(2)
 *
 * Returns 0; -EAGAIN or -ENOMEM where a child process cannot be had.
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull)) int
pkeyguard_platform_probe(struct pkeyguard_platform *ret_platform);

/*
 * pkeyguard_platform_self_test - see protection keys work before trusting them
 *
 * In a short-lived child process, as above: a closed key stops a read and a write-disabled one a
 * write, each with SEGV_PKUERR, the exact address and the key's number; a signal handler finds the
 * key closed; the thread's PKRU stands in the signal frame and comes back from it unchanged.
 * Kernels before 5.13 (and 5.10.103) could corrupt PKRU around signals, and the first 6.12 releases
 * lost it at sigreturn on some processors: this is where that shows.
 *
 * Returns 0; -EIO when PKU is there and any of this fails; the pku_error of
 * pkeyguard_platform_probe() when PKU is ruled out; -ENOSPC when every pkey is taken; -EAGAIN or
 * -ENOMEM where a child process cannot be had.
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_platform_self_test(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
