/* SPDX-License-Identifier: MIT */
/*
 * pkeyguard.h - memory that is reachable only while a guard is open
 *
 * The tour: a key (key.h) is a protection domain. A region (region.h) is memory that belongs to a
 * key. A guard (guard.h) opens a key or region for a scope and closes it at the scope's end, with
 * two writes to the CPU's PKRU register (pkru.h). What threads, longjmp and coroutines need is in
 * thread.h, what a forbidden access was in fault.h. What the machine gives is in platform.h.
 *
 * Threat model. It stops stray and linear reads and writes from anywhere in the process, use after
 * the scope, over-reads into secrets, and system calls handed a protected pointer (EFAULT). It is
 * not a sandbox: it does not stop code that can execute WRPKRU or call pkey_mprotect(2), nor
 * process_vm_readv(2), /proc/self/mem, ptrace(2), a fork child (which has a copy), io_uring work
 * queued while a scope is open, stray writes to the library's own records, or rights that a thread
 * keeps by misuse (born inside a scope, longjmp out of one) until it resets them (thread.h). Region
 * flags (region.h) shut out the kernel's ways in and fork children.
 *
 * Whose rights. Under PKU rights belong to the thread. Under mprotect, which takes over where the
 * CPU has no PKU, they belong to the process: another thread can reach what one has open.
 *
 * Errors. int results are 0 or -errno, each function's own closed set; ret_* parameters are
 * untouched on failure. The library never prints, except one line on stderr before it aborts.
 */
#ifndef PKEYGUARD_H
#define PKEYGUARD_H

#include <pkeyguard/fault.h>
#include <pkeyguard/guard.h>
#include <pkeyguard/heap.h>
#include <pkeyguard/key.h>
#include <pkeyguard/pkru.h>
#include <pkeyguard/platform.h>
#include <pkeyguard/region.h>
#include <pkeyguard/thread.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* The headers' version; pkeyguard_version() is the library's. The build reads it from here. */
#define PKEYGUARD_VERSION_MAJOR 0
#define PKEYGUARD_VERSION_MINOR 1
#define PKEYGUARD_VERSION_PATCH 0

/*
 * pkeyguard_version - "MAJOR.MINOR.PATCH" of the library that is linked
 *
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
const char *pkeyguard_version(void);

/*
 * pkeyguard_strerror - an error in this library's terms
 * @error: 0 or a -errno that this library returned
 *
 * Returns a constant string, never NULL; "unknown error" for what no function here returns.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
const char *pkeyguard_strerror(int error);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
