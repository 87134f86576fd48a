/* SPDX-License-Identifier: MIT */
/*
 * pkeyguard.h - memory that is reachable only while a guard is open
 *
 * The tour. A key (key.h) is a protection domain. A region (region.h) is memory that belongs to a
 * key. A guard (guard.h) opens a key or a region for a scope and closes it at the scope's end. On a
 * CPU with protection keys (PKU) that takes two writes to the PKRU register (pkru.h). heap.h
 * allocates small objects inside a region. thread.h is for threads, longjmp and coroutines. fault.h
 * explains a forbidden access. platform.h tells what the machine supports.
 *
 * What the library stops: stray and linear reads and writes from anywhere in the process, use after
 * the scope, over-reads into secrets, and system calls that are handed a protected pointer (they
 * fail with EFAULT).
 *
 * What it does not stop. It is not a sandbox. These get through:
 *  - code that can execute WRPKRU or call pkey_mprotect(2)
 *  - process_vm_readv(2), /proc/self/mem and ptrace(2)
 *  - a fork child, which has a copy of the memory
 *  - io_uring work that is queued while a scope is open
 *  - stray writes to the library's own records, until pkeyguard_protect_records()
 *  - a thread that keeps rights by misuse: it was created inside a scope, or left one with longjmp.
 *    It keeps them until it resets them (thread.h).
 *
 * Region flags (region.h) keep out fork children and the kernel's ways to read memory.
 *
 * Whose rights. Under PKU rights belong to the thread. Under mprotect they belong to the process:
 * another thread can reach the regions that one thread has open. A key created with no flag is
 * enforced with mprotect where the CPU has no PKU.
 *
 * Plugins. The shared library stays loaded until the process ends: dlclose(3) does not unmap it. If
 * the static library is part of a plugin, link the plugin with -Wl,-z,nodelete. A plugin that is
 * unmapped must have destroyed its regions and keys before. The pkeys of its keys are then lost to
 * the process, because only the library knew that they can be used again.
 *
 * Fork. A fork child has the guards of the thread that called fork, and no other thread's. fork(3)
 * runs handlers that see to that. In a child of _Fork(3) or clone(2) the library notices by itself,
 * at the first call that needs its lock; it aborts there if pkeyguard_protect_records() was called
 * before. A child that shares its parent's memory (vfork(2), clone(2) with CLONE_VM) is another
 * thread to the library, but one that is not counted: do not use virtual keys while such a child
 * runs beside its parent.
 *
 * The lock. The library has one lock, which slow functions hold for short times. Meanwhile the
 * signals of their thread are blocked: no handler finds the lock held by its own thread, and no
 * siglongjmp(3) out of a handler leaves it held. Two kinds of code can run in a thread that has the
 * lock all the same. In them a function that needs the lock fails with -EDEADLK:
 *  - the handler of a signal that an instruction of the library raised: SIGSEGV, SIGBUS, SIGFPE,
 *    SIGILL, SIGTRAP, SIGSYS. These are not blocked. If such a handler left the library by
 *    siglongjmp(3), the lock would stay held; it must return.
 *  - a fork handler of the program that was registered before the library was loaded: fork(3) runs
 *    it while it holds the lock
 *
 * Errors. A function that returns int returns 0 or -errno, out of a closed set that its comment
 * lists. A failure leaves ret_* parameters untouched, but for ret_guard and ret_guards, which it
 * makes empty. The library prints on stderr only: one line before it aborts, and one line for each
 * fault if the program installs the reporter (fault.h).
 *
 * C++. These headers compile as C++17. pkeyguard.hpp has classes: handles that destroy themselves,
 * scopes that give references, allocators on a heap, and exceptions or std::error_code for errors.
 *
 * Other languages. With PKEYGUARD_DECLARATIONS_ONLY defined the headers have nothing but types,
 * enumerators and functions, in plain C99: no attributes, no inline functions or assembly, and
 * nothing of the C library. A program that reads C declarations, such as cffi, bindgen or cgo, can
 * read what `gcc -E -P -DPKEYGUARD_DECLARATIONS_ONLY` makes of them, and the library exports every
 * function there is. pkeyguard_fault_decode() is among them only if <signal.h> comes before.
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

#include <pkeyguard/begin.h>

/*
 * PKEYGUARD_VERSION_MAJOR, PKEYGUARD_VERSION_MINOR, PKEYGUARD_VERSION_PATCH - the headers' version
 *
 * pkeyguard_version() tells the library's version. The library's build reads these lines. Since
 * 0.1.
 */
#define PKEYGUARD_VERSION_MAJOR 0
#define PKEYGUARD_VERSION_MINOR 2
#define PKEYGUARD_VERSION_PATCH 0

/*
 * pkeyguard_version - the version of the linked library, "MAJOR.MINOR.PATCH"
 *
 * It can differ from that of the headers (PKEYGUARD_VERSION_MAJOR).
 *
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
const char *pkeyguard_version(void);

/*
 * pkeyguard_strerror - what an error means in this library
 * @error: 0 or a -errno that this library returned
 *
 * Returns a constant string, never NULL. For any other number it is "unknown error".
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
const char *pkeyguard_strerror(int error);

/*
 * pkeyguard_protect_records - put the library's own records out of reach of stray writes
 *
 * From now on the records of keys, regions and heaps, also of those that exist already, and the
 * tables that find them by address are read-only for every thread, at the addresses that the
 * program knows. A write there raises SIGSEGV with SEGV_ACCERR, or fails with EFAULT in a system
 * call. The library itself writes through a second mapping, at addresses that no pointer of the
 * program has. That mapping has a pkey of its own. A thread has it open only while it holds the
 * library's lock, or while its heap grows; at any other time each access there raises SIGSEGV with
 * SEGV_PKUERR. The functions of fault.h explain both faults.
 *
 * Guards on dedicated keys, and on virtual keys that have a pkey, cost what they cost before, also
 * in signal handlers. A call that takes the library's lock writes PKRU twice more. fork(3) copies
 * the records.
 *
 * What threads write without the lock, and what is no record, stays writable. At worst, a stray
 * write does this:
 *  - to a struct pkeyguard_guard or pkeyguard_thread_rights, which the program has on its stack:
 *    the release or restore opens what it should close, calls code at a wrong address, or crashes
 *  - to a thread's record, which has its pins: another virtual key gets a pkey that the thread has
 *    open, so that the thread reaches that key's regions; or that pkey goes to no key any more
 *  - to a thread's list of its software guards: a region stays open, or the library changes a
 *    number in a wrong place
 *  - to a heap's locks, and its note of which blocks were ever used: two threads allocate the same
 *    memory, the heap's functions hang or fail, or new memory is not wiped
 *  - to the library's variables, such as the state of its pkeys, the pool of virtual keys, the
 *    heads of lists, the lock, the fault reporter's settings: a pkey gets two owners, the library
 *    writes in a wrong place, the process hangs or aborts, or the reporter calls a wrong handler
 *
 * What the library keeps about a heap's objects is in the heap's region, closed by its key. Code
 * that writes PKRU, changes the mappings or uses /proc/self/mem is not stopped.
 *
 * The records are shared memory from now on, which fork does not copy. A child of fork(3) gets a
 * copy, protected in the same way; fork handlers that were registered before the library was loaded
 * run in the child before it has that copy. A child that has memory of its own and runs no fork
 * handlers, as of _Fork(3) or clone(2), has no records, nor has one for which there was no memory.
 * There reading a record, as every guard does, raises SIGSEGV, and a call that takes the library's
 * lock aborts. fork(3) and execve(2) work.
 *
 * Call it at any time, before or after the first key is created. A second call changes nothing and
 * returns 0. It cannot be undone. It uses up one pkey.
 *
 * Returns 0, or, with nothing changed:
 *  - -ENOTSUP: no PKU, as for PKEYGUARD_KEY_HARDWARE
 *  - -ENOSPC: no pkey is left, or only ones that some thread may have open (key.h)
 *  - -ENOMEM; -EACCES: the kernel or a sandbox forbids to map the memory twice
 *  - -EDEADLK: called where this thread has the library's lock
 *
 * Aborts if the kernel refuses to put the new mapping in place of the old memory.
 *
 * Thread: any; other threads may use the library meanwhile. Signal: not async-signal-safe.
 * Since 0.2.
 */
__attribute__((warn_unused_result)) int pkeyguard_protect_records(void);

#include <pkeyguard/end.h>
#endif
