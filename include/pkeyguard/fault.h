/* SPDX-License-Identifier: MIT */
/*
 * fault.h - what a bad access to guarded memory was, in words
 *
 * A forbidden access raises SIGSEGV. pkeyguard_fault_decode() tells in a handler of yours whether
 * it hit a region of this library, and how; pkeyguard_fault_format() says it in a sentence. A
 * program without a handler may have the library's own, the reporter, print that sentence.
 *
 * System calls that are handed closed memory raise no signal: they fail with EFAULT.
 */
#ifndef PKEYGUARD_FAULT_H
#define PKEYGUARD_FAULT_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <pkeyguard/key.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* What was tried. */
enum pkeyguard_access {
    PKEYGUARD_READ_ACCESS,
    PKEYGUARD_WRITE_ACCESS,
    PKEYGUARD_EXECUTE_ACCESS /* forbidden by page rights only */
};

/* What forbade it. */
enum pkeyguard_fault_kind {
    PKEYGUARD_FAULT_BY_KEY,    /* the thread's rights on the region's pkey */
    PKEYGUARD_FAULT_BY_PAGE,   /* the region's page rights, or mprotect where it enforces the key or
                                  closes what a virtual key has no pkey for */
    PKEYGUARD_FAULT_GUARD_PAGE /* the page before the region or after it */
};

/* A forbidden access. */
struct pkeyguard_fault {
    enum pkeyguard_fault_kind kind; /* what forbade it */
    enum pkeyguard_access access;   /* what was tried */
    enum pkeyguard_rights
        rights;           /* on the region: the faulting thread's under PKU, else everyone's */
    int key_number;       /* the pkey, or -1 */
    void *address;        /* the first byte that could not be accessed */
    ptrdiff_t offset;     /* from the region's start; negative before it */
    char region_name[64]; /* empty: it has none */
    size_t region_size;   /* bytes asked for */
    bool initial_rights;  /* the rights are what the kernel starts handlers with, and what threads
                             older than the key have: nobody chose them in this thread */
    uint64_t reserved[8];
};
PKEYGUARD_STATIC_ASSERT_(sizeof(struct pkeyguard_fault) == 152 + 3 * sizeof(void *),
                         "frozen for the ABI");

/*
 * pkeyguard_fault_decode - what a SIGSEGV was
 * @info, @ucontext: the handler's second and third argument, as the kernel gave them
 * @ret_fault: set on success only
 *
 * Declared where <signal.h> declares siginfo_t: with -std=c11 after _POSIX_C_SOURCE is defined.
 * Looks at no guarded memory. On CPUs other than x86-64 and aarch64, and in QEMU's user emulation,
 * the signal does not say how memory was accessed: there it is a write if the region may be read,
 * else a read.
 *
 * Returns 0; -ENOENT: no region of this library was hit, or not by the CPU (a signal that was
 * sent), or the region is being destroyed. Thread: any. Signal: async-signal-safe, also in a
 * handler that interrupted this library. Since 0.1.
 */
#ifdef SA_SIGINFO
__attribute__((warn_unused_result, nonnull)) int
pkeyguard_fault_decode(const siginfo_t *info, const void *ucontext,
                       struct pkeyguard_fault *ret_fault);
#endif

/* Room for the longest text there is. */
enum { PKEYGUARD_FAULT_TEXT_SIZE = 384 };

/*
 * pkeyguard_fault_format - a fault in words, and what to do about it
 * @buffer: size bytes; holds the text, without a newline, and a NUL
 *
 *     write to region 'session keys' + 0x10: this thread has it read-only; open a write scope
 *     (pkey 1, address 0x7f62b0e01010)
 *
 * The words may change from version to version.
 *
 * Returns 0; -ERANGE: the buffer is too small, as much as fits is in it.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
__attribute__((nonnull(1))) int pkeyguard_fault_format(const struct pkeyguard_fault *fault,
                                                       char *buffer, size_t size);

enum {
    /*
     * Also gives a thread that is older than a key that key's default rights, when it first faults
     * for want of them, and lets the access go on. Only rights that nobody chose in that thread are
     * raised: not after pkeyguard_key_set_rights(), inside pkeyguard_restrict() or a guard. System
     * calls do not fault: handed such memory they fail with EFAULT until then.
     */
    PKEYGUARD_REPORTER_GRANT_DEFAULTS = 1
};

/*
 * pkeyguard_fault_reporter_install - have forbidden accesses explained on stderr
 * @flags: 0 or PKEYGUARD_REPORTER_GRANT_DEFAULTS
 *
 * Installs a handler of SIGSEGV that writes one line for each forbidden access to a region, as
 * "libpkeyguard: write to region ...", and nothing for any other SIGSEGV. Then it goes on as if it
 * were not there. A handler that was installed before is called with the same arguments, errno and
 * blocked signals; SA_RESETHAND holds. Where there was none the default is restored and the access
 * made again, so core dumps and debuggers see the fault itself.
 *
 * It runs on an alternate signal stack, and so does the handler it calls: the calling thread's,
 * which gets one here if it has none, or that of the thread that faults; a thread without one uses
 * its own stack. To be called in front of it, install your handler later and call the one that
 * sigaction(2) gave back. Calling this again only changes the flags. There is no way to remove it.
 *
 * Returns 0; -EINVAL: unknown flags; -ENOMEM: no alternate stack; -EDEADLK: called from a signal
 * handler that interrupted this library: in each case nothing changed.
 * Thread: any, while no other changes SIGSEGV's handler. Signal: not async-signal-safe; what it
 * installs uses nothing else. Fork: a child inherits it. Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_fault_reporter_install(unsigned flags);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
