/* SPDX-License-Identifier: MIT */
/* decode.c - finds out what a SIGSEGV was, from its siginfo and signal frame */
#include <pkeyguard/fault.h>

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "base/os.h"
#include "base/registry.h"
#include "fault/module.h"
#include "pkey/pkeys.h"
#include "pkru/bits.h"
#include "pkru/signal_frame.h"
#include "region/region_record.h"

/* If the frame does not say, a fault on readable pages is a write. */
static enum pkeyguard_access access_at_fault(const void *ucontext, bool readable)
{
    int needed;

    if (!access_in_frame(ucontext, &needed))
        return readable ? PKEYGUARD_WRITE_ACCESS : PKEYGUARD_READ_ACCESS;
    if (needed == PROT_WRITE)
        return PKEYGUARD_WRITE_ACCESS;
    return needed == PROT_EXEC ? PKEYGUARD_EXECUTE_ACCESS : PKEYGUARD_READ_ACCESS;
}

/* True if a dedicated key owns the pkey. False for pkey 0 and for pkeys that virtual keys share. */
static bool has_dedicated_key(int pkey)
{
    return pkeys_bits(pkeys_snapshot()) & PKEY_AD(pkey);
}

/*
 * PROT_EXEC alone needs a dedicated key, so an x86 CPU. There each of the three page rights allows
 * reading.
 */
static bool page_rights_permit(int prot, enum pkeyguard_access access)
{
    static const int needed[] = {[PKEYGUARD_READ_ACCESS] = PROT_READ | PROT_WRITE | PROT_EXEC,
                                 [PKEYGUARD_WRITE_ACCESS] = PROT_WRITE,
                                 [PKEYGUARD_EXECUTE_ACCESS] = PROT_EXEC};

    return prot & needed[access];
}

/*
 * Returns the pkey that the pages had when the fault happened, or -1. Another thread's guard may
 * have bound their virtual key since then. In that case page rights stopped the access although the
 * region's own page rights permit it, because pages of a virtual key without a pkey are PROT_NONE.
 */
static int pkey_at_fault(const siginfo_t *info, const struct pages *pages,
                         const struct pkeyguard_fault *fault)
{
    int pkey = pages->pkey;

    if (info->si_code == SEGV_PKUERR)
        return (int)info->si_pkey;
    if (fault->kind == PKEYGUARD_FAULT_BY_PAGE && !has_dedicated_key(pkey) &&
        page_rights_permit(pages->prot, fault->access))
        return -1;
    return pkey > 0 ? pkey : -1;
}

/*
 * Sets the rights on the region: those of the faulting thread if the pages had a pkey, else those
 * of all threads. A virtual key has no default rights that a thread could lack.
 */
static void fill_in_rights(const void *ucontext, const struct pages *pages,
                           struct pkeyguard_fault *fault)
{
    pkru_bits pkru;

    if (fault->key_number < 0) {
        fault->rights = (enum pkeyguard_rights)pages->allowed;
    } else if (pkru_in_frame(ucontext, &pkru)) {
        fault->rights = pkru_rights(fault->key_number, pkru);
        fault->initial_rights = has_dedicated_key(fault->key_number) &&
                                (pkru & PKEY_BITS(fault->key_number)) == PKEY_AD(fault->key_number);
    } else {
        /* The frame has no PKRU if PKRU was 0, its initial state (XSAVE), which forbids nothing. */
        fault->rights = PKEYGUARD_READ_WRITE;
    }
}

/*
 * True for the guard pages around a region, and for the one between a heap's objects and its
 * metadata.
 */
static bool is_guard_page(const struct pkeyguard_region *region, const void *address)
{
    ptrdiff_t offset = (const char *)address - region->pages.address;

    if (offset < 0 || (size_t)offset >= region->pages.length)
        return true;
    /* The objects fill whole pages. annex is 0 if there is no annex. */
    return (size_t)offset >= region->size && (size_t)offset < region->annex;
}

static void fill_in_thread_and_code(const void *ucontext, struct pkeyguard_fault *fault)
{
    fault->thread = os_thread_id();
    os_thread_name(fault->thread_name);
    fault->code = code_in_frame(ucontext);
    if (fault->code != NULL)
        module_find(fault->code, fault->code_file, sizeof(fault->code_file), &fault->code_offset);
}

static struct pkeyguard_fault describe_fault(const siginfo_t *info, const void *ucontext,
                                             const struct pkeyguard_region *region)
{
    const struct pages *pages = &region->pages;
    struct pkeyguard_fault fault = {
        .access = access_at_fault(ucontext, pages->applied & PROT_READ),
        .address = info->si_addr,
        .offset = (char *)info->si_addr - region->head.address,
        .region_size = region->size,
    };

    if (is_guard_page(region, fault.address))
        fault.kind = PKEYGUARD_FAULT_GUARD_PAGE;
    else if (info->si_code == SEGV_PKUERR)
        fault.kind = PKEYGUARD_FAULT_BY_KEY;
    else
        fault.kind = PKEYGUARD_FAULT_BY_PAGE;
    fault.page_rights_forbid =
        fault.kind != PKEYGUARD_FAULT_GUARD_PAGE && !page_rights_permit(pages->prot, fault.access);
    fault.key_number = pkey_at_fault(info, pages, &fault);
    fill_in_rights(ucontext, pages, &fault);
    fill_in_thread_and_code(ucontext, &fault);
    memcpy(fault.region_name, region->name, sizeof(fault.region_name) - 1);
    return fault;
}

/* A fault with a pkey was in the writable mapping, any other in the one that is read-only for all.
 */
static int decode_in_records(const siginfo_t *info, const void *ucontext,
                             struct pkeyguard_fault *ret_fault)
{
    bool by_key = info->si_code == SEGV_PKUERR;
    struct pkeyguard_fault fault = {
        .kind = PKEYGUARD_FAULT_RECORDS,
        .access = access_at_fault(ucontext, !by_key),
        .rights = by_key ? PKEYGUARD_NO_ACCESS : PKEYGUARD_READ_ONLY,
        .key_number = by_key ? (int)info->si_pkey : -1,
        .address = info->si_addr,
    };

    if (!record_memory_protects(info->si_addr))
        return -ENOENT;
    fill_in_thread_and_code(ucontext, &fault);
    *ret_fault = fault;
    return 0;
}

int pkeyguard_fault_decode(const siginfo_t *info, const void *ucontext,
                           struct pkeyguard_fault *ret_fault)
{
    struct pkeyguard_region *region;
    struct pkeyguard_fault fault;
    unsigned generation;

    if (info->si_signo != SIGSEGV || info->si_code <= 0)
        return -ENOENT;
    if (!record_memory_is_here())
        return -ENOENT;
    region = registry_find(&region_registry, info->si_addr, &generation);
    if (region == NULL)
        return decode_in_records(info, ucontext, ret_fault);
    fault = describe_fault(info, ucontext, region);
    /*
     * Other si_codes have nothing to do with rights. A guard page may give SEGV_MAPERR
     * (MADV_GUARD_INSTALL).
     */
    if (fault.kind != PKEYGUARD_FAULT_GUARD_PAGE && info->si_code != SEGV_PKUERR &&
        info->si_code != SEGV_ACCERR)
        return -ENOENT;
    if (!registry_unchanged(region, generation))
        return -ENOENT;
    *ret_fault = fault;
    return 0;
}
