/* SPDX-License-Identifier: MIT */
/*
 * guard.h - guards: rights on a key or a region, given back at the end of a scope
 *
 *     pkeyguard_scoped_write(int, secret, region) {
 *         *secret = 123;
 *     }
 *     pkeyguard_scoped_read(int, secret, region) {
 *         use(*secret);        an assignment to *secret does not compile
 *     }
 *
 * The rules
 *  - Acquire widens, restrict narrows. Acquire never takes away what an open guard gave: a read
 *    scope inside a write scope changes nothing.
 *  - A guard gives back exactly what it changed. Guards on different keys may nest and interleave.
 *  - Guards on one key may be released in any order, and the key ends closed. Under PKU the release
 *    of the guard that opened the key closes it for this thread, even while a later guard on it is
 *    held. Under mprotect the later guard keeps open what it opened.
 *  - Release pkeyguard_restrict() guards last in, first out, and undo pkeyguard_key_set_rights()
 *    inside the guard that it was called in. Otherwise a key can end open: a guard that is acquired
 *    before a restrict and released inside it closes the key, and the end of the restrict opens the
 *    key again.
 *  - Use only the region that the guard names. Under PKU a guard also opens the key's other
 *    regions, for this thread. Under mprotect it opens that region alone (a guard on a key: every
 *    region of the key), for all threads.
 *
 * Debugging. If PKEYGUARD_DEBUG is defined before this header is included, guards abort on misuse.
 * The line on stderr has the file and line of the call, and the region's name. They abort on:
 *  - a guard on a region or key that was destroyed, and a release after its key was destroyed
 *  - a release by another thread. A fork child goes on with the guards of the thread that called
 *    fork, and a coroutine takes its guards along (thread.h).
 *  - a second release through a copy of the guard, if the process has acquired fewer than 1000
 *    guards since the first one
 *  - a release out of order around a restrict guard or a change of rights
 *  - a key that is open because the thread was created inside a scope (thread.h)
 *  - any use of a guard after siglongjmp has left the library locked (see Signals)
 *
 * Code that was compiled without PKEYGUARD_DEBUG may release such a guard. It checks nothing.
 *
 * Under mprotect these things differ:
 *  - Another thread can reach a region while it is open.
 *  - A restrict guard does not narrow what other guards opened.
 *  - A signal handler has the rights of the process.
 *  - A guard that is never released leaves the region open for all threads, for good.
 *  - A closed region cannot be executed.
 *
 * Signals. A handler may acquire and release guards. Under PKU it starts with every key closed,
 * whatever the interrupted code had open, and what it opens is closed when it returns. For a key
 * that is not dedicated a guard may need the library's lock, and fails with -EDEADLK in the few
 * handlers that can run in a thread that has it (pkeyguard.h). It needs no lock if the key is
 * virtual and has a pkey, or if this thread has another guard on the same region, or key, with its
 * rights.
 *
 * siglongjmp(3) may leave a handler that interrupted this library (thread.h says how rights are
 * restored), with one exception: the handler of a signal that an instruction or a system call
 * raises, such as SIGSEGV, SIGTRAP and SIGSYS. Such a signal interrupts the library even while it
 * holds its lock. After a jump out of its handler the calls that need the lock return -EDEADLK for
 * good.
 *
 * Leaving a scope
 *  - return, break, continue and goto out of a scope close it. break and continue act on the scope,
 *    not on a loop around it. Do not jump into a scope.
 *  - If the only return of a function is inside a scope, compilers warn with -Wreturn-type. Use an
 *    auto form there.
 *  - longjmp leaves the scope open (thread.h).
 *  - pthread_exit, deferred pthread_cancel and C++ exceptions close the scope if your file is
 *    compiled with -fexceptions, which the CMake target adds for C. Without it a thread ends with
 *    its scopes open. So do threads with musl, which does not unwind a thread that ends.
 *
 * Virtual keys. A guard pins the pkey of its key: the pkey stays with that key while the guard is
 * open. A guard that needs a pkey fails with -EBUSY when all of them are pinned, and with -EAGAIN
 * when a thread that has not registered may have one open (thread.h). The scoped and auto forms
 * wait then, and abort where waiting cannot help (the _timed functions wait up to a limit, and do
 * not abort):
 *  - They wait until a pkey is unpinned. They abort at once in a signal handler, and in a thread
 *    that has a virtual key open itself, because such threads could wait for each other.
 *  - They wait one second for threads to register. They abort at once if it is the calling thread
 *    that cannot be registered.
 *
 * pkeyguard_scoped_restrict() never waits. To open several virtual keys at once use
 * pkeyguard_acquire_all(), or pkeyguard_acquire() and handle its error.
 *
 * A guard on a virtual key costs little more than one on a dedicated key while its key has a pkey.
 * If the pkey must be taken from another key, the guard costs one system call for each region of
 * either key, and sometimes a membarrier(2) and a count of the threads.
 *
 * Under mprotect the outermost guard on a region or key costs two system calls, and two more if no
 * other thread has it open. A guard inside another one of the same thread, on the same region or
 * the same key, costs as little as one on a virtual key if it asks for no more rights.
 *
 * Compile-time checks. Clang can warn where guarded data is used outside a scope (analysis.h).
 *
 * Threads and fork. A new thread starts with a copy of its creator's PKRU. So it has every scope
 * open that its creator had open, until it calls pkeyguard_thread_reset(). A fork child keeps the
 * guards of the thread that called fork, and no other thread's. In a child of _Fork(3) or clone(2),
 * which run no fork handlers, other threads' guards on software keys stay open until the first call
 * that needs the library's lock.
 */
#ifndef PKEYGUARD_GUARD_H
#define PKEYGUARD_GUARD_H

#ifndef PKEYGUARD_DECLARATIONS_ONLY
#include <errno.h>
#endif

#include <pkeyguard/key.h>
#include <pkeyguard/pkru.h>
#include <pkeyguard/region.h>
#include <pkeyguard/types.h>

#ifdef __cplusplus
#define PKEYGUARD_CAST_(type, value)   static_cast<type>(value)
#define PKEYGUARD_NARROW_(type, value) static_cast<type>(value)
#define PKEYGUARD_VIEW_(type, value)   reinterpret_cast<type>(value)
#else
/* No cast in C: each __typeof__ of a struct without a tag is a type of its own. */
#define PKEYGUARD_CAST_(type, value)   (value)
#define PKEYGUARD_NARROW_(type, value) ((type)(value))
#define PKEYGUARD_VIEW_(type, value)   ((type)(value))
#endif

#include <pkeyguard/begin.h>

/*
 * A guard: a record of what it changed. The caller allocates it and does not touch its members. {0}
 * is an empty guard. The thread that acquired a guard must release it. A guard may be moved in
 * memory.
 */
struct pkeyguard_guard {
    uint32_t cleared;  /* deny bits to set again in PKRU; enough to undo a widened dedicated key */
    uint32_t narrowed; /* of a restrict scope, if undo is not 0: all that there is to undo is to
                          clear these deny bits. 0: undo says it */
    uint64_t undo;     /* what else there is to undo; 0: nothing */

    /* Set if the guard was acquired with PKEYGUARD_DEBUG. */
    uint64_t holder, number;         /* the thread or coroutine, and the guard itself */
    const char *where;               /* the file and line */
    struct pkeyguard_region *region; /* NULL: the guard is on a whole key */
    uint32_t key_generation;         /* changes when the key is destroyed */
    uint32_t expected_change;        /* what it changes where no signal handler interferes */
    uint32_t reserved_too[2];
};
PKEYGUARD_STATIC_ASSERT_(sizeof(struct pkeyguard_guard) == 48 + 2 * sizeof(void *),
                         "frozen for the ABI");

/*
 * pkeyguard_acquire - open a region with at least these rights
 * @rights: PKEYGUARD_NO_ACCESS asks for nothing and succeeds
 * @ret_guard: empty on failure
 *
 * The region is open until pkeyguard_release() is called with the guard; the scopes call it by
 * themselves. The page rights stay in force: a write guard on a PROT_READ region opens it for
 * reading only.
 *
 * Returns 0, or:
 *  - -EINVAL: no region, or unknown rights
 *
 * For a key that is not dedicated also:
 *  - -ENOMEM, -EACCES: the kernel, a security policy or a sandbox refuses the page rights, or there
 *    is no memory
 *  - -EDEADLK: called where this thread has the library's lock (pkeyguard.h)
 *
 * For a virtual key also the following; but never when the key has a pkey and the calling thread is
 * registered (thread.h):
 *  - -EBUSY: open guards pin every pkey
 *  - -EAGAIN: a thread that is not registered may have a pkey open, or the threads cannot be
 *    counted (there is no /proc, or a sandbox refuses membarrier(2)). That thread can be the
 *    calling one: it cannot be registered in a signal handler whose return may open a pkey again,
 *    nor on a stack that the program made.
 *  - -ENOSPC: no pkey is left for virtual keys: dedicated keys, or other users of pkey_alloc(2),
 *    have them all
 *
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(3))) PKEYGUARD_INLINE int
pkeyguard_acquire(struct pkeyguard_region *region, enum pkeyguard_rights rights,
                  struct pkeyguard_guard *ret_guard);

/*
 * pkeyguard_key_acquire - open every region of a key with at least these rights
 *
 * A region that joins the key while the guard is held is open, too.
 *
 * Returns as pkeyguard_acquire(), with -EINVAL: no key, or unknown rights.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(3))) PKEYGUARD_INLINE int
pkeyguard_key_acquire(struct pkeyguard_key *key, enum pkeyguard_rights rights,
                      struct pkeyguard_guard *ret_guard);

/*
 * pkeyguard_restrict - narrow a region to at most these rights
 * @ret_guard: empty on failure
 *
 * Under PKU it narrows the whole key for the calling thread, whatever other guards the thread
 * holds. Under mprotect it narrows the rights that this region has with no guard open, in every
 * thread. What other guards opened stays open. It never widens.
 *
 * Returns as pkeyguard_acquire().
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(3))) PKEYGUARD_INLINE int
pkeyguard_restrict(struct pkeyguard_region *region, enum pkeyguard_rights rights,
                   struct pkeyguard_guard *ret_guard);

/*
 * pkeyguard_acquire_all - open several regions, all or none
 * @count: how many regions, rights and guards there are
 * @regions, @rights: a region may occur more than once
 * @ret_guards: release them one by one, in any order; all are empty on failure
 *
 * If other threads pin the pkeys that virtual keys need here, the function waits for them. It does
 * not wait in a signal handler, or if the calling thread already has a virtual key open. So threads
 * never wait for each other as long as each opens virtual keys by one such call at a time.
 *
 * Returns as pkeyguard_acquire(), with -EBUSY: it may not wait, or the regions need more pkeys than
 * there are.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result)) int
pkeyguard_acquire_all(size_t count, struct pkeyguard_region *const regions[],
                      const enum pkeyguard_rights rights[], struct pkeyguard_guard ret_guards[]);

/*
 * pkeyguard_acquire_timed - pkeyguard_acquire() that waits for a pkey
 * pkeyguard_key_acquire_timed - pkeyguard_key_acquire() that waits for a pkey
 * pkeyguard_acquire_all_timed - pkeyguard_acquire_all() that waits for pkeys
 * @milliseconds: how long to wait; 0: one try
 *
 * They wait for what -EBUSY and -EAGAIN report: a pkey that is unpinned, a thread that registers or
 * ends. They also wait in a signal handler, and in a thread that has virtual keys open itself:
 * threads that wait for each other all fail at their limits. They never abort. Keys that are not
 * virtual need no waiting.
 *
 * Returns as the function without _timed, but -ETIMEDOUT in place of -EBUSY and -EAGAIN.
 * Thread: any. Signal: async-signal-safe. Since 0.2.
 */
__attribute__((warn_unused_result, nonnull(4))) int
pkeyguard_acquire_timed(struct pkeyguard_region *region, enum pkeyguard_rights rights,
                        unsigned milliseconds, struct pkeyguard_guard *ret_guard);
__attribute__((warn_unused_result, nonnull(4))) int
pkeyguard_key_acquire_timed(struct pkeyguard_key *key, enum pkeyguard_rights rights,
                            unsigned milliseconds, struct pkeyguard_guard *ret_guard);
__attribute__((warn_unused_result)) int
pkeyguard_acquire_all_timed(size_t count, struct pkeyguard_region *const regions[],
                            const enum pkeyguard_rights rights[], unsigned milliseconds,
                            struct pkeyguard_guard ret_guards[]);

/*
 * pkeyguard_release - give back what a guard changed
 * @guard: empty afterwards; an empty or already released guard does nothing
 *
 * It keeps errno. Under mprotect it prints one line on stderr and aborts if it cannot take the
 * rights away: the kernel or a sandbox refuses the page rights, a copy of the guard was released
 * before and no other guard is open, or this thread has the library's lock (pkeyguard.h).
 * Thread: the one that acquired. Signal: async-signal-safe. Since 0.1.
 */
__attribute__((nonnull)) PKEYGUARD_INLINE void pkeyguard_release(struct pkeyguard_guard *guard);

/*
 * The scopes. `T` is the type of the object and `name` the pointer to it, which the macro declares.
 * If the guard cannot be acquired, scoped_* and auto_* print one line on stderr and abort, and
 * try_* run their else branch with errno set (pkeyguard_acquire()). A type larger than the region,
 * or an object that is not wholly inside it, is such a failure, with EINVAL; so is a type that
 * needs more alignment than its place in a PKEYGUARD_REGION_END_ALIGNED region has. Each argument
 * is evaluated once.
 *
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */

/*
 * pkeyguard_scoped_read, pkeyguard_scoped_write - open a region for the block that follows
 *
 * `name` points to the region's start: to a `T`, in a read scope to a `const T`.
 */
#define pkeyguard_scoped_read(T, name, region)    \
    PKEYGUARD_SCOPE_(__typeof__(T) const *, name, \
                     PKEYGUARD_OPEN_(T, name, pkeyguard_assume_read(region), PKEYGUARD_READ_ONLY))
#define pkeyguard_scoped_write(T, name, region) \
    PKEYGUARD_SCOPE_(                           \
        __typeof__(T) *, name,                  \
        PKEYGUARD_OPEN_(T, name, pkeyguard_assume_write(region), PKEYGUARD_READ_WRITE))

/*
 * pkeyguard_scoped_read_at, pkeyguard_scoped_write_at - open a region for one object in it
 *
 * The region is open for the block that follows. `name` is a copy of `pointer`, which must point to
 * a T in the region.
 */
#define pkeyguard_scoped_read_at(T, name, region, pointer) \
    PKEYGUARD_SCOPE_(                                      \
        __typeof__(T) const *, name,                       \
        PKEYGUARD_OPEN_AT_(T, name, pkeyguard_assume_read(region), pointer, PKEYGUARD_READ_ONLY))
#define pkeyguard_scoped_write_at(T, name, region, pointer)                               \
    PKEYGUARD_SCOPE_(__typeof__(T) *, name,                                               \
                     PKEYGUARD_OPEN_AT_(T, name, pkeyguard_assume_write(region), pointer, \
                                        PKEYGUARD_READ_WRITE))

/*
 * pkeyguard_scoped_read_bytes, pkeyguard_scoped_write_bytes - open a region for bytes in it
 *
 * The region is open for the block that follows. `name` points to unsigned chars and is a copy of
 * `pointer`. The `length` bytes from there on must be inside the region. Since 0.2.
 */
#define pkeyguard_scoped_read_bytes(name, region, pointer, length)                               \
    PKEYGUARD_SCOPE_(unsigned char const *, name,                                                \
                     PKEYGUARD_OPEN_BYTES_(name, pkeyguard_assume_read(region), pointer, length, \
                                           PKEYGUARD_READ_ONLY))
#define pkeyguard_scoped_write_bytes(name, region, pointer, length)                               \
    PKEYGUARD_SCOPE_(unsigned char *, name,                                                       \
                     PKEYGUARD_OPEN_BYTES_(name, pkeyguard_assume_write(region), pointer, length, \
                                           PKEYGUARD_READ_WRITE))

/*
 * pkeyguard_scoped_key_read, pkeyguard_scoped_key_write - open every region of a key for a block
 *
 * The regions are open for the block that follows. `name` is the guard's name.
 */
#define pkeyguard_scoped_key_read(name, key) \
    PKEYGUARD_GUARD_SCOPE_(                  \
        name, pkeyguard_guard_release,       \
        pkeyguard_key_scope_open(&name, key, PKEYGUARD_READ_ONLY, PKEYGUARD_HERE_))
#define pkeyguard_scoped_key_write(name, key) \
    PKEYGUARD_GUARD_SCOPE_(                   \
        name, pkeyguard_guard_release,        \
        pkeyguard_key_scope_open(&name, key, PKEYGUARD_READ_WRITE, PKEYGUARD_HERE_))

/*
 * pkeyguard_scoped_restrict - narrow a region to at most some rights for the block that follows
 *
 * `name` is the guard's name. See pkeyguard_restrict().
 */
#define pkeyguard_scoped_restrict(name, region, rights)          \
    PKEYGUARD_GUARD_SCOPE_(name, pkeyguard_restrict_scope_close, \
                           pkeyguard_restrict_scope_open(&name, region, rights, PKEYGUARD_HERE_))

/*
 * pkeyguard_try_scoped_read, pkeyguard_try_scoped_write - open a region, or run the else branch
 * pkeyguard_try_scoped_read_at, pkeyguard_try_scoped_write_at - the same for one object in it
 * pkeyguard_try_scoped_read_bytes, pkeyguard_try_scoped_write_bytes - the same for bytes in it
 *
 *     pkeyguard_try_scoped_read(int, secret, region) {
 *         use(*secret);        the region is open
 *     } else {
 *         perror("secret");    it is not: errno is set, secret is NULL
 *     }
 *
 * The arguments are those of the forms without try. The forms for bytes are new in 0.2. Since 0.1.
 */
#define pkeyguard_try_scoped_read(T, name, region) \
    PKEYGUARD_TRY_SCOPE_(                          \
        __typeof__(T) const *, name,               \
        PKEYGUARD_TRY_OPEN_(T, name, pkeyguard_assume_read(region), PKEYGUARD_READ_ONLY))
#define pkeyguard_try_scoped_write(T, name, region) \
    PKEYGUARD_TRY_SCOPE_(                           \
        __typeof__(T) *, name,                      \
        PKEYGUARD_TRY_OPEN_(T, name, pkeyguard_assume_write(region), PKEYGUARD_READ_WRITE))
#define pkeyguard_try_scoped_read_at(T, name, region, pointer)                                   \
    PKEYGUARD_TRY_SCOPE_(__typeof__(T) const *, name,                                            \
                         PKEYGUARD_TRY_OPEN_AT_(T, name, pkeyguard_assume_read(region), pointer, \
                                                PKEYGUARD_READ_ONLY))
#define pkeyguard_try_scoped_write_at(T, name, region, pointer)                                   \
    PKEYGUARD_TRY_SCOPE_(__typeof__(T) *, name,                                                   \
                         PKEYGUARD_TRY_OPEN_AT_(T, name, pkeyguard_assume_write(region), pointer, \
                                                PKEYGUARD_READ_WRITE))
#define pkeyguard_try_scoped_read_bytes(name, region, pointer, length)                           \
    PKEYGUARD_TRY_SCOPE_(unsigned char const *, name,                                            \
                         PKEYGUARD_TRY_OPEN_BYTES_(name, pkeyguard_assume_read(region), pointer, \
                                                   length, PKEYGUARD_READ_ONLY))
#define pkeyguard_try_scoped_write_bytes(name, region, pointer, length)                           \
    PKEYGUARD_TRY_SCOPE_(unsigned char *, name,                                                   \
                         PKEYGUARD_TRY_OPEN_BYTES_(name, pkeyguard_assume_write(region), pointer, \
                                                   length, PKEYGUARD_READ_WRITE))

/*
 * pkeyguard_auto_read, pkeyguard_auto_write - open a region until the end of the enclosing block
 * pkeyguard_auto_read_at, pkeyguard_auto_write_at - the same for one object in it
 * pkeyguard_auto_read_bytes, pkeyguard_auto_write_bytes - the same for bytes in it
 *
 * They declare `name`. Use them where a declaration may stand. The arguments are those of the
 * scoped forms. The forms for bytes are new in 0.2. Since 0.1.
 */
#define pkeyguard_auto_read(T, name, region)     \
    PKEYGUARD_AUTO_(__typeof__(T) const *, name, \
                    PKEYGUARD_OPEN_(T, name, pkeyguard_assume_read(region), PKEYGUARD_READ_ONLY))
#define pkeyguard_auto_write(T, name, region) \
    PKEYGUARD_AUTO_(                          \
        __typeof__(T) *, name,                \
        PKEYGUARD_OPEN_(T, name, pkeyguard_assume_write(region), PKEYGUARD_READ_WRITE))
#define pkeyguard_auto_read_at(T, name, region, pointer) \
    PKEYGUARD_AUTO_(                                     \
        __typeof__(T) const *, name,                     \
        PKEYGUARD_OPEN_AT_(T, name, pkeyguard_assume_read(region), pointer, PKEYGUARD_READ_ONLY))
#define pkeyguard_auto_write_at(T, name, region, pointer)                                \
    PKEYGUARD_AUTO_(__typeof__(T) *, name,                                               \
                    PKEYGUARD_OPEN_AT_(T, name, pkeyguard_assume_write(region), pointer, \
                                       PKEYGUARD_READ_WRITE))
#define pkeyguard_auto_read_bytes(name, region, pointer, length)                                \
    PKEYGUARD_AUTO_(unsigned char const *, name,                                                \
                    PKEYGUARD_OPEN_BYTES_(name, pkeyguard_assume_read(region), pointer, length, \
                                          PKEYGUARD_READ_ONLY))
#define pkeyguard_auto_write_bytes(name, region, pointer, length)                                \
    PKEYGUARD_AUTO_(unsigned char *, name,                                                       \
                    PKEYGUARD_OPEN_BYTES_(name, pkeyguard_assume_write(region), pointer, length, \
                                          PKEYGUARD_READ_WRITE))

/* ---- For the inline code above; do not call these yourself. ---- */

#ifndef PKEYGUARD_DECLARATIONS_ONLY

/*
 * In a guard's undo, beside the address of a key: the guard narrows the key, to rights that are two
 * bits from RIGHTS on; and which deny bits it has set.
 */
enum { PKEYGUARD_UNDO_NARROWS = 3, PKEYGUARD_UNDO_RIGHTS = 2 };
#define PKEYGUARD_UNDO_SET_AD (UINT64_C(1) << 62)
#define PKEYGUARD_UNDO_SET_WD (UINT64_C(1) << 63)

/* How a guard is opened: an enum pkeyguard_rights, or 0 for an unknown one, with these flags. */
enum {
    PKEYGUARD_GUARD_RIGHTS = 3,    /* the bits of the rights */
    PKEYGUARD_GUARD_OF_KEY = 4,    /* of a whole key, not of a region */
    PKEYGUARD_GUARD_RESTRICTS = 8, /* narrows */
    PKEYGUARD_GUARD_MAY_FAIL = 16, /* a try form */
    PKEYGUARD_GUARD_BARE = 32,     /* not a scope */
    PKEYGUARD_GUARD_ALIGNMENT = 8  /* not a flag: from this bit on, log2 of the type's alignment */
};

/*
 * pkeyguard_call_open, _close, _open_quickly: the slow path, for everything that the fast path does
 * not handle: keys that are not dedicated, pkeyguard_restrict(), rights taken away that a key's
 * default allows, a pkey with access-disable alone (as in signal handlers), and bad arguments.
 *
 * open: opens a region or key (target). The size bytes from offset on must be inside the region,
 * and aligned as flags say if the region is END_ALIGNED.
 * `where` is a file and line. It returns what has to be undone, and in address:
 *  - of a bare guard: 0 or -errno
 *  - of a try form that fails: NULL; errno is set
 *  - else the address in the region, or the key. A scope that cannot be opened waits where that
 *    helps, or prints one line on stderr and aborts.
 *
 * close: undoes that, if it is not 0. It keeps errno.
 *
 * open_quickly: opens a virtual key that has a pkey, or a region or software key that this thread
 * has open already, for PKEYGUARD_READ_ONLY or PKEYGUARD_READ_WRITE. The key is the region's, or
 * target itself. It returns what has to be undone. 0: not handled, nothing has changed.
 */
struct pkeyguard_opened {
    void *address;
    uint64_t undo;
};

#ifdef __x86_64__
#include <pkeyguard/arch/calls.h>
#else
/* On other CPUs they are plain functions of the library. */
#define pkeyguard_call_open  pkeyguard_kept_open
#define pkeyguard_call_close pkeyguard_kept_close
#define pkeyguard_call_open_quickly(target, key, rights)                          \
    ((rights) == PKEYGUARD_READ_WRITE ? pkeyguard_kept_open_to_write(target, key) \
                                      : pkeyguard_kept_open_to_read(target, key))
__attribute__((nothrow)) void *pkeyguard_call_open(void *target, size_t size, size_t offset,
                                                   const char *where, unsigned flags,
                                                   uint64_t *ret_undo);
__attribute__((nothrow)) void pkeyguard_call_close(uint64_t undo);
__attribute__((nothrow)) uint64_t pkeyguard_kept_open_to_write(void *target,
                                                               struct pkeyguard_key *key);
__attribute__((nothrow)) uint64_t pkeyguard_kept_open_to_read(void *target,
                                                              struct pkeyguard_key *key);
#endif

/* The same with PKEYGUARD_DEBUG. `where` may be NULL. */
#define PKEYGUARD_GUARD_CHECKED (UINT64_C(1) << 59) /* in undo: there is something to check */
__attribute__((nothrow)) void *pkeyguard_checked_open(void *target, size_t size, size_t offset,
                                                      const char *where, unsigned flags,
                                                      struct pkeyguard_guard *ret_guard);
__attribute__((nothrow)) void pkeyguard_checked_close(struct pkeyguard_guard *guard,
                                                      const char *where);
__attribute__((warn_unused_result)) int
pkeyguard_checked_acquire_all(size_t count, struct pkeyguard_region *const regions[],
                              const enum pkeyguard_rights rights[],
                              struct pkeyguard_guard ret_guards[], const char *where);
__attribute__((warn_unused_result)) int
pkeyguard_checked_acquire_timed(void *target, unsigned flags, unsigned milliseconds,
                                struct pkeyguard_guard *ret_guard, const char *where);
__attribute__((warn_unused_result)) int
pkeyguard_checked_acquire_all_timed(size_t count, struct pkeyguard_region *const regions[],
                                    const enum pkeyguard_rights rights[], unsigned milliseconds,
                                    struct pkeyguard_guard ret_guards[], const char *where);

/* Empties a guard that is about to be acquired, before anything that could fail, throw or end the
 * thread: the cleanup releases the guard in any case. */
static inline void pkeyguard_guard_empty(struct pkeyguard_guard *guard)
{
    guard->cleared = 0;
    guard->undo = 0;
}

/*
 * The same for a scope. Returns what its loop variable is until the scope has run: a pointer that
 * is not NULL. It is not the guard's address, for which gcc would keep the guard in memory.
 */
static inline struct pkeyguard_guard *pkeyguard_scope_begin(struct pkeyguard_guard *guard)
{
    pkeyguard_guard_empty(guard);
    return PKEYGUARD_VIEW_(struct pkeyguard_guard *, sizeof(*guard));
}

/* Fast path of dedicated keys: widens the key in PKRU. False: not handled, nothing changed. */
__attribute__((always_inline)) static inline bool
pkeyguard_guard_widen(const struct pkeyguard_key_head *bits, unsigned flags,
                      struct pkeyguard_guard *empty_guard)
{
    unsigned rights = flags & PKEYGUARD_GUARD_RIGHTS;

    if (flags & PKEYGUARD_GUARD_RESTRICTS)
        return false;
    if (rights == PKEYGUARD_READ_WRITE) {
        empty_guard->cleared = pkeyguard_pkru_clear_bits(bits->ad_wd, &empty_guard->undo);
        return true;
    }
    return rights == PKEYGUARD_READ_ONLY &&
           pkeyguard_pkru_allow_reads(bits->ad, &bits->wd, &empty_guard->cleared);
}

static inline const struct pkeyguard_region_head *
pkeyguard_guard_head(const struct pkeyguard_region *region)
{
    return PKEYGUARD_VIEW_(const struct pkeyguard_region_head *, region);
}

/* True if the bytes lie inside a region of this size. 0: no region, or none for the fast path. */
static inline bool pkeyguard_guard_fits(size_t size, size_t offset, size_t of_region)
{
    return of_region != 0 && size <= of_region && offset <= of_region - size;
}

/* The same for other keys, where that needs no lock. */
__attribute__((always_inline)) static inline bool
pkeyguard_guard_open_quickly(void *target, struct pkeyguard_key *key, unsigned flags,
                             struct pkeyguard_guard *empty_guard)
{
    unsigned rights = flags & PKEYGUARD_GUARD_RIGHTS;

    if (flags & PKEYGUARD_GUARD_RESTRICTS || rights < PKEYGUARD_READ_ONLY)
        return false;
    empty_guard->undo =
        pkeyguard_call_open_quickly(target, key, PKEYGUARD_CAST_(enum pkeyguard_rights, rights));
    return empty_guard->undo != 0;
}

/* What the fast path does not handle. */
__attribute__((always_inline)) static inline void *
pkeyguard_guard_open_slowly(struct pkeyguard_region *region, size_t size, size_t offset,
                            const char *where, unsigned flags, struct pkeyguard_guard *empty_guard)
{
    const struct pkeyguard_region_head *head = pkeyguard_guard_head(region);

    if (region != NULL && pkeyguard_guard_fits(size, offset, head->size) &&
        pkeyguard_guard_open_quickly(region, head->key, flags, empty_guard))
        return flags & PKEYGUARD_GUARD_BARE ? NULL : head->address + offset;
    return pkeyguard_call_open(region, size, offset, where, flags, &empty_guard->undo);
}

__attribute__((always_inline)) static inline void *
pkeyguard_guard_open_key_slowly(struct pkeyguard_key *key, const char *where, unsigned flags,
                                struct pkeyguard_guard *empty_guard)
{
    if (key != NULL && pkeyguard_guard_open_quickly(key, key, flags, empty_guard))
        return flags & PKEYGUARD_GUARD_BARE ? NULL : key;
    return pkeyguard_call_open(key, 0, 0, where, flags, &empty_guard->undo);
}

/* Acquires an empty guard on a region. Returns what the form of the guard returns. */
__attribute__((always_inline)) static inline void *
pkeyguard_guard_open_region(struct pkeyguard_region *region, size_t size, size_t offset,
                            const char *where, unsigned flags, struct pkeyguard_guard *empty_guard)
{
#ifdef PKEYGUARD_DEBUG
    return pkeyguard_checked_open(region, size, offset, where, flags, empty_guard);
#else
    const struct pkeyguard_region_head *head = pkeyguard_guard_head(region);

    if (__builtin_expect(region != NULL && pkeyguard_guard_fits(size, offset, head->open_size) &&
                             pkeyguard_guard_widen(&head->bits, flags, empty_guard),
                         1))
        return flags & PKEYGUARD_GUARD_BARE ? NULL : head->address + offset;
    return pkeyguard_guard_open_slowly(region, size, offset, where, flags, empty_guard);
#endif
}

/* The same for a key. */
__attribute__((always_inline)) static inline void *
pkeyguard_guard_open_key(struct pkeyguard_key *key, const char *where, unsigned flags,
                         struct pkeyguard_guard *empty_guard)
{
    flags |= PKEYGUARD_GUARD_OF_KEY;
#ifdef PKEYGUARD_DEBUG
    return pkeyguard_checked_open(key, 0, 0, where, flags, empty_guard);
#else
    const struct pkeyguard_key_head *bits = PKEYGUARD_VIEW_(const struct pkeyguard_key_head *, key);

    if (__builtin_expect(
            key != NULL && bits->ad_wd != 0 && pkeyguard_guard_widen(bits, flags, empty_guard), 1))
        return flags & PKEYGUARD_GUARD_BARE ? NULL : key;
    return pkeyguard_guard_open_key_slowly(key, where, flags, empty_guard);
#endif
}

/* Of a bare guard. */
static inline unsigned pkeyguard_guard_flags(enum pkeyguard_rights rights)
{
    unsigned known = PKEYGUARD_CAST_(unsigned, rights);

    return PKEYGUARD_GUARD_BARE | (known > PKEYGUARD_GUARD_RIGHTS ? 0 : known);
}

/*
 * The result of a bare function: the error that open returned as an address. After one each member
 * of the guard is 0; they are set one by one, because a local guard for which memset() is called
 * stays in memory.
 */
static inline int pkeyguard_guard_result(const void *address, struct pkeyguard_guard *guard)
{
    int error = PKEYGUARD_NARROW_(int, PKEYGUARD_VIEW_(intptr_t, address));

    if (error != 0) {
        pkeyguard_guard_empty(guard);
        guard->narrowed = 0;
        guard->holder = guard->number = 0;
        guard->where = NULL;
        guard->region = NULL;
        guard->key_generation = guard->expected_change = 0;
        guard->reserved_too[0] = guard->reserved_too[1] = 0;
    }
    return error;
}

__attribute__((warn_unused_result, nonnull(3))) static inline int
pkeyguard_acquire_at(struct pkeyguard_region *region, enum pkeyguard_rights rights,
                     struct pkeyguard_guard *ret_guard, const char *where)
{
    unsigned flags = pkeyguard_guard_flags(rights);

    pkeyguard_guard_empty(ret_guard);
    return pkeyguard_guard_result(
        pkeyguard_guard_open_region(region, 0, 0, where, flags, ret_guard), ret_guard);
}

__attribute__((warn_unused_result, nonnull(3))) static inline int
pkeyguard_key_acquire_at(struct pkeyguard_key *key, enum pkeyguard_rights rights,
                         struct pkeyguard_guard *ret_guard, const char *where)
{
    unsigned flags = pkeyguard_guard_flags(rights);

    pkeyguard_guard_empty(ret_guard);
    return pkeyguard_guard_result(pkeyguard_guard_open_key(key, where, flags, ret_guard),
                                  ret_guard);
}

__attribute__((warn_unused_result, nonnull(3))) static inline int
pkeyguard_restrict_at(struct pkeyguard_region *region, enum pkeyguard_rights rights,
                      struct pkeyguard_guard *ret_guard, const char *where)
{
    unsigned flags = pkeyguard_guard_flags(rights) | PKEYGUARD_GUARD_RESTRICTS;

    pkeyguard_guard_empty(ret_guard);
    return pkeyguard_guard_result(
        pkeyguard_guard_open_region(region, 0, 0, where, flags, ret_guard), ret_guard);
}

__attribute__((nonnull(1), always_inline)) static inline void
pkeyguard_release_at(struct pkeyguard_guard *guard, const char *where)
{
#ifdef PKEYGUARD_DEBUG
    if (guard->undo & PKEYGUARD_GUARD_CHECKED) {
        pkeyguard_checked_close(guard, where);
        guard->undo = 0;
        return;
    }
#else
    (void)where;
#endif
    if (__builtin_expect(guard->cleared != 0, 1)) {
        pkeyguard_pkru_set_bits(guard->cleared);
        guard->cleared = 0;
    } else if (guard->undo != 0) {
        pkeyguard_call_close(guard->undo);
        guard->undo = 0;
    }
}

PKEYGUARD_INLINE int pkeyguard_acquire(struct pkeyguard_region *region,
                                       enum pkeyguard_rights rights,
                                       struct pkeyguard_guard *ret_guard)
{
    return pkeyguard_acquire_at(region, rights, ret_guard, NULL);
}

PKEYGUARD_INLINE int pkeyguard_key_acquire(struct pkeyguard_key *key, enum pkeyguard_rights rights,
                                           struct pkeyguard_guard *ret_guard)
{
    return pkeyguard_key_acquire_at(key, rights, ret_guard, NULL);
}

PKEYGUARD_INLINE int pkeyguard_restrict(struct pkeyguard_region *region,
                                        enum pkeyguard_rights rights,
                                        struct pkeyguard_guard *ret_guard)
{
    return pkeyguard_restrict_at(region, rights, ret_guard, NULL);
}

PKEYGUARD_INLINE void pkeyguard_release(struct pkeyguard_guard *guard)
{
    pkeyguard_release_at(guard, NULL);
}

/* The cleanup of scopes. */
__attribute__((always_inline)) static inline void
pkeyguard_guard_release(struct pkeyguard_guard *guard)
{
    pkeyguard_release_at(guard, NULL);
}

/* For a pointer before the region the offset wraps around and is too large for any region. */
static inline size_t pkeyguard_guard_offset(const struct pkeyguard_region *region,
                                            const void *pointer)
{
    return region == NULL ? 0
                          : PKEYGUARD_VIEW_(uintptr_t, pointer) -
                                PKEYGUARD_VIEW_(uintptr_t, pkeyguard_guard_head(region)->address);
}

static inline void *pkeyguard_scope_open(struct pkeyguard_guard *guard,
                                         struct pkeyguard_region *region, size_t size,
                                         unsigned flags, const char *where)
{
    return pkeyguard_guard_open_region(region, size, 0, where, flags, guard);
}

static inline void *pkeyguard_scope_open_at(struct pkeyguard_guard *guard,
                                            struct pkeyguard_region *region, const void *pointer,
                                            size_t size, unsigned flags, const char *where)
{
    return pkeyguard_guard_open_region(region, size, pkeyguard_guard_offset(region, pointer), where,
                                       flags, guard);
}

static inline void *pkeyguard_scope_try_open(struct pkeyguard_guard *guard,
                                             struct pkeyguard_region *region, size_t size,
                                             unsigned flags, const char *where)
{
    return pkeyguard_guard_open_region(region, size, 0, where, flags | PKEYGUARD_GUARD_MAY_FAIL,
                                       guard);
}

static inline void *pkeyguard_scope_try_open_at(struct pkeyguard_guard *guard,
                                                struct pkeyguard_region *region,
                                                const void *pointer, size_t size, unsigned flags,
                                                const char *where)
{
    return pkeyguard_guard_open_region(region, size, pkeyguard_guard_offset(region, pointer), where,
                                       flags | PKEYGUARD_GUARD_MAY_FAIL, guard);
}

static inline struct pkeyguard_guard *pkeyguard_key_scope_open(struct pkeyguard_guard *guard,
                                                               struct pkeyguard_key *key,
                                                               enum pkeyguard_rights rights,
                                                               const char *where)
{
    pkeyguard_guard_open_key(key, where, rights, guard);
    return guard;
}

/*
 * Fast path of restrict scopes on dedicated keys: narrows the key in PKRU. It leaves it to the slow
 * path to give up rights that the key's default rights allow, for that is recorded. False: not
 * handled, nothing changed.
 */
__attribute__((always_inline)) static inline bool
pkeyguard_guard_narrow(const struct pkeyguard_region_head *head, enum pkeyguard_rights rights,
                       struct pkeyguard_guard *empty_guard)
{
    const struct pkeyguard_key_head *bits = &head->bits;
    bool to_read = rights == PKEYGUARD_READ_ONLY;
    uint32_t set;

    if ((!to_read && rights != PKEYGUARD_NO_ACCESS) ||
        (bits->default_deny & (to_read ? bits->wd : bits->ad)) == 0)
        return false;
    set = pkeyguard_pkru_set_missing_bits(to_read ? bits->wd : bits->ad_wd);
    empty_guard->narrowed = set;
    if (set != 0)
        empty_guard->undo = PKEYGUARD_VIEW_(uintptr_t, head->key) | PKEYGUARD_UNDO_NARROWS |
                            PKEYGUARD_CAST_(unsigned, rights) << PKEYGUARD_UNDO_RIGHTS |
                            (set & bits->ad ? PKEYGUARD_UNDO_SET_AD : 0) |
                            (set & bits->wd ? PKEYGUARD_UNDO_SET_WD : 0);
    return true;
}

__attribute__((always_inline)) static inline struct pkeyguard_guard *
pkeyguard_restrict_scope_open(struct pkeyguard_guard *guard, struct pkeyguard_region *region,
                              enum pkeyguard_rights rights, const char *where)
{
    unsigned flags = pkeyguard_guard_flags(rights) & PKEYGUARD_GUARD_RIGHTS;

#ifndef PKEYGUARD_DEBUG
    if (__builtin_expect(region != NULL &&
                             pkeyguard_guard_narrow(pkeyguard_guard_head(region), rights, guard),
                         1))
        return guard;
#endif
    guard->narrowed = 0;
    pkeyguard_guard_open_region(region, 0, 0, where, flags | PKEYGUARD_GUARD_RESTRICTS, guard);
    return guard;
}

/* The cleanup of restrict scopes. */
__attribute__((always_inline)) static inline void
pkeyguard_restrict_scope_close(struct pkeyguard_guard *guard)
{
    uint64_t unused;

    if (guard->undo != 0 && guard->narrowed != 0) {
        (void)pkeyguard_pkru_clear_bits(guard->narrowed, &unused);
        guard->undo = 0;
        return;
    }
    pkeyguard_release_at(guard, NULL);
}

/* Hidden names are made from the user's name, so that scopes can nest on one line or inside another
 * macro without shadowing a variable. */
#define PKEYGUARD_PASTE_(a, b)   a##b
#define PKEYGUARD_HIDDEN_(a, b)  PKEYGUARD_PASTE_(a, b)
#define PKEYGUARD_NAME_(name)    PKEYGUARD_HIDDEN_(name, _pkeyguard_guard)
#define PKEYGUARD_ONCE_(name)    PKEYGUARD_HIDDEN_(name, _pkeyguard_once)
#define PKEYGUARD_STRING_(line)  #line
#define PKEYGUARD_AT_LINE_(line) __FILE__ ":" PKEYGUARD_STRING_(line)
#define PKEYGUARD_HERE_          PKEYGUARD_AT_LINE_(__LINE__)

/* Of a scope of this type. */
#define PKEYGUARD_FLAGS_(T, rights)                                        \
    (PKEYGUARD_CAST_(unsigned, rights) |                                   \
     PKEYGUARD_CAST_(unsigned, __builtin_ctzl(__alignof__(__typeof__(T)))) \
         << PKEYGUARD_GUARD_ALIGNMENT)

#define PKEYGUARD_OPEN_(T, name, region, rights)                                                 \
    pkeyguard_scope_open(&PKEYGUARD_NAME_(name), region, sizeof(T), PKEYGUARD_FLAGS_(T, rights), \
                         PKEYGUARD_HERE_)
#define PKEYGUARD_OPEN_AT_(T, name, region, pointer, rights)                    \
    pkeyguard_scope_open_at(&PKEYGUARD_NAME_(name), region, pointer, sizeof(T), \
                            PKEYGUARD_FLAGS_(T, rights), PKEYGUARD_HERE_)
#define PKEYGUARD_TRY_OPEN_(T, name, region, rights)                    \
    pkeyguard_scope_try_open(&PKEYGUARD_NAME_(name), region, sizeof(T), \
                             PKEYGUARD_FLAGS_(T, rights), PKEYGUARD_HERE_)
#define PKEYGUARD_TRY_OPEN_AT_(T, name, region, pointer, rights)                    \
    pkeyguard_scope_try_open_at(&PKEYGUARD_NAME_(name), region, pointer, sizeof(T), \
                                PKEYGUARD_FLAGS_(T, rights), PKEYGUARD_HERE_)

#define PKEYGUARD_OPEN_BYTES_(name, region, pointer, length, rights)         \
    pkeyguard_scope_open_at(&PKEYGUARD_NAME_(name), region, pointer, length, \
                            PKEYGUARD_CAST_(unsigned, rights), PKEYGUARD_HERE_)
#define PKEYGUARD_TRY_OPEN_BYTES_(name, region, pointer, length, rights)         \
    pkeyguard_scope_try_open_at(&PKEYGUARD_NAME_(name), region, pointer, length, \
                                PKEYGUARD_CAST_(unsigned, rights), PKEYGUARD_HERE_)

#define PKEYGUARD_DECLARE_(name)                           \
    struct pkeyguard_guard PKEYGUARD_NAME_(name)           \
        __attribute__((cleanup(pkeyguard_guard_release))), \
        *PKEYGUARD_ONCE_(name) __attribute__((unused)) =   \
            pkeyguard_scope_begin(&PKEYGUARD_NAME_(name))

/*
 * A scope is two for loops that run once: one loop cannot declare variables of two types. break and
 * continue end both. The region is opened inside the first loop, so Clang's analysis, too, takes it
 * for open only there. The condition of try_* tests the loop variable again before it opens the
 * region. So the analysis sees a path to the else branch on which the region is closed.
 */
#define PKEYGUARD_LOOPS_(pointer_type, name, value)                                             \
    for (PKEYGUARD_DECLARE_(name); PKEYGUARD_ONCE_(name) != NULL; PKEYGUARD_ONCE_(name) = NULL) \
        for (pointer_type name __attribute__((unused)) = value; PKEYGUARD_ONCE_(name) != NULL;  \
             PKEYGUARD_ONCE_(name) = NULL)
#define PKEYGUARD_SCOPE_(pointer_type, name, opened) \
    PKEYGUARD_LOOPS_(pointer_type, name, PKEYGUARD_CAST_(pointer_type, opened))
#define PKEYGUARD_TRY_SCOPE_(pointer_type, name, opened) \
    PKEYGUARD_LOOPS_(pointer_type, name, NULL)           \
    if (PKEYGUARD_ONCE_(name) != NULL && (name = PKEYGUARD_CAST_(pointer_type, opened)) != NULL)
#define PKEYGUARD_AUTO_(pointer_type, name, opened) \
    PKEYGUARD_DECLARE_(name);                       \
    pointer_type name __attribute__((unused)) = PKEYGUARD_CAST_(pointer_type, opened)
#define PKEYGUARD_GUARD_SCOPE_(name, close, opened)                       \
    for (struct pkeyguard_guard name __attribute__((cleanup(close))),     \
         *PKEYGUARD_ONCE_(name) = (pkeyguard_guard_empty(&name), opened); \
         PKEYGUARD_ONCE_(name) != NULL; PKEYGUARD_ONCE_(name) = NULL)

/* In a debug build the bare functions, too, know where they are called. */
#ifdef PKEYGUARD_DEBUG
__attribute__((warn_unused_result, nonnull(4))) static inline int
pkeyguard_acquire_timed_at(struct pkeyguard_region *region, enum pkeyguard_rights rights,
                           unsigned milliseconds, struct pkeyguard_guard *ret_guard,
                           const char *where)
{
    return pkeyguard_checked_acquire_timed(region, pkeyguard_guard_flags(rights), milliseconds,
                                           ret_guard, where);
}

__attribute__((warn_unused_result, nonnull(4))) static inline int
pkeyguard_key_acquire_timed_at(struct pkeyguard_key *key, enum pkeyguard_rights rights,
                               unsigned milliseconds, struct pkeyguard_guard *ret_guard,
                               const char *where)
{
    return pkeyguard_checked_acquire_timed(key,
                                           pkeyguard_guard_flags(rights) | PKEYGUARD_GUARD_OF_KEY,
                                           milliseconds, ret_guard, where);
}

#define pkeyguard_acquire(region, rights, ret_guard) \
    pkeyguard_acquire_at(region, rights, ret_guard, PKEYGUARD_HERE_)
#define pkeyguard_key_acquire(key, rights, ret_guard) \
    pkeyguard_key_acquire_at(key, rights, ret_guard, PKEYGUARD_HERE_)
#define pkeyguard_restrict(region, rights, ret_guard) \
    pkeyguard_restrict_at(region, rights, ret_guard, PKEYGUARD_HERE_)
#define pkeyguard_acquire_all(count, regions, rights, ret_guards) \
    pkeyguard_checked_acquire_all(count, regions, rights, ret_guards, PKEYGUARD_HERE_)
#define pkeyguard_acquire_timed(region, rights, milliseconds, ret_guard) \
    pkeyguard_acquire_timed_at(region, rights, milliseconds, ret_guard, PKEYGUARD_HERE_)
#define pkeyguard_key_acquire_timed(key, rights, milliseconds, ret_guard) \
    pkeyguard_key_acquire_timed_at(key, rights, milliseconds, ret_guard, PKEYGUARD_HERE_)
#define pkeyguard_acquire_all_timed(count, regions, rights, milliseconds, ret_guards)     \
    pkeyguard_checked_acquire_all_timed(count, regions, rights, milliseconds, ret_guards, \
                                        PKEYGUARD_HERE_)
#define pkeyguard_release(guard) pkeyguard_release_at(guard, PKEYGUARD_HERE_)
#endif

#endif

#include <pkeyguard/end.h>
#endif
