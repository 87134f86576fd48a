/* SPDX-License-Identifier: MIT */
/*
 * guard.h - guards: rights on a key or a region, given back at the end of a scope
 *
 *     pkeyguard_scoped_write(int, secret, region) {
 *         *secret = 123;
 *     }
 *     pkeyguard_scoped_read(int, secret, region) {
 *         use(*secret);            an assignment to *secret does not compile
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
 * Debugging. If PKEYGUARD_DEBUG is defined before this header is included, guards abort on misuse
 * that they can detect: a release out of order around a restrict or a change of rights, a release
 * by another thread, and a key that is open because the thread was created inside a scope
 * (thread.h).
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
 * that is not dedicated a guard may need the library's lock. It then fails with -EDEADLK in a
 * handler that interrupted this library or fork, and in a pthread_atfork(3) handler that runs while
 * fork holds the lock.
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
 * wait then, and abort where waiting cannot help:
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
 * Compile-time checks. Clang can warn where guarded data is used outside a scope (analysis.h).
 *
 * Threads and fork. A new thread starts with a copy of its creator's PKRU. So it has every scope
 * open that its creator had open, until it calls pkeyguard_thread_reset(). A fork child keeps the
 * guards of the thread that called fork, and no other thread's.
 */
#ifndef PKEYGUARD_GUARD_H
#define PKEYGUARD_GUARD_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

#include <pkeyguard/key.h>
#include <pkeyguard/pkru.h>
#include <pkeyguard/region.h>

#ifdef __cplusplus
extern "C" {
#define PKEYGUARD_CAST_(type, value) static_cast<type>(value)
#define PKEYGUARD_VIEW_(type, value) reinterpret_cast<type>(value)
#else
#define PKEYGUARD_CAST_(type, value) (value)
#define PKEYGUARD_VIEW_(type, value) ((type)(value))
#endif
#pragma GCC visibility push(default)

/*
 * A guard: a record of what it changed. The caller allocates it and does not touch its members. {0}
 * is an empty guard. The thread that acquired a guard must release it. A guard may be moved in
 * memory.
 */
struct pkeyguard_guard {
    uint32_t cleared; /* deny bits to set again in PKRU; enough to undo a widened dedicated key */
    uint32_t how;     /* how to undo any other change; 0: nothing to undo */
    uint32_t changed[2]; /* deny bits to set again, and deny bits to clear again */
    uint32_t thread;     /* id of the thread that acquired it, with PKEYGUARD_DEBUG */
    uint32_t reserved;
    struct pkeyguard_key *key;       /* the guarded key */
    struct pkeyguard_region *region; /* the guarded region; NULL: the whole key */
    uint64_t reserved_too[3];
};
PKEYGUARD_STATIC_ASSERT_(sizeof(struct pkeyguard_guard) == 48 + 2 * sizeof(void *),
                         "frozen for the ABI");

/*
 * pkeyguard_acquire - open a region with at least these rights
 * @rights: PKEYGUARD_NO_ACCESS asks for nothing and succeeds
 * @ret_guard: empty on failure
 *
 * The page rights stay in force: a write guard on a PROT_READ region opens it for reading only.
 *
 * Returns 0, or -EINVAL: no region, or unknown rights. For a key that is not dedicated also:
 *  - -ENOMEM, -EACCES: the kernel refuses the page rights, or has no memory
 *  - -EDEADLK: called from a signal handler that interrupted this library or fork
 *
 * For a virtual key also the following; but never when the key has a pkey and the calling thread is
 * registered (thread.h):
 *  - -EBUSY: open guards pin every pkey
 *  - -EAGAIN: a thread that is not registered may have a pkey open, or the threads cannot be
 *    counted (there is no /proc). That thread can be the calling one: it cannot be registered in a
 *    signal handler or on a stack that the program made.
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
 * pkeyguard_key_acquire_timed - pkeyguard_key_acquire() that does
 * pkeyguard_acquire_all_timed - pkeyguard_acquire_all() that does
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
 * rights away: the kernel refuses the page rights, a copy of the guard was released before and no
 * other guard is open, or the caller is a signal handler that interrupted this library.
 * Thread: the one that acquired. Signal: async-signal-safe. Since 0.1.
 */
__attribute__((nonnull)) PKEYGUARD_INLINE void pkeyguard_release(struct pkeyguard_guard *guard);

/*
 * The scopes. T is the type of the object and name the pointer to it, which the macro declares. If
 * the guard cannot be acquired, scoped_* and auto_* print one line on stderr and abort, and try_*
 * run their else branch with errno set. A type larger than the region, or an object that is not
 * wholly inside it, is such a failure, with EINVAL. Each argument is evaluated once. Since 0.1.
 */

/* Opens the region for the block that follows. `name` points to the region's start. */
#define pkeyguard_scoped_read(T, name, region)    \
    PKEYGUARD_SCOPE_(__typeof__(T) const *, name, \
                     PKEYGUARD_OPEN_(T, name, pkeyguard_assume_read(region), PKEYGUARD_READ_ONLY))
#define pkeyguard_scoped_write(T, name, region) \
    PKEYGUARD_SCOPE_(                           \
        __typeof__(T) *, name,                  \
        PKEYGUARD_OPEN_(T, name, pkeyguard_assume_write(region), PKEYGUARD_READ_WRITE))

/* Opens the region for the block that follows. `name` is a copy of `pointer`, which must point to a
 * T in the region. */
#define pkeyguard_scoped_read_at(T, name, region, pointer) \
    PKEYGUARD_SCOPE_(                                      \
        __typeof__(T) const *, name,                       \
        PKEYGUARD_OPEN_AT_(T, name, pkeyguard_assume_read(region), pointer, PKEYGUARD_READ_ONLY))
#define pkeyguard_scoped_write_at(T, name, region, pointer)                               \
    PKEYGUARD_SCOPE_(__typeof__(T) *, name,                                               \
                     PKEYGUARD_OPEN_AT_(T, name, pkeyguard_assume_write(region), pointer, \
                                        PKEYGUARD_READ_WRITE))

/* Opens every region of the key for the block that follows. `name` is the guard's name. */
#define pkeyguard_scoped_key_read(name, key) \
    PKEYGUARD_GUARD_SCOPE_(                  \
        name, pkeyguard_key_scope_open(&name, key, PKEYGUARD_READ_ONLY, PKEYGUARD_HERE_))
#define pkeyguard_scoped_key_write(name, key) \
    PKEYGUARD_GUARD_SCOPE_(                   \
        name, pkeyguard_key_scope_open(&name, key, PKEYGUARD_READ_WRITE, PKEYGUARD_HERE_))

/* Narrows the region to at most `rights` for the block that follows. `name` is the guard's name. */
#define pkeyguard_scoped_restrict(name, region, rights) \
    PKEYGUARD_GUARD_SCOPE_(name,                        \
                           pkeyguard_restrict_scope_open(&name, region, rights, PKEYGUARD_HERE_))

/* try_scoped_read(...) { the region is open } else { it is not: errno is set, name is NULL } */
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

/* Declares name and opens the region until the end of the enclosing block. Use it where a
 * declaration may stand. */
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

/* ---- For the inline code above; do not call these yourself. ---- */

enum { PKEYGUARD_GUARD_RESTRICTS = 1, PKEYGUARD_GUARD_CHECKED = 2 };

/* Called through the GOT, not the PLT: one jump less. */
#if defined(__has_attribute)
#if __has_attribute(noplt)
#define PKEYGUARD_NO_PLT_ __attribute__((nothrow, noplt))
#endif
#endif
#ifndef PKEYGUARD_NO_PLT_
#define PKEYGUARD_NO_PLT_ __attribute__((nothrow))
#endif

/*
 * Fast path of virtual keys: write and read open a key that is closed in this thread, close closes
 * it. Write and read return 1: opened; 0: not handled, the rights are unchanged, and
 * pkeyguard_guard_enter() must be called; or -errno.
 */
enum { PKEYGUARD_GUARD_VIRTUAL = 1 << 30 };
PKEYGUARD_NO_PLT_ int pkeyguard_virtual_write(struct pkeyguard_key *key);
PKEYGUARD_NO_PLT_ int pkeyguard_virtual_read(struct pkeyguard_key *key);
PKEYGUARD_NO_PLT_ void pkeyguard_virtual_close(struct pkeyguard_key *key);

/* Slow path, for everything that the fast paths do not handle: software keys, narrowing, a pkey
 * with access-disable alone (as in signal handlers), bad arguments, and the checks of
 * PKEYGUARD_DEBUG. */
__attribute__((cold, nothrow)) int pkeyguard_guard_enter(struct pkeyguard_key *key,
                                                         struct pkeyguard_region *region,
                                                         enum pkeyguard_rights rights,
                                                         unsigned flags,
                                                         struct pkeyguard_guard *ret_guard);
__attribute__((cold, nothrow)) void pkeyguard_guard_leave(struct pkeyguard_key *key,
                                                          struct pkeyguard_region *region,
                                                          uint32_t how, uint32_t cleared,
                                                          uint32_t set, uint32_t thread);

/* Prints one line on stderr and aborts: `what` cannot be opened at `where`, a file and line. */
__attribute__((cold, nothrow, noreturn)) void
pkeyguard_scope_abort(const struct pkeyguard_region *region, const char *what, const char *where,
                      int error);

/* Waits and returns if another try may then succeed; else it is pkeyguard_scope_abort(). */
__attribute__((cold, nothrow)) void pkeyguard_scope_wait(const struct pkeyguard_region *region,
                                                         const char *what, const char *where,
                                                         int error);

/* Empties a guard that is about to be acquired, before anything that could fail, throw or end the
 * thread: the cleanup releases the guard in any case. */
static inline struct pkeyguard_guard *pkeyguard_guard_empty(struct pkeyguard_guard *guard)
{
    guard->cleared = guard->how = 0;
    return guard;
}

/* Fast path of dedicated keys: widens the key in PKRU. False: not handled, nothing changed. */
static inline bool pkeyguard_guard_widen(const struct pkeyguard_key *key,
                                         enum pkeyguard_rights rights,
                                         struct pkeyguard_guard *empty_guard)
{
    const struct pkeyguard_key_head *bits = PKEYGUARD_VIEW_(const struct pkeyguard_key_head *, key);
    uint32_t ad_wd = bits->ad_wd;

    if (ad_wd == 0)
        return false;
    if (rights == PKEYGUARD_READ_WRITE) {
        empty_guard->cleared = pkeyguard_pkru_clear_bits(ad_wd);
        return true;
    }
    if (rights == PKEYGUARD_READ_ONLY) {
        uint32_t allowed;

        if (pkeyguard_pkru_allow_reads(ad_wd, bits->ad, &allowed)) {
            empty_guard->cleared = bits->ad;
            return true;
        }
        /*
         * The key is not closed by both bits. With access-disable clear it can be read already.
         * With access-disable alone, write-disable must be set as well: that is left to the slow
         * path.
         */
        return allowed & bits->ad;
    }
    return false;
}

/* Calls pkeyguard_virtual_write() or _read() as rights ask, fills the guard, and returns the
 * result. */
static inline int pkeyguard_virtual_widen(struct pkeyguard_key *key, enum pkeyguard_rights rights,
                                          struct pkeyguard_guard *empty_guard)
{
    int opened = 0;

    if (rights == PKEYGUARD_READ_WRITE)
        opened = pkeyguard_virtual_write(key);
    else if (rights == PKEYGUARD_READ_ONLY)
        opened = pkeyguard_virtual_read(key);
    empty_guard->cleared = 0;
    if (opened > 0) {
        empty_guard->how = PKEYGUARD_GUARD_VIRTUAL;
        empty_guard->key = key;
    }
    return opened;
}

/* Acquires a guard on a region and its key, or on the whole key if region is NULL. The guard must
 * be empty. */
__attribute__((always_inline)) static inline int
pkeyguard_guard_acquire(struct pkeyguard_key *key, struct pkeyguard_region *region,
                        enum pkeyguard_rights rights, unsigned flags,
                        struct pkeyguard_guard *empty_guard)
{
    struct pkeyguard_guard copy;
    int error;

#ifndef PKEYGUARD_DEBUG
    if (flags == 0 && (region != NULL || key != NULL)) {
        if (__builtin_expect(pkeyguard_guard_widen(key, rights, empty_guard), 1))
            return 0;
        error = pkeyguard_virtual_widen(key, rights, empty_guard);
        if (error != 0)
            return error > 0 ? 0 : error;
    }
#else
    flags |= PKEYGUARD_GUARD_CHECKED;
#endif
    /* Only the address of a copy is passed on, so the compiler can keep the guard in registers. */
    error = pkeyguard_guard_enter(key, region, rights, flags, &copy);
    *empty_guard = copy;
    return error;
}

static inline const struct pkeyguard_region_head *
pkeyguard_guard_head(const struct pkeyguard_region *region)
{
    return PKEYGUARD_VIEW_(const struct pkeyguard_region_head *, region);
}

static inline struct pkeyguard_key *pkeyguard_guard_key(const struct pkeyguard_region *region)
{
    return region == NULL ? NULL : pkeyguard_guard_head(region)->key;
}

PKEYGUARD_INLINE int pkeyguard_key_acquire(struct pkeyguard_key *key, enum pkeyguard_rights rights,
                                           struct pkeyguard_guard *ret_guard)
{
    return pkeyguard_guard_acquire(key, NULL, rights, 0, pkeyguard_guard_empty(ret_guard));
}

PKEYGUARD_INLINE int pkeyguard_acquire(struct pkeyguard_region *region,
                                       enum pkeyguard_rights rights,
                                       struct pkeyguard_guard *ret_guard)
{
    return pkeyguard_guard_acquire(pkeyguard_guard_key(region), region, rights, 0,
                                   pkeyguard_guard_empty(ret_guard));
}

PKEYGUARD_INLINE int pkeyguard_restrict(struct pkeyguard_region *region,
                                        enum pkeyguard_rights rights,
                                        struct pkeyguard_guard *ret_guard)
{
    return pkeyguard_guard_acquire(pkeyguard_guard_key(region), region, rights,
                                   PKEYGUARD_GUARD_RESTRICTS, pkeyguard_guard_empty(ret_guard));
}

/* A member is read only where `how` tells that it was set. GCC does not see that when the members
 * are in registers, and warns. */
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
__attribute__((always_inline)) static inline void
pkeyguard_guard_release(struct pkeyguard_guard *guard)
{
    if (__builtin_expect(guard->cleared != 0, 1)) {
        pkeyguard_pkru_set_bits(guard->cleared);
        guard->cleared = 0;
    } else if (guard->how == PKEYGUARD_GUARD_VIRTUAL) {
        pkeyguard_virtual_close(guard->key);
        guard->how = 0;
    } else if (guard->how != 0) {
        pkeyguard_guard_leave(guard->key, guard->region, guard->how, guard->changed[0],
                              guard->changed[1], guard->thread);
        guard->how = 0;
    }
}
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

PKEYGUARD_INLINE void pkeyguard_release(struct pkeyguard_guard *guard)
{
    pkeyguard_guard_release(guard);
}

/* Acquires a guard on the region if [offset, offset + size) is inside it. The guard must be
 * empty. */
static inline int pkeyguard_scope_acquire(struct pkeyguard_guard *guard,
                                          struct pkeyguard_region *region, size_t offset,
                                          size_t size, enum pkeyguard_rights rights)
{
    const struct pkeyguard_region_head *head = pkeyguard_guard_head(region);

    if (region == NULL || size > head->size || offset > head->size - size)
        return -EINVAL;
    return pkeyguard_guard_acquire(pkeyguard_guard_key(region), region, rights, 0, guard);
}

static inline void *pkeyguard_scope_open(struct pkeyguard_guard *guard,
                                         struct pkeyguard_region *region, size_t offset,
                                         size_t size, enum pkeyguard_rights rights,
                                         const char *where)
{
    int error;

    while ((error = pkeyguard_scope_acquire(guard, region, offset, size, rights)) != 0)
        pkeyguard_scope_wait(region, rights == PKEYGUARD_READ_ONLY ? "read scope" : "write scope",
                             where, error);
    return pkeyguard_guard_head(region)->address + offset;
}

static inline void *pkeyguard_scope_try_open(struct pkeyguard_guard *guard,
                                             struct pkeyguard_region *region, size_t offset,
                                             size_t size, enum pkeyguard_rights rights)
{
    int error = pkeyguard_scope_acquire(guard, region, offset, size, rights);

    if (error != 0) {
        errno = -error;
        return NULL;
    }
    return pkeyguard_guard_head(region)->address + offset;
}

/* For a pointer before the region the offset wraps around and is too large for any region. */
static inline size_t pkeyguard_scope_offset(const struct pkeyguard_region *region,
                                            const void *pointer)
{
    return region == NULL ? 0
                          : PKEYGUARD_VIEW_(uintptr_t, pointer) -
                                PKEYGUARD_VIEW_(uintptr_t, pkeyguard_guard_head(region)->address);
}

static inline void *pkeyguard_scope_try_open_at(struct pkeyguard_guard *guard,
                                                struct pkeyguard_region *region,
                                                const void *pointer, size_t size,
                                                enum pkeyguard_rights rights)
{
    return pkeyguard_scope_try_open(guard, region, pkeyguard_scope_offset(region, pointer), size,
                                    rights);
}

static inline void *pkeyguard_scope_open_at(struct pkeyguard_guard *guard,
                                            struct pkeyguard_region *region, const void *pointer,
                                            size_t size, enum pkeyguard_rights rights,
                                            const char *where)
{
    return pkeyguard_scope_open(guard, region, pkeyguard_scope_offset(region, pointer), size,
                                rights, where);
}

static inline struct pkeyguard_guard *pkeyguard_key_scope_open(struct pkeyguard_guard *guard,
                                                               struct pkeyguard_key *key,
                                                               enum pkeyguard_rights rights,
                                                               const char *where)
{
    int error;

    while ((error = pkeyguard_guard_acquire(key, NULL, rights, 0, guard)) != 0)
        pkeyguard_scope_wait(NULL, "key scope", where, error);
    return guard;
}

static inline struct pkeyguard_guard *pkeyguard_restrict_scope_open(struct pkeyguard_guard *guard,
                                                                    struct pkeyguard_region *region,
                                                                    enum pkeyguard_rights rights,
                                                                    const char *where)
{
    int error = pkeyguard_restrict(region, rights, guard);

    if (error != 0)
        pkeyguard_scope_abort(region, "restrict scope", where, error);
    return guard;
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

#define PKEYGUARD_OPEN_(T, name, region, rights) \
    pkeyguard_scope_open(&PKEYGUARD_NAME_(name), region, 0, sizeof(T), rights, PKEYGUARD_HERE_)
#define PKEYGUARD_OPEN_AT_(T, name, region, pointer, rights)                            \
    pkeyguard_scope_open_at(&PKEYGUARD_NAME_(name), region, pointer, sizeof(T), rights, \
                            PKEYGUARD_HERE_)
#define PKEYGUARD_TRY_OPEN_(T, name, region, rights) \
    pkeyguard_scope_try_open(&PKEYGUARD_NAME_(name), region, 0, sizeof(T), rights)
#define PKEYGUARD_TRY_OPEN_AT_(T, name, region, pointer, rights) \
    pkeyguard_scope_try_open_at(&PKEYGUARD_NAME_(name), region, pointer, sizeof(T), rights)

#define PKEYGUARD_DECLARE_(name)                           \
    struct pkeyguard_guard PKEYGUARD_NAME_(name)           \
        __attribute__((cleanup(pkeyguard_guard_release))), \
        *PKEYGUARD_ONCE_(name) __attribute__((unused)) =   \
            pkeyguard_guard_empty(&PKEYGUARD_NAME_(name))

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
#define PKEYGUARD_GUARD_SCOPE_(name, opened)                                            \
    for (struct pkeyguard_guard name __attribute__((cleanup(pkeyguard_guard_release))), \
         *PKEYGUARD_ONCE_(name) = (pkeyguard_guard_empty(&name), opened);               \
         PKEYGUARD_ONCE_(name) != NULL; PKEYGUARD_ONCE_(name) = NULL)

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
