/* SPDX-License-Identifier: MIT */
/*
 * region.h - a region: whole pages that belong to one key
 *
 * A guard (guard.h) gives access to a region's memory. An access needs two things: the rights on
 * the key, and the region's page rights (PROT_*), which hold for every thread.
 *
 * There is one inaccessible page, a guard page, on each side of a region, so an access that runs
 * off either end faults. A region's size is the size asked for. Between it and the end of the last
 * page there is slack, where an access does not fault. PKEYGUARD_REGION_END_ALIGNED moves the slack
 * before the region.
 *
 * A fault is a SIGSEGV at the exact address. On a guard page its si_code is SEGV_MAPERR,
 * SEGV_ACCERR or, while the key is closed, SEGV_PKUERR. That depends on the kernel: with
 * MADV_GUARD_INSTALL (Linux 6.13) guard pages need no mappings of their own.
 *
 * The kernel never merges equal pages of a region that the library made with other pages (KSM,
 * MADV_UNMERGEABLE), unless the program asks it to while the region exists: prctl(2) with
 * PR_SET_MEMORY_MERGE also applies to memory that is there already.
 */
#ifndef PKEYGUARD_REGION_H
#define PKEYGUARD_REGION_H

#include <pkeyguard/analysis.h>
#include <pkeyguard/key.h>
#include <pkeyguard/types.h>

#include <pkeyguard/begin.h>

/* Region flags. If the machine cannot do what a flag asks, creation fails. */
enum {
    /*
     * Secret memory (memfd_secret(2)). The kernel itself cannot access it: process_vm_readv(2),
     * /proc/PID/mem and ptrace(2) are refused. It is never swapped out and never in a core dump. A
     * fork child does not have it (see NO_FORK). While it exists the machine cannot hibernate.
     *
     * -ENOTSUP: the kernel has no secret memory (before 5.14), or it is not enabled (before 6.5 it
     * takes the boot option secretmem.enable=1). -ENOMEM: RLIMIT_MEMLOCK is used up, which some
     * kernels apply to root, too; or the region is larger than RLIMIT_FSIZE. -EACCES: PROT_EXEC,
     * from any function that would apply it.
     */
    PKEYGUARD_REGION_SECRET = 1,

    /*
     * Locked memory (mlock(2)). All pages are in memory when creation returns and are never swapped
     * out. A fork child's copy is not locked. SECRET memory needs no LOCKED.
     *
     * -ENOMEM: RLIMIT_MEMLOCK or the memory is used up. -EPERM: this process may not lock memory.
     */
    PKEYGUARD_REGION_LOCKED = 2,

    /* The memory is in core dumps. Without this flag it is not (MADV_DONTDUMP). Not with SECRET. */
    PKEYGUARD_REGION_DUMPABLE = 4,

    /* A fork child finds zeros (MADV_WIPEONFORK). Not with NO_FORK or SECRET. */
    PKEYGUARD_REGION_FORK_WIPE = 8,

    /*
     * A child of fork(3) does not have the memory (MADV_DONTFORK). In the child an access faults,
     * or hits memory that was mapped at the address later. The child may only pass the region to
     * pkeyguard_region_destroy(), which then frees the library's record and nothing else.
     */
    PKEYGUARD_REGION_NO_FORK = 16,

    /*
     * After creation nothing in the process can unmap, move or replace the memory or change its
     * page rights (mseal(2), Linux 6.10). For dedicated keys only.
     *
     * The region, its key and their pkey stay until the process ends. pkeyguard_region_protect()
     * and pkeyguard_region_associate() return -EPERM. So does pkeyguard_region_destroy(), which
     * wipes the memory if the page rights include PROT_WRITE. Without PROT_WRITE the memory can
     * never be written again, so it cannot be wiped.
     *
     * -ENOTSUP: the key is not dedicated, or the kernel has no mseal(2).
     */
    PKEYGUARD_REGION_SEALED = 32,

    /* No inaccessible page on either side. */
    PKEYGUARD_REGION_NO_GUARD_PAGES = 64,

    /*
     * Asks the kernel to serve each whole 2 MiB of the region with one huge page (MADV_HUGEPAGE).
     * Changes of the page rights or of the pkey are then cheaper: about 50 times for 4 MiB. A
     * virtual key makes such changes when it must get a pkey, and mprotect enforcement makes them
     * when a scope opens or closes. The first access to a part takes all of its 2 MiB of memory.
     *
     * It is a request: creation does not check what comes of it. The kernel uses small pages if no
     * 2 MiB of memory are free in one piece, or if /sys/kernel/mm/transparent_hugepage/enabled is
     * `never`, and may later split a huge page, for example after fork(3). Where pages are not
     * 4 KiB, huge pages have another size, and the region is not aligned for them.
     *
     * A region of 2 MiB or more starts at a multiple of 2 MiB also without this flag; a heap's does
     * only with it. Not with SECRET. -ENOTSUP: the kernel was built without transparent huge pages.
     */
    PKEYGUARD_REGION_HUGE_PAGES = 128,

    /*
     * The region ends where its last page ends, so an access to the first byte past its end faults.
     * The slack is before its start. There an access does not fault, but the slack carries a
     * pattern: pkeyguard_region_check() tells if it has changed, and pkeyguard_region_destroy()
     * aborts if it has.
     *
     * The region starts at a multiple of the largest power of two that divides its size, up to a
     * page. A scope whose type needs more alignment fails as one whose type is too large: -EINVAL.
     * So ask for a size that is a multiple of the alignment of what you store. In no region does a
     * scope check that a type has more alignment than a page.
     *
     * A scope on a region whose size is no multiple of a page has no fast path. Creation opens such
     * a region for writing, as it opens a LOCKED one. Not with NO_GUARD_PAGES or FORK_WIPE, not for
     * a heap.
     */
    PKEYGUARD_REGION_END_ALIGNED = 256
};

/*
 * The head of every struct pkeyguard_region. The inline guards read it, so it does not change while
 * the soname stays the same.
 */
struct pkeyguard_region_head {
    char *address;             /* of its first byte */
    size_t size;               /* bytes asked for; 0 if a scope needs further checks */
    struct pkeyguard_key *key; /* never NULL: a region without a key has a private one */

    /* Copies, so that an inline guard that opens a dedicated key looks at nothing else. */
    size_t open_size;               /* size if the key is a dedicated one, else 0 */
    struct pkeyguard_key_head bits; /* the key's */
};

/*
 * pkeyguard_region_create - new memory that belongs to a key
 * @key: NULL: a private software key, closed by default
 * @size: bytes wanted; the region takes whole pages
 * @prot: page rights, PROT_NONE or any of PROT_READ, PROT_WRITE, PROT_EXEC
 * @flags: 0 or PKEYGUARD_REGION_* together
 * @ret_region: set on success only; destroy it with pkeyguard_region_destroy()
 *
 * The memory is filled with zeros. It carries the key before any thread can access it. The page
 * rights mean what they mean to the CPU: on x86 PROT_WRITE or PROT_EXEC alone lets reads pass, too.
 * Under mprotect a closed region cannot be executed. PKU never stops execution.
 *
 * While the library prepares a SECRET, LOCKED or END_ALIGNED region, the region holds zeros and is
 * open for writing: under PKU to the calling thread and to threads that have the key open, under
 * mprotect to every thread.
 *
 * If the call fails and a sandbox refuses to unmap memory again, the memory stays mapped: without
 * content, or inaccessible.
 *
 * Returns 0, or:
 *  - -EINVAL: size is 0 or too large, prot or flags have unknown bits, or flags contradict each
 *    other
 *  - -ENOMEM: no memory or no mappings are left; for SECRET or LOCKED also: RLIMIT_MEMLOCK is used
 *    up
 *  - -EPERM: LOCKED, and this process may not lock memory
 *  - -EACCES: a security policy refuses these page rights, a sandbox refuses a system call, or
 *    SECRET with PROT_EXEC
 *  - -ENOTSUP: SECRET, SEALED or HUGE_PAGES is not supported here, SEALED on a key that is not
 *    dedicated, or PROT_EXEC alone on a key that is not dedicated (the kernel would take a pkey of
 *    its own)
 *  - -EDEADLK: called where this thread has the library's lock (pkeyguard.h)
 *  - -EBUSY, -EAGAIN, -ENOSPC: as pkeyguard_acquire(), for SECRET, LOCKED or END_ALIGNED with a
 *    virtual key, which must be opened
 *
 * Thread: any. Signal: not async-signal-safe. Fork: the child has a copy of the memory, unless
 * flags say otherwise. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(5))) int
pkeyguard_region_create(struct pkeyguard_key *key, size_t size, int prot, unsigned flags,
                        struct pkeyguard_region **ret_region);

/*
 * pkeyguard_region_create_with - new memory with given content
 * @content: size bytes that the caller can read; not NULL
 *
 * It creates the region as pkeyguard_region_create() does. It copies the content, then applies the
 * page rights, and seals the region last. While it copies, the region is open for writing: under
 * PKU to the calling thread and to threads that have the key open, under mprotect to every thread.
 *
 * Returns 0; -EINVAL: content is NULL; or an errno of pkeyguard_region_create(). The copy needs the
 * key open, so with any virtual key it can also be -EBUSY, -EAGAIN or -ENOSPC as
 * pkeyguard_acquire().
 * Thread: any. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(6))) int
pkeyguard_region_create_with(struct pkeyguard_key *key, const void *content, size_t size, int prot,
                             unsigned flags, struct pkeyguard_region **ret_region);

/*
 * pkeyguard_region_adopt - make a region of memory that is already mapped
 * @address: start of a page; where the memory has huge pages, of a huge page
 * @size: bytes, a multiple of that page size
 * @prot: the new page rights, as for pkeyguard_region_create()
 * @flags: 0 or PKEYGUARD_REGION_NO_GUARD_PAGES, which changes nothing: there are no guard pages
 *
 * For blocks of another allocator, shared memory, mapped files and huge pages. The memory must have
 * the same page rights everywhere and carry no pkey. It must stay mapped until the region is
 * destroyed.
 *
 * Under PKU the kernel may read the first page of each mapping to find out that it has no pkey: a
 * page without memory gets some, and userfaultfd(2) is asked for it.
 *
 * The library never writes to the memory. It changes page rights and pkey in one system call, so a
 * thread that may read the key with no guard open can read the memory all the time. Under PKU that
 * is a thread that has the key's default rights (key.h), under mprotect every thread. Other
 * processes that map the memory keep their access. Core dumps, forks, locks and the name in
 * /proc/PID/maps stay as the memory's owner set them.
 *
 * pkeyguard_region_destroy() does not wipe or unmap the memory. It restores the page rights that
 * the memory had, and pkey 0. A part of huge pages or of System V shared memory remains a separate
 * mapping.
 *
 * Do not adopt a stack on which a thread runs, as the caller's own. If the key is closed the
 * process dies inside this call, by a SIGSEGV that nothing reports. Under PKU it dies, whatever the
 * key's default rights are, when a signal handler runs on that stack: the kernel starts handlers
 * with the key closed.
 *
 * Returns 0, or, with nothing changed:
 *  - -EINVAL: address is NULL, size is 0, either is not a multiple of the page size, the page
 *    rights are not the same everywhere, prot has unknown bits, or flags has another flag
 *  - -ENOMEM: a part is not mapped, or no memory, mappings or file descriptors are left
 *  - -EBUSY: it overlaps a region or a region's guard pages, or carries a pkey
 *  - -EACCES: the mapping does not allow these page rights (under mprotect the first guard that
 *    would apply them gets this error instead); the mapping is sealed; a sandbox refuses the system
 *    call; /proc/self/smaps may not be read; or the memory is executable, the process may not make
 *    memory executable (PR_SET_MDWE), and the key is not dedicated or prot lacks PROT_EXEC
 *  - -ENOTSUP: there is no /proc/self/smaps, or PROT_EXEC alone on a key that is not dedicated
 *  - -EDEADLK: called where this thread has the library's lock (pkeyguard.h)
 *
 * Thread: any. Other threads may use the memory meanwhile as their rights permit, but must not map,
 * unmap or protect it. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result, nonnull(6))) int
pkeyguard_region_adopt(struct pkeyguard_key *key, void *address, size_t size, int prot,
                       unsigned flags, struct pkeyguard_region **ret_region);

/*
 * pkeyguard_region_destroy - wipe a region and unmap it, or give adopted memory back
 * @region: NULL is allowed and does nothing
 *
 * Every page that may hold content is overwritten with zeros, whatever the page rights are. Then
 * all pages are unmapped. Pages that were never used are not overwritten. If the region was never
 * open for writing, it is not opened to be wiped. Adopted memory (pkeyguard_region_adopt()) and
 * SEALED regions are exceptions.
 *
 * If the slack before an END_ALIGNED region was overwritten, the call prints one line on stderr,
 * with the region's name, and aborts.
 *
 * Returns 0; or -ESTALE: adopted memory is not what it was, because its owner has unmapped some of
 * it. The region is destroyed, and what is left of its memory is given back, as with 0.
 *
 * After these errors the region still exists:
 *  - -EPERM: the region is SEALED; it is wiped if its page rights include PROT_WRITE
 *  - -EBUSY: a guard on the region is open, under mprotect
 *  - -EBUSY, -EAGAIN, -ENOSPC: as pkeyguard_acquire(), for a virtual key, which must be opened to
 *    wipe the region
 *  - -ENOMEM, -EACCES: the kernel or a sandbox refuses to change the page rights, or the kernel to
 *    unmap; the region may be wiped already; call again
 *  - -EDEADLK: called where this thread has the library's lock (pkeyguard.h)
 *
 * Thread: any, with no other use of this region at the same time. Signal: not async-signal-safe.
 * Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_region_destroy(struct pkeyguard_region *region);

/*
 * pkeyguard_region_associate - move a region to another key
 * @key: the new key; NULL: a private software key, closed
 *
 * Each page changes from the old key to the new one in a single step, and is never without a key.
 * Afterwards rights on the old key no longer give access. Content, page rights and name stay. A
 * call with the region's own key changes nothing.
 *
 * Returns 0, or, with nothing changed:
 *  - -EINVAL: region is NULL
 *  - -EPERM: the region is SEALED, whatever the key
 *  - -EBUSY: a guard on the region is open, under mprotect
 *  - -ENOTSUP: the page rights are PROT_EXEC alone, and the new key is not dedicated
 *  - -EACCES: also if the region has code, the new key is not dedicated, and the process may not
 *    make memory executable (PR_SET_MDWE)
 *  - -ENOMEM, -EACCES, -EDEADLK: as for pkeyguard_region_create()
 *
 * Thread: any, with no other use of this region at the same time. Signal: not async-signal-safe.
 * Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_region_associate(struct pkeyguard_region *region,
                                                                   struct pkeyguard_key *key);

/*
 * pkeyguard_region_protect - change the page rights, for every thread at once
 * @prot: as for pkeyguard_region_create()
 *
 * The change applies inside open guards, in all threads, and to system calls that are blocked. With
 * PROT_NONE it takes the region from every thread.
 *
 * Returns 0, or, with nothing changed:
 *  - -EINVAL: region is NULL, or prot has unknown bits
 *  - -EPERM: the region is SEALED
 *  - -EACCES: also if prot would take PROT_EXEC from adopted memory for good (PR_SET_MDWE)
 *  - -ENOTSUP, -ENOMEM, -EACCES, -EDEADLK: as for pkeyguard_region_create()
 *
 * Thread: any, also while others use the region. Signal: not async-signal-safe. Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_region_protect(struct pkeyguard_region *region,
                                                                 int prot);

enum {
    /* Also puts right what can be put right. */
    PKEYGUARD_CHECK_REPAIR = 1
};

/*
 * pkeyguard_region_check - is a region's memory still as the library made it?
 * @flags: 0 or PKEYGUARD_CHECK_REPAIR
 * @ret_address: set with -ESTALE and -EUCLEAN only; may be NULL
 *
 * Code elsewhere in the process can open a region by mistake, and nothing tells: mmap(2) with
 * MAP_FIXED replaces pages by others that anyone can access, mprotect(2) changes their rights, and
 * munmap(2) leaves the place to the next mapping. The call asks the kernel whether each page of the
 * region, and each guard page, is mapped, and has the pkey and the page rights that it should have
 * now. Pages that were replaced by ones with the same pkey and page rights pass. If the pages are
 * right it also looks at the slack of an END_ALIGNED region, where the page rights allow reading.
 *
 * With PKEYGUARD_CHECK_REPAIR wrong pages get their pkey and page rights back, and damaged slack
 * gets its pattern back where the page rights allow writing. The call returns what it found, as
 * without the flag. What could not be put right is found again by the next call. Pages that are not
 * mapped stay so. The content that pages had before they were replaced is lost, and so is what a
 * region flag gave them, such as LOCKED.
 *
 * It reads /proc/self/smaps, or where the CPU has no pkeys /proc/self/maps, which takes longer the
 * more mappings there are at lower addresses. Meanwhile calls that need the library's lock wait.
 *
 * Returns 0, or:
 *  - -ESTALE: pages are wrong, at ret_address the first. In a fork child that does not have the
 *    memory (NO_FORK, SECRET) every page is wrong.
 *  - -EUCLEAN: bytes of the slack are wrong, at ret_address the first
 *  - -EINVAL: region is NULL, or unknown flags
 *  - -ENOTSUP: there is no /proc
 *  - -EACCES: the file may not be read
 *  - -ENOMEM: no memory, or no file descriptors are left
 *  - -EDEADLK: called where this thread has the library's lock (pkeyguard.h)
 *  - for an END_ALIGNED region, which must be opened, also an errno of pkeyguard_acquire()
 *
 * Thread: any, also while others use the region. Signal: not async-signal-safe. Since 0.2.
 */
__attribute__((warn_unused_result)) int pkeyguard_region_check(struct pkeyguard_region *region,
                                                               unsigned flags, void **ret_address);

/*
 * pkeyguard_region_name - name a region
 * @name: 1 to 63 printable ASCII characters, copied; not [ ] \ $ or `, which the kernel refuses
 *
 * The name appears in the line that a failed scope prints and in the text of a fault (fault.h). It
 * appears in /proc/PID/maps if the kernel has CONFIG_ANON_VMA_NAME (Linux 5.17) and the region is
 * neither SECRET nor adopted.
 *
 * Returns 0, or, with the old name still there: -EINVAL: region is NULL, or the name is not as
 * described; -EDEADLK: called where this thread has the library's lock (pkeyguard.h).
 * Thread: any, with no other use of this region at the same time. Signal: not async-signal-safe.
 * Since 0.1.
 */
__attribute__((warn_unused_result)) int pkeyguard_region_name(struct pkeyguard_region *region,
                                                              const char *name);

/*
 * pkeyguard_region_size - bytes asked for at creation; 0 if region is NULL
 * pkeyguard_region_prot - the page rights, PROT_* bits; PROT_NONE if region is NULL
 * pkeyguard_region_key - the key; NULL if it is a private software key, or region is NULL
 *
 * Guards change none of these.
 *
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
size_t pkeyguard_region_size(const struct pkeyguard_region *region);
int pkeyguard_region_prot(const struct pkeyguard_region *region);
struct pkeyguard_key *pkeyguard_region_key(const struct pkeyguard_region *region);

/*
 * pkeyguard_region_of - the region that an address lies in
 *
 * The function takes no lock, and other threads may create and destroy other regions meanwhile. The
 * caller must make sure that the region it gets is not destroyed while it uses it. The time does
 * not depend on how many regions there are.
 *
 * Returns the region that has the address in one of its pages; NULL if none has. A guard page is in
 * no region; the slack behind or before a region is in the region. In a fork child the addresses of
 * regions that the child does not have (NO_FORK, SECRET) are in none.
 *
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
struct pkeyguard_region *pkeyguard_region_of(const void *address);

/*
 * pkeyguard_region_address - the start of a region that can be read with no guard open
 *
 * Returns the address; or NULL if the key's default rights are PKEYGUARD_NO_ACCESS, because then a
 * scope gives the address, or if region is NULL.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
const void *pkeyguard_region_address(const struct pkeyguard_region *region);

/*
 * pkeyguard_region_unsafe_address - the region's start, without a scope; NULL if region is NULL
 *
 * An access through the pointer faults if the key is closed. A system call that is handed the
 * pointer then fails with EFAULT.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
void *pkeyguard_region_unsafe_address(const struct pkeyguard_region *region);

/*
 * pkeyguard_region_read - copy bytes out of a region
 * @offset: from the region's start, in bytes
 * @buffer: size bytes of the caller's; they may lie in another region that is open
 *
 * For bindings of languages in which a scope is hard to keep: the region is opened, the bytes are
 * copied, and it is closed, in one call.
 *
 * Returns 0; -EINVAL: no region or buffer, or the bytes do not lie inside the region; else as
 * pkeyguard_acquire(): then nothing was copied.
 * Thread: any; the caller orders copies of the same bytes. Signal: as pkeyguard_acquire(). Since
 * 0.2.
 */
__attribute__((warn_unused_result)) int
pkeyguard_region_read(struct pkeyguard_region *region, size_t offset, void *buffer, size_t size);

/*
 * pkeyguard_region_write - copy bytes into a region
 * @offset: from the region's start, in bytes
 * @data: size bytes of the caller's; they may lie in another region that is open
 *
 * As pkeyguard_region_read(), in the other direction.
 *
 * Returns as pkeyguard_region_read().
 * Thread: any; the caller orders copies of the same bytes. Signal: as pkeyguard_acquire(). Since
 * 0.2.
 */
__attribute__((warn_unused_result)) int pkeyguard_region_write(struct pkeyguard_region *region,
                                                               size_t offset, const void *data,
                                                               size_t size);

#include <pkeyguard/end.h>
#endif
