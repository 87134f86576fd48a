/* SPDX-License-Identifier: MIT */
/*
 * record_memory.h - memory for the library's records, which a program can have protected
 *
 * The records of keys and regions, and the registries that list them, are in this memory. At first
 * it is ordinary. pkeyguard_protect_records() maps it a second time. From then on the addresses
 * that the program knows are read-only for everyone. The second mapping is writable, but has a pkey
 * that every thread has closed. The library opens that pkey while it holds its lock, and writes
 * through to_write().
 *
 * Why two mappings, and not one with a pkey that every thread has read-only: a signal handler and a
 * thread that is older than a pkey start without any access to it. Both read records, also in the
 * inline guards, which have no instruction to spare for PKRU. So the mapping that they read has
 * pkey 0. A pkey only takes rights away, so it cannot make that mapping writable for one thread.
 * The pkey of the writable mapping is closed in handlers and in older threads as the kernel leaves
 * it, so no thread has to change its rights.
 *
 * Memory that is mapped twice is shared memory. fork does not copy it: parent and child would
 * change the same records. So both mappings stay out of a child (MADV_DONTFORK). fork(3) copies the
 * records before it forks, and its child maps the copy twice before other code of the child runs. A
 * child of _Fork(3) or clone(2), which run no handlers, has no records: there an access faults, and
 * the library aborts where it takes its lock.
 */
#ifndef RECORD_MEMORY_H
#define RECORD_MEMORY_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes, on the CPUs that have pkeys. Static variables with records have such pages of their own.
 */
enum { RECORD_PAGE = 4096 };

/* Records whose memory is mapped together. */
struct record_segment {
    uintptr_t start; /* the address that the program knows */
    size_t size;     /* whole pages */
    /* The distance of the writable mapping, modulo 2^64. Valid if the records are protected. */
    uintptr_t to_writable;
};

/* Enough for all memory: each segment that is allocated is twice as large as the one before. */
enum { MOST_SEGMENTS = 48 };

/*
 * Changed under the library's lock, read without it. It is protected, too, and is the first of its
 * segments then.
 */
struct record_memory {
    alignas(RECORD_PAGE) bool is_protected; /* never set back */
    int pkey;                               /* of the writable mappings; 0: not protected */
    atomic_size_t count;
    struct record_segment segments[MOST_SEGMENTS];

    /* Of the segment that was allocated last. */
    size_t last_size;         /* 0: there is none */
    uintptr_t free, last_end; /* from `free` to last_end nothing was taken yet */
};
extern struct record_memory record_memory __attribute__((visibility("hidden")));

/* Returns zeroed memory, aligned to 64 bytes, that is never freed. -ENOMEM. Under the library's
 * lock. */
int record_memory_take(size_t size, void **ret_memory);

/*
 * From now on this static variable, which has whole pages, is memory for records. Does nothing if
 * it is already. -ENOMEM. Under the library's lock.
 */
int record_memory_add(void *start, size_t size);

/*
 * Returns where the library writes what is at this address: the writable mapping, or the same
 * address outside protected records. No pointer to the writable mapping is kept in a record.
 */
void *record_memory_writable(const void *address);
static inline void *record_memory_to_write(const void *address)
{
    return __builtin_expect(record_memory.is_protected, 0) ? record_memory_writable(address)
                                                           : (void *)(uintptr_t)address;
}
#define to_write(pointer) ((__typeof__(pointer))record_memory_to_write(pointer))

/* Open the writable mapping in the calling thread, and close it. They do nothing if there is none.
 * Async-signal-safe. */
void record_memory_open_protected(void);
void record_memory_close_protected(void);
static inline void record_memory_open(void)
{
    if (__builtin_expect(record_memory.is_protected, 0))
        record_memory_open_protected();
}
static inline void record_memory_close(void)
{
    if (__builtin_expect(record_memory.is_protected, 0))
        record_memory_close_protected();
}

/*
 * Protects all memory for records. Every thread has the pkey closed, and no other code writes to
 * the memory meanwhile. Leaves the writable mapping open in the calling thread. -ENOMEM; -EACCES:
 * the kernel or a sandbox refuses it; nothing has changed. Under the library's lock.
 */
int record_memory_protect(int pkey);

/* True if the address is in protected memory for records, in one of the two mappings. Takes no lock
 * and is async-signal-safe. */
bool record_memory_protects(const void *address);

/* False in a fork child that did not get the records. Async-signal-safe. */
bool record_memory_is_here(void);

/*
 * fork(3) calls these with the library's lock held. The last returns false in a child of a process
 * that has no records itself, where the first was not called.
 */
void record_memory_before_fork(void);
void record_memory_after_fork_in_parent(void);
bool record_memory_after_fork_in_child(void);

#endif
