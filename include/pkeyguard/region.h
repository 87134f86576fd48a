/* SPDX-License-Identifier: MIT */
/*
 * region.h - a region: whole pages that belong to one key, and what the kernel does with them
 *
 * A region's memory is reached through guards (guard.h). Its page rights (PROT_*) hold for every
 * thread and bound what any guard can give; the key's rights bound it further.
 *
 * On each side of a region lies one inaccessible page, so that running off either end faults. The
 * size is the one asked for; past it, up to the page's end, there is slack that does not fault. The
 * fault is SIGSEGV at the exact address; its si_code depends on the kernel (where it has
 * MADV_GUARD_INSTALL, 6.13, guard pages need no mappings of their own) and on what is open:
 * SEGV_MAPERR, SEGV_ACCERR, or SEGV_PKUERR while the key is closed.
 */
#ifndef PKEYGUARD_REGION_H
#define PKEYGUARD_REGION_H

#include <stddef.h>

#include <pkeyguard/analysis.h>
#include <pkeyguard/key.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* What a region is fit for. A flag that cannot be had makes creation fail; none is weakened. */
enum {
    /*
     * Memory that the kernel itself cannot reach, memfd_secret(2): process_vm_readv(2),
     * /proc/PID/mem and ptrace(2) are refused. Never swapped out, never in a core dump or a fork
     * child (see NO_FORK). -ENOTSUP where the kernel has none (5.14), or was not told to have it
     * (secretmem.enable=1, before 6.5); -ENOMEM where RLIMIT_MEMLOCK has no room, on some kernels
     * for root too. PROT_EXEC is -EACCES from whatever would apply it.
     */
    PKEYGUARD_REGION_SECRET = 1,

    /*
     * Never swapped out, mlock(2): all pages are in memory when creation returns. -ENOMEM where
     * RLIMIT_MEMLOCK or the memory has no room, -EPERM where this process may lock none. A fork
     * child's copy is not locked. SECRET memory is as good as locked without it.
     */
    PKEYGUARD_REGION_LOCKED = 2,

    /* In core dumps; the default is MADV_DONTDUMP. Contradicts SECRET. */
    PKEYGUARD_REGION_DUMPABLE = 4,

    /* A fork child finds zeros, MADV_WIPEONFORK. Contradicts NO_FORK and SECRET. */
    PKEYGUARD_REGION_FORK_WIPE = 8,

    /*
     * A child of fork(3) does not have the memory, MADV_DONTFORK. An access there faults, or
     * reaches what was mapped at that address since; of the library's functions the child calls
     * pkeyguard_region_destroy() alone, which then frees the record and nothing else.
     */
    PKEYGUARD_REGION_NO_FORK = 16,

    /*
     * Nothing in the process can unmap, move or replace the memory or change its page rights any
     * more, mseal(2) (6.10). For dedicated keys only: -ENOTSUP on any other, and where the kernel
     * has none. From then on pkeyguard_region_protect() and pkeyguard_region_associate() are
     * -EPERM; pkeyguard_region_destroy() wipes the memory and is -EPERM: the region, its key and
     * their pkey stay for the life of the process. Without PROT_WRITE nobody can write to it again,
     * not even to wipe it.
     */
    PKEYGUARD_REGION_SEALED = 32,

    /* No inaccessible page on either side. */
    PKEYGUARD_REGION_NO_GUARD_PAGES = 64
};

/*
 * The head of every struct pkeyguard_region, frozen for as long as the soname stands, because the
 * inline guards read it.
 */
struct pkeyguard_region_head {
    char *address;             /* of its first byte */
    size_t size;               /* bytes asked for */
    struct pkeyguard_key *key; /* never NULL: a region without a key has a private one inside it */
};

/*
 * pkeyguard_region_create - new memory that belongs to a key
 * @key: NULL: a private software key, closed by default, guarded with mprotect
 * @size: bytes wanted; whole pages are reserved
 * @prot: page rights, PROT_NONE or any of PROT_READ, PROT_WRITE, PROT_EXEC
 * @flags: 0 or PKEYGUARD_REGION_* together
 * @ret_region: set on success only; destroy it with pkeyguard_region_destroy()
 *
 * The memory is zero-filled and is never reachable before it carries the key. Page rights are the
 * CPU's: on x86 PROT_WRITE lets reads pass, and so does PROT_EXEC. Under mprotect a closed region
 * cannot be executed; PKU never stops execution. A SECRET or LOCKED region is open for writing
 * while its memory is made ready, under mprotect to every thread; it holds zeros then.
 *
 * Returns 0; -EINVAL: size 0 or too large to be rounded, unknown bits in prot or flags,
 * contradictory flags; -ENOMEM: memory, mappings, or RLIMIT_MEMLOCK for SECRET or LOCKED; -EPERM:
 * LOCKED, and this process may lock no memory; -EACCES: a security policy refuses these page
 * rights, or SECRET refuses PROT_EXEC; -ENOTSUP: SECRET or SEALED cannot be had here, or PROT_EXEC
 * alone on a key that is not dedicated, for the kernel would take a pkey of its own for that;
 * -EDEADLK: called from a signal handler that interrupted this library.
 * Thread: any. Signal: not async-signal-safe. Fork: the child has a copy of the memory, as of any
 * other, unless flags say otherwise. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(5))) int
pkeyguard_region_create(struct pkeyguard_key *key, size_t size, int prot, unsigned flags,
                        struct pkeyguard_region **ret_region);

/*
 * pkeyguard_region_create_with - new memory with given content
 * @content: size bytes that the caller may read now; not NULL
 *
 * As pkeyguard_region_create(); page rights without PROT_WRITE are applied after the copy, and
 * sealing comes last. Under PKU no other thread can reach the content at any time; under mprotect
 * any can while it is copied, as through an open guard.
 *
 * Returns 0, or an errno of pkeyguard_region_create(); -EINVAL also for content NULL; with a
 * virtual key also -EBUSY, -EAGAIN and -ENOSPC as pkeyguard_acquire(), for it must be opened.
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(6))) int
pkeyguard_region_create_with(struct pkeyguard_key *key, const void *content, size_t size, int prot,
                             unsigned flags, struct pkeyguard_region **ret_region);

/*
 * pkeyguard_region_adopt - memory that somebody else mapped joins a key
 * @address: start of a page, of a huge page where the memory has those
 * @size: bytes, in whole such pages
 * @prot: its page rights from now on, as for pkeyguard_region_create()
 * @flags: 0 or PKEYGUARD_REGION_NO_GUARD_PAGES, which changes nothing: there are none
 *
 * For blocks of another allocator, shared memory, mapped files and huge pages. The memory must be
 * mapped with the same page rights everywhere and carry no pkey. It is never written, and its page
 * rights and pkey change in one call: where the key's default lets others read, they can go on
 * reading meanwhile. That is said of threads that have these rights (see key.h), and under mprotect
 * of all. Other processes that map it are not concerned. Core dumps, forks, locks and the name in
 * /proc/PID/maps stay what its owner made them.
 *
 * pkeyguard_region_destroy() gives it back as it came: with its content of that moment, unwiped,
 * the page rights it had, and pkey 0; a part of huge pages or of System V shared memory stays a
 * mapping of its own. It must stay mapped until then.
 *
 * Returns 0; -EINVAL: no address, size 0, either not in whole pages, page rights that are not the
 * same everywhere, unknown bits in prot, any other flag; -ENOMEM: not all of it is mapped, or no
 * memory or mappings; -EBUSY: it overlaps a region or its guard pages, or carries a pkey; -EACCES:
 * what is mapped there does not allow these page rights (under mprotect the first guard that would
 * apply them learns it); -ENOTSUP: there is no /proc/self/smaps, or
 * PROT_EXEC alone on a key that is not dedicated; -EDEADLK as for create. In each case nothing
 * changed.
 * Thread: any, also while others use the memory as their rights let them; it must not be mapped,
 * unmapped or protected by others at the same time. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(6))) int
pkeyguard_region_adopt(struct pkeyguard_key *key, void *address, size_t size, int prot,
                       unsigned flags, struct pkeyguard_region **ret_region);

/*
 * pkeyguard_region_destroy - wipe a region and unmap it, or give an adopted one back
 * @region: NULL is allowed and does nothing
 *
 * Every page is overwritten with zeros first, whatever the page rights; but see
 * pkeyguard_region_adopt() and PKEYGUARD_REGION_SEALED.
 *
 * Returns 0; -EPERM: the region is SEALED: it is wiped, as far as PROT_WRITE lets it be, and stays;
 * -EBUSY: under mprotect, a guard on the region is open; with a virtual key -EBUSY, -EAGAIN and
 * -ENOSPC as pkeyguard_acquire(), for it must be opened to be wiped; -ENOMEM or -EACCES: the kernel
 * refused page rights or the unmapping, the region stands as before but may be wiped: call again;
 * -EDEADLK as for create.
 * Thread: any, with no other use of this region at the same time. Signal: not async-signal-safe.
 * Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_region_destroy(struct pkeyguard_region *region);

/*
 * pkeyguard_region_associate - move a region to another key
 * @key: the new key; NULL: back to a private software key, closed
 *
 * One change in the kernel: at no moment do the pages carry no key, and the old key's rights count
 * for nothing afterwards. Content, page rights and name stay. The same key again changes nothing.
 *
 * Returns 0; -EINVAL: no region; -EPERM: the region is SEALED, whatever the key; -EBUSY: under
 * mprotect, a guard on the region is open; -ENOTSUP: the page rights are PROT_EXEC alone and the
 * new key is not dedicated; -ENOMEM, -EACCES, -EDEADLK as for create: in each case the region is
 * where it was.
 * Thread: any, with no other use of this region at the same time. Signal: not async-signal-safe.
 * Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_region_associate(struct pkeyguard_region *region,
                                                                   struct pkeyguard_key *key);

/*
 * pkeyguard_region_protect - change the page rights, for every thread at once
 * @prot: as for pkeyguard_region_create()
 *
 * Takes effect under open guards too, in all threads and in system calls that are blocked: with
 * PROT_NONE it revokes the region from everyone.
 *
 * Returns 0; -EINVAL: no region or unknown bits in prot; -EPERM: the region is SEALED; -ENOTSUP,
 * -ENOMEM, -EACCES, -EDEADLK as for create: the page rights are as before.
 * Thread: any, also while others use the region. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_region_protect(struct pkeyguard_region *region,
                                                                 int prot);

/*
 * pkeyguard_region_name - name a region
 * @name: 1 to 63 printable ASCII characters, copied; none of [ ] \ $ `, which the kernel refuses
 *
 * The name stands in the line a failed scope prints, and in /proc/PID/maps where the kernel is
 * built with CONFIG_ANON_VMA_NAME (5.17) and the region is neither SECRET nor adopted.
 *
 * Returns 0; -EINVAL: no region, or a name that is not as above: the old one stays.
 * Thread: any, with no other use of this region at the same time. Signal: not async-signal-safe.
 * Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_region_name(struct pkeyguard_region *region,
                                                              const char *name);

/*
 * pkeyguard_region_size - bytes asked for at creation; 0 for NULL
 * pkeyguard_region_prot - the page rights, PROT_* bits; PROT_NONE for NULL
 * pkeyguard_region_key - the key; NULL for a private software key, and for NULL
 *
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
size_t pkeyguard_region_size(const struct pkeyguard_region *region);
int pkeyguard_region_prot(const struct pkeyguard_region *region);
struct pkeyguard_key *pkeyguard_region_key(const struct pkeyguard_region *region);

/*
 * pkeyguard_region_address - the region's start, where its key's default lets everyone read
 *
 * Returns NULL where the key's default rights are PKEYGUARD_NO_ACCESS (and for NULL): there the
 * address comes from a scope.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
const void *pkeyguard_region_address(const struct pkeyguard_region *region);

/*
 * pkeyguard_region_unsafe_address - the region's start; the one way round the typed scopes
 *
 * An access with no guard open faults; a system call handed this pointer gets EFAULT. NULL for
 * NULL. Thread: any. Signal: async-signal-safe. Since 0.1.
 */
void *pkeyguard_region_unsafe_address(const struct pkeyguard_region *region);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
