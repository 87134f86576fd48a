/* SPDX-License-Identifier: MIT */
/*
 * fault.h - explains a forbidden access to guarded memory
 *
 * A forbidden access raises SIGSEGV. In your own handler pkeyguard_fault_decode() tells whether the
 * access hit a region of this library, and why it failed. pkeyguard_fault_format() turns that into
 * a sentence. A program without a handler can install the library's handler, the reporter, which
 * prints that sentence.
 *
 * A system call that is handed closed memory raises no signal. It fails with EFAULT.
 */
#ifndef PKEYGUARD_FAULT_H
#define PKEYGUARD_FAULT_H

#ifndef PKEYGUARD_DECLARATIONS_ONLY
#include <signal.h>
#endif

#include <pkeyguard/key.h>
#include <pkeyguard/types.h>

#include <pkeyguard/begin.h>

/* The kind of access. */
enum pkeyguard_access {
    PKEYGUARD_READ_ACCESS,   /* of data */
    PKEYGUARD_WRITE_ACCESS,  /* of data */
    PKEYGUARD_EXECUTE_ACCESS /* of code; a pkey never forbids it, the page tables may */
};

/* The reason why the access failed. */
enum pkeyguard_fault_kind {
    PKEYGUARD_FAULT_BY_KEY,     /* the thread has too few rights on the region's pkey */
    PKEYGUARD_FAULT_BY_PAGE,    /* the page tables forbid it: by the region's page rights, because
                                   mprotect enforces the key and no guard has the region open, or
                                   because the region's virtual key has no pkey */
    PKEYGUARD_FAULT_GUARD_PAGE, /* it hit the inaccessible page before or after the region, or the
                                   one after a heap's objects */
    PKEYGUARD_FAULT_RECORDS     /* Since 0.2: it hit no region but the library's own records, which
                                   pkeyguard_protect_records() protects. The members about the region
                                   are 0, and `rights` are this thread's on the records */
};

/* A forbidden access. */
struct pkeyguard_fault {
    enum pkeyguard_fault_kind kind; /* the reason why it failed */
    enum pkeyguard_access access;   /* the kind of access */
    enum pkeyguard_rights
        rights;           /* on the region: with a pkey the faulting thread's, else the process's */
    int key_number;       /* the pkey, or -1 */
    void *address;        /* the first byte that could not be accessed */
    ptrdiff_t offset;     /* bytes from the region's start; negative before it, also in the slack
                             of a PKEYGUARD_REGION_END_ALIGNED region */
    char region_name[64]; /* empty if the region has no name */
    size_t region_size;   /* bytes asked for at creation */
    bool initial_rights;  /* the rights are those that the kernel gives to signal handlers and to
                             threads older than the key; this thread did not choose them */
    bool page_rights_forbid; /* the region's page rights forbid the access, too or alone, so that
                                no guard helps */

    /* Since 0.2. On CPUs other than x86-64 and aarch64 the code is not known. */
    int thread;           /* the faulting thread's number, as gettid(2) returns it */
    char thread_name[16]; /* the thread's name in /proc (pthread_setname_np(3)) */
    void *code;           /* the instruction that made the access; NULL if it is not known */
    size_t code_offset;   /* that instruction's address in the file, as addr2line(1) takes it */
    char code_file[128];  /* the program or shared object that has the instruction: its path, or the
                             last 127 bytes of that; empty if it is not known, as for code that
                             was made at run time, and always with a C library other than glibc */
    uint64_t reserved[8];
};
PKEYGUARD_STATIC_ASSERT_(sizeof(struct pkeyguard_fault) == 296 + 5 * sizeof(void *),
                         "frozen for the ABI");

/*
 * pkeyguard_fault_decode - describe the access that raised a SIGSEGV
 * @info, @ucontext: the handler's second and third argument, as the kernel gave them
 * @ret_fault: set on success only
 *
 * It is declared where <signal.h> declares siginfo_t. With -std=c11 that takes _POSIX_C_SOURCE.
 *
 * The function reads no guarded memory. On CPUs other than x86-64 and aarch64, and for aarch64 in
 * QEMU's user emulation, the kernel does not tell how memory was accessed. The function then
 * guesses: a write if the region's pages can be read, else a read.
 *
 * Returns 0; or -ENOENT: the address is in no region of this library and not in its protected
 * records, the signal was sent by a process instead of raised by an access, or the region is being
 * destroyed.
 * Thread: any. Signal: async-signal-safe, also in a handler that interrupted this library.
 * Since 0.1.
 */
#ifdef SA_SIGINFO
__attribute__((warn_unused_result, nonnull)) int
pkeyguard_fault_decode(const siginfo_t *info, const void *ucontext,
                       struct pkeyguard_fault *ret_fault);
#endif

/* Bytes that hold the longest text, with its NUL. */
enum { PKEYGUARD_FAULT_TEXT_SIZE = 640 };

/*
 * pkeyguard_fault_format - write a sentence that explains a fault and says what to do about it
 * @buffer: receives the text and a NUL, without a newline
 * @size: bytes in the buffer; PKEYGUARD_FAULT_TEXT_SIZE is enough
 *
 *     write to region 'session keys' + 0x10: this thread has it read-only;
 *     open a write scope (pkey 1, address 0x7f62b0e01010) in thread 4711
 *     'worker' at /usr/bin/vault + 0x1a2b
 *
 * `addr2line -e /usr/bin/vault 0x1a2b` then shows the line of the program. In names and paths `?`
 * stands for each character that is not printable ASCII.
 *
 * The wording may change from version to version.
 *
 * Returns 0; or -ERANGE: the buffer is too small and holds as much as fits, with a NUL.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
__attribute__((nonnull(1))) int pkeyguard_fault_format(const struct pkeyguard_fault *fault,
                                                       char *buffer, size_t size);

enum {
    /*
     * A thread that ran before a key was created has no access to that key (key.h). With this flag
     * the thread's first fault on the key is not printed: the reporter gives the thread the key's
     * default rights, and the access goes on. A signal handler, which starts without access, too,
     * gets the default rights until it returns.
     *
     * The reporter raises only rights that the thread did not choose: it leaves them alone after
     * pkeyguard_key_set_rights(), inside pkeyguard_restrict() and inside a guard. A handler that
     * has interrupted code without the default rights gets nothing either, if that code gave them
     * up, or if it runs in a call gate or in a thread that was created without them. After any
     * thread has given up rights on the key, a handler whose stack does not show the interrupted
     * code gets nothing: one on an alternate stack or a coroutine's.
     *
     * A system call does not fault. Until the thread has faulted once, a system call that is handed
     * such memory fails with EFAULT.
     */
    PKEYGUARD_REPORTER_GRANT_DEFAULTS = 1,

    /* pkeyguard_try_call() can be used. */
    PKEYGUARD_REPORTER_RECOVER = 2
};

/*
 * pkeyguard_fault_reporter_install - print a line on stderr for each forbidden access
 * @flags: 0 or PKEYGUARD_REPORTER_* together
 *
 * It installs a handler of SIGSEGV, the reporter. For each forbidden access to a region the
 * reporter writes one line, "libpkeyguard: write to region ...". For any other SIGSEGV it writes
 * nothing.
 *
 * Then the signal is handled as if the reporter were not there. If a handler was installed before,
 * the reporter calls it with the same arguments, errno and blocked signals. An earlier handler with
 * SA_RESETHAND is called once. If there was no handler, the reporter restores the default action
 * and returns. The access then faults again, so core dumps and debuggers see the fault itself.
 *
 * The reporter, and the earlier handler that it calls, run on the alternate signal stack of the
 * thread that faults. A thread without one uses its own stack. The first call gives the calling
 * thread an alternate stack if it has none.
 *
 * To see a fault before the reporter does, install your handler later and call the one that
 * sigaction(2) returned to you. Another call of this function only changes the flags. The reporter
 * cannot be removed.
 *
 * It does nothing for a thread that blocks SIGSEGV, as a thread pool may do with all signals: if
 * such a thread faults, the kernel kills the process at once. No line is printed, no default rights
 * are granted, and pkeyguard_try_call() does not return.
 *
 * If the static library is part of a plugin, the call keeps the plugin loaded until the process
 * ends: dlclose(3) does not unmap it any more.
 *
 * Returns 0; or, with nothing changed:
 *  - -EINVAL: unknown flags
 *  - -ENOMEM: no memory for the alternate stack
 *  - -ENOTSUP: the library is part of a plugin that cannot be kept loaded
 *  - -EDEADLK: called where this thread has the library's lock (pkeyguard.h)
 *
 * Thread: any, while no other thread changes the handler of SIGSEGV. Signal: not async-signal-safe;
 * the reporter itself is. Fork: a child inherits the reporter. Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_fault_reporter_install(unsigned flags);

/*
 * pkeyguard_try_call - call a function, and survive a forbidden access in it
 * @function: called with the argument, in the calling thread
 * @ret_result: set to what it returns, on success only
 * @ret_fault: set to the access, on -EFAULT only
 *
 * If the function, or code that it calls, accesses closed memory of a region or a guard page, the
 * call ends there: nothing of the function runs any more. Guards that were opened inside it are
 * released, also under mprotect; gates that were entered inside it are left; the signal mask is as
 * before; and it can be called again. Calls nest: the innermost one ends. Nothing is reported then.
 * Any other fault, and one of another thread, goes where it went without this.
 *
 * Lost is everything else that the function was about to undo: locks stay locked, memory stays
 * allocated, files stay open, and C++ destructors do not run. So call only code that you can do
 * without: it has a heap of its own (heap.h), say, which the caller destroys afterwards, and no
 * locks in common.
 *
 * C++ exceptions, pthread_exit(3) and cancellation pass through the call. After a longjmp(3) out of
 * it call pkeyguard_thread_restore() (thread.h): until then a fault may jump to this call, which is
 * not there any more.
 *
 * Returns 0: the function has returned; -EFAULT: a forbidden access has ended it; -EINVAL: no
 * function or result, or pkeyguard_fault_reporter_install() was not called with
 * PKEYGUARD_REPORTER_RECOVER; -ENOMEM. It aborts as a call gate does (thread.h).
 * Thread: any; one whose SIGSEGV is blocked dies. Signal: async-signal-safe, as far as the function
 * is. Since 0.2.
 */
__attribute__((warn_unused_result)) int pkeyguard_try_call(int (*function)(void *), void *argument,
                                                           int *ret_result,
                                                           struct pkeyguard_fault *ret_fault);

#include <pkeyguard/end.h>
#endif
