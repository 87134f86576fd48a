/* SPDX-License-Identifier: MIT */
/*
 * guard.h - guards: rights on a key, given back at the end of a scope
 *
 *     pkeyguard_scoped_write(int, secret, region) {
 *         *secret = 123;
 *     }
 *     pkeyguard_scoped_read(int, secret, region) {
 *         use(*secret);            assigning through it does not compile
 *     }
 *
 * The rules
 *  - Acquire widens, restrict narrows. A guard never takes rights away from one that is open: a
 *    read scope inside a write scope changes nothing.
 *  - A guard gives back exactly what it changed. Guards of any keys may nest and interleave.
 *    Released out of order they end closed: releasing the guard that opened a key closes the key
 *    for this thread, even while a later guard on it is held.
 *  - pkeyguard_restrict(), and pkeyguard_key_set_rights() inside a guard, are last in, first out:
 *    a guard that opened before a restrict and is released inside it would be opened again by the
 *    restrict's end. Where PKEYGUARD_DEBUG is defined before this header, guards abort on the
 *    misuse that can be seen: that one, and a guard released by another thread.
 *  - Count on the guarded region alone. Under PKU a guard opens every region of the key, for this
 *    thread; under mprotect it opens one region (a key guard: every region), for all threads.
 *
 * What differs under mprotect: another thread can reach an open region; restrict does not narrow
 * what another guard holds; a signal handler sees what the process sees; a guard that is never
 * released leaves the region open for everyone, for good; a closed region is not executable either.
 *
 * Signals. Under PKU a handler starts with every key closed, whatever the interrupted code had
 * open, and what it opens ends when it returns. Guards may be opened and released in it. Under
 * mprotect too, but a handler that interrupted this library, or fork, gets -EDEADLK; so does a
 * pthread_atfork handler that fork runs while it holds this library still.
 *
 * Leaving a scope. return, break, continue and goto out of it close it; break and continue act on
 * the scope, not on a loop around it. A function whose only return is inside a scope draws
 * -Wreturn-type: use an auto form there. longjmp leaves it open (thread.h). pthread_exit, deferred
 * pthread_cancel and C++ exceptions close it if your file is compiled with -fexceptions, which the
 * CMake target adds for C; without it, and with musl, whose threads end without unwinding, a thread
 * ends with its scopes open. Do not jump into one.
 *
 * Virtual keys. A guard pins its key's pkey: it stays with that key for as long as the guard is
 * open, and a guard that finds all of them pinned fails. The scoped and auto forms then wait for
 * one, but only in a thread that has no virtual key open itself, so that no two threads can wait
 * for each other, and not in a signal handler: there they abort. So they do where a thread that has
 * not registered (thread.h) is in the way for longer than a second. To have several open at once
 * take them with pkeyguard_acquire_all(), or with acquire and its error. A guard on a closed key
 * that is bound to a pkey costs little more than one on a dedicated key; one that must take a pkey
 * from another key costs two system calls for each pair of their regions.
 *
 * Clang warns where data is used that no guard has open, if it is told what guards it (analysis.h).
 *
 * A new thread starts with a copy of its creator's PKRU, so with every scope open that its creator
 * had open, until it calls pkeyguard_thread_reset(). A fork child keeps the forking thread's guards
 * and no other thread's.
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
 * What a guard has changed. The caller allocates it and leaves its members alone; {0} is an empty
 * guard. It must be released by the thread that acquired it, and may be moved in memory.
 */
struct pkeyguard_guard {
    uint32_t cleared; /* deny bits to set again in PKRU: all that a widened dedicated key needs */
    uint32_t how;     /* else how it is undone; 0: nothing to undo */
    uint32_t changed[2]; /* deny bits that it is to set again, and to clear again */
    uint32_t thread;     /* who acquired it, where that is checked */
    uint32_t reserved;
    struct pkeyguard_key *key;       /* what it is on; */
    struct pkeyguard_region *region; /* NULL: the whole key */
    uint64_t reserved_too[3];
};
PKEYGUARD_STATIC_ASSERT_(sizeof(struct pkeyguard_guard) == 48 + 2 * sizeof(void *),
                         "frozen for the ABI");

/*
 * pkeyguard_acquire - open a region for at least these rights
 * @rights: PKEYGUARD_NO_ACCESS asks for nothing and succeeds
 * @ret_guard: empty on failure
 *
 * Page rights are not looked at: a write guard on a PROT_READ region opens it for reading only.
 *
 * Returns 0; -EINVAL: no region or unknown rights; and under mprotect and for virtual keys -ENOMEM
 * or -EACCES when the kernel refuses the page rights, -EDEADLK from a signal handler that
 * interrupted this library. For virtual keys also, and never when the key is bound and the thread
 * registered, -EBUSY: open guards pin every pkey; -EAGAIN: a thread that has not registered
 * (thread.h) may have them open: one that never called, or this one, in a signal handler or on a
 * stack of the program's own making; -ENOSPC: dedicated keys have every pkey.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(3))) PKEYGUARD_INLINE int
pkeyguard_acquire(struct pkeyguard_region *region, enum pkeyguard_rights rights,
                  struct pkeyguard_guard *ret_guard);

/*
 * pkeyguard_key_acquire - open every region of a key, also those that join it while it is open
 *
 * As pkeyguard_acquire(); -EINVAL: no key or unknown rights.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(3))) PKEYGUARD_INLINE int
pkeyguard_key_acquire(struct pkeyguard_key *key, enum pkeyguard_rights rights,
                      struct pkeyguard_guard *ret_guard);

/*
 * pkeyguard_restrict - hold a region to at most these rights
 * @ret_guard: empty on failure
 *
 * Under PKU the whole key is narrowed, for the calling thread, whatever other guards it holds.
 * Under mprotect the key's base rights are narrowed for this region, for the process; what open
 * guards hold stays open. Never widens.
 *
 * Returns as pkeyguard_acquire().
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(3))) PKEYGUARD_INLINE int
pkeyguard_restrict(struct pkeyguard_region *region, enum pkeyguard_rights rights,
                   struct pkeyguard_guard *ret_guard);

/*
 * pkeyguard_acquire_all - open several regions, all or none
 * @regions, @rights: count of each; a region may occur more than once
 * @ret_guards: count of them, which need not be released in any order; all are empty on failure
 *
 * Waits while pkeys that other threads pin are all that is missing, unless the calling thread has
 * a virtual key open already or is in a signal handler. Threads that hold nothing but what one such
 * call gave them never wait for one another.
 *
 * Returns as pkeyguard_acquire(); -EBUSY: it may not wait, or needs more pkeys than there are.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result)) int
pkeyguard_acquire_all(size_t count, struct pkeyguard_region *const regions[],
                      const enum pkeyguard_rights rights[], struct pkeyguard_guard ret_guards[]);

/*
 * pkeyguard_release - give back what a guard changed
 * @guard: an empty or already released guard does nothing; a released one is empty
 *
 * Keeps errno. If the rights cannot be taken away again, which is only ever the kernel refusing
 * page rights under mprotect, it prints one line on stderr and aborts.
 * Thread: the one that acquired. Signal: async-signal-safe. Since 0.1.
 */
__attribute__((nonnull)) PKEYGUARD_INLINE void pkeyguard_release(struct pkeyguard_guard *guard);

/*
 * The scopes. Each takes the type of the object, the name of the pointer to it, and the region.
 * scoped_* and auto_* print one line on stderr and abort if the guard cannot be had; try_* run
 * their else branch with errno set instead. A type larger than the region, or an object that is not
 * wholly inside it, is EINVAL. Every argument is evaluated once. Since 0.1.
 */

/* A block; name points to the region's start. */
#define pkeyguard_scoped_read(T, name, region)    \
    PKEYGUARD_SCOPE_(__typeof__(T) const *, name, \
                     PKEYGUARD_OPEN_(T, name, pkeyguard_assume_read(region), PKEYGUARD_READ_ONLY))
#define pkeyguard_scoped_write(T, name, region) \
    PKEYGUARD_SCOPE_(                           \
        __typeof__(T) *, name,                  \
        PKEYGUARD_OPEN_(T, name, pkeyguard_assume_write(region), PKEYGUARD_READ_WRITE))

/* A block; name is pointer, which points to a T inside the region. */
#define pkeyguard_scoped_read_at(T, name, region, pointer) \
    PKEYGUARD_SCOPE_(                                      \
        __typeof__(T) const *, name,                       \
        PKEYGUARD_OPEN_AT_(T, name, pkeyguard_assume_read(region), pointer, PKEYGUARD_READ_ONLY))
#define pkeyguard_scoped_write_at(T, name, region, pointer)                               \
    PKEYGUARD_SCOPE_(__typeof__(T) *, name,                                               \
                     PKEYGUARD_OPEN_AT_(T, name, pkeyguard_assume_write(region), pointer, \
                                        PKEYGUARD_READ_WRITE))

/* A block for every region of the key; name is the guard's. */
#define pkeyguard_scoped_key_read(name, key) \
    PKEYGUARD_GUARD_SCOPE_(                  \
        name, pkeyguard_key_scope_open(&name, key, PKEYGUARD_READ_ONLY, PKEYGUARD_HERE_))
#define pkeyguard_scoped_key_write(name, key) \
    PKEYGUARD_GUARD_SCOPE_(                   \
        name, pkeyguard_key_scope_open(&name, key, PKEYGUARD_READ_WRITE, PKEYGUARD_HERE_))

/* A block in which the region allows at most rights; name is the guard's. */
#define pkeyguard_scoped_restrict(name, region, rights) \
    PKEYGUARD_GUARD_SCOPE_(name,                        \
                           pkeyguard_restrict_scope_open(&name, region, rights, PKEYGUARD_HERE_))

/* try_scoped_read(...) { opened } else { errno says why not; name is NULL } */
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

/* Two declarations; open until the end of the enclosing block. */
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

/* ---- What follows serves the inline code above; do not call it yourself. ---- */

enum { PKEYGUARD_GUARD_RESTRICTS = 1, PKEYGUARD_GUARD_CHECKED = 2 };

/* Called without a stop in the procedure linkage table. */
#if defined(__has_attribute)
#if __has_attribute(noplt)
#define PKEYGUARD_NO_PLT_ __attribute__((nothrow, noplt))
#endif
#endif
#ifndef PKEYGUARD_NO_PLT_
#define PKEYGUARD_NO_PLT_ __attribute__((nothrow))
#endif

/*
 * Widen a virtual key that is closed: what nearly every guard on it does. They return 1; -errno; or
 * 0, if that was not it, the rest does it, and nothing changed.
 */
enum { PKEYGUARD_GUARD_VIRTUAL = 1 << 30 };
PKEYGUARD_NO_PLT_ int pkeyguard_virtual_write(struct pkeyguard_key *key);
PKEYGUARD_NO_PLT_ int pkeyguard_virtual_read(struct pkeyguard_key *key);
PKEYGUARD_NO_PLT_ void pkeyguard_virtual_close(struct pkeyguard_key *key);

/* Whatever these do not serve: other keys, narrowing, bad input, checks. */
__attribute__((cold, nothrow)) int pkeyguard_guard_enter(struct pkeyguard_key *key,
                                                         struct pkeyguard_region *region,
                                                         enum pkeyguard_rights rights,
                                                         unsigned flags,
                                                         struct pkeyguard_guard *ret_guard);
__attribute__((cold, nothrow)) void pkeyguard_guard_leave(struct pkeyguard_key *key,
                                                          struct pkeyguard_region *region,
                                                          uint32_t how, uint32_t cleared,
                                                          uint32_t set, uint32_t thread);
__attribute__((cold, nothrow, noreturn)) void
pkeyguard_scope_abort(const struct pkeyguard_region *region, const char *what, const char *where,
                      int error);

/* As pkeyguard_scope_abort(), but first waits where another try may succeed after that. */
__attribute__((cold, nothrow)) void pkeyguard_scope_wait(const struct pkeyguard_region *region,
                                                         const char *what, const char *where,
                                                         int error);

/* Before anything that could fail, throw or end the thread. */
static inline struct pkeyguard_guard *pkeyguard_guard_empty(struct pkeyguard_guard *guard)
{
    guard->cleared = guard->how = 0;
    return guard;
}

/* Widens a dedicated key in the register: what nearly every guard does. False: the rest does it. */
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
        /* Access-disable alone: write-disable is to be set, too. */
        return allowed & bits->ad;
    }
    return false;
}

/* As these, and fills the guard. */
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

/* On a whole key, or on a region and its key; the guard must be empty. */
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
    /* The address of a copy leaves, so that the guard itself can be in registers. */
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

/* Where `how` says so the members are set; GCC loses sight of that when they are in registers. */
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

/* For [offset, offset + size) of the region; the guard must be empty. */
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

/* Wraps to a huge offset, which no region has, when the pointer lies before the region. */
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

/* Made from the user's name, so that nesting on one line or in another macro shadows nothing. */
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
 * Two loops that run once, because one cannot declare two types; break and continue leave both.
 * The guard opens inside the first, so that the analysis, too, has it open in there alone; and
 * try's condition asks twice, so that there is a way into its else without the guard.
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
