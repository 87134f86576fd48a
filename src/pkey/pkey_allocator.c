/* SPDX-License-Identifier: MIT */
#include "pkey/pkey_allocator.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/os.h"
#include "pkey/kernel_threads.h"
#include "pkey/own_pkru.h"
#include "pkey/pkeys.h"
#include "pkey/revocation.h"
#include "pkey/signal_round.h"
#include "pkey/thread_records.h"

/* PKEYGUARD_ENFORCEMENT in the environment. Written once, under `once`. */
static struct environment {
    pthread_once_t once;
    bool wants_mprotect;
} environment = {.once = PTHREAD_ONCE_INIT};

static void read_environment(void)
{
    const char *wanted = secure_getenv("PKEYGUARD_ENFORCEMENT");

    environment.wants_mprotect = wanted != NULL && strcmp(wanted, "mprotect") == 0;
}

int pkeys_ruled_out(void)
{
    pthread_once(&environment.once, read_environment);
    if (environment.wants_mprotect)
        return -ECANCELED;
    return pkeyguard_pkru_supported() ? 0 : -ENOTSUP;
}

/* The idle pkeys that every thread says it has closed. */
static NEEDS_LIBRARY_LOCK pkey_bitset closed_by_all_threads(void)
{
    pkey_bitset idle = pkey_manager.idle, closed = 0;
    uint64_t closed_at = idle != pkey_manager.closed_everywhere ? thread_records_closed_idle() : 0;

    for (pkey_bitset left = idle; left != 0; left &= left - 1) {
        int pkey = __builtin_ctz(left);

        if (pkey_manager.changed_at[pkey] <= closed_at)
            closed |= 1u << pkey;
    }
    return closed;
}

/*
 * The idle pkeys that no other thread has open. One that was closed everywhere stays closed: only
 * guards and rights of a live key open a pkey.
 */
static NEEDS_LIBRARY_LOCK pkey_bitset closed_elsewhere(void)
{
    if (pkey_manager.idle == 0 || kernel_threads_count() == 1)
        return pkey_manager.idle;
    pkey_manager.closed_everywhere |= closed_by_all_threads();
    return pkey_manager.closed_everywhere;
}

unsigned pkeys_reusable(void)
{
    pkey_bitset reusable = signal_round_allowed() ? pkey_manager.idle : closed_elsewhere();

    return (unsigned)__builtin_popcount(reusable);
}

/* -ENOSPC: there is none that only the calling thread may have open. */
static NEEDS_LIBRARY_LOCK int take_idle(void)
{
    pkey_bitset reusable = closed_elsewhere();
    int pkey;

    if (reusable == 0)
        return -ENOSPC;
    pkey = __builtin_ctz(reusable);
    pkeys_reuse(pkey);
    return pkey;
}

/* The same, after this thread has said what it closed, and after a signal to all the others. */
static NEEDS_LIBRARY_LOCK int close_and_take_idle(void)
{
    int pkey = take_idle();

    /* A thread that has no memory for its record stays one that may have the pkeys open. */
    if (pkey == -ENOSPC && pkey_manager.idle != 0 && thread_records_register() == 0)
        pkey = take_idle();
    if (pkey == -ENOSPC && pkey_manager.idle != 0 &&
        revoke_everywhere(pkru_of_set(pkey_manager.idle)) == 0) {
        pkey_manager.closed_everywhere = pkey_manager.idle;
        pkey = take_idle();
    }
    return pkey;
}

/*
 * Another user of pkeys may have had this one before: pkey_free(2) closes it in no thread. If the
 * program allows a signal, every other thread is made to close it. Else only the calling thread
 * does, as the kernel does for a pkey that it has never given out.
 */
static NEEDS_LIBRARY_LOCK bool close_new_everywhere(int pkey)
{
    return !signal_round_allowed() || kernel_threads_count() == 1 ||
           revoke_everywhere(PKEY_BITS(pkey)) == 0;
}

/* A sandbox may know pkey_alloc(2) and refuse pkey_mprotect(2). Looks once. */
static NEEDS_LIBRARY_LOCK bool pages_take_pkeys(int pkey)
{
    void *page;

    if (!pkey_manager.pages_take_pkeys && os_allocate_pages(os_page_size(), &page) == 0) {
        pkey_manager.pages_take_pkeys =
            os_protect_with_pkey(page, os_page_size(), PROT_READ | PROT_WRITE, pkey) == 0;
        os_free_pages(page, os_page_size());
    }
    return pkey_manager.pages_take_pkeys;
}

/* A pkey from the kernel. -ENOSPC; -ENOTSUP: it has none, or no page takes it. */
static NEEDS_LIBRARY_LOCK int take_from_kernel(void)
{
    int pkey = os_pkey_alloc();

    if (pkey > 0 && !pages_take_pkeys(pkey)) {
        os_pkey_free(pkey);
        return -ENOTSUP;
    }
    return pkey < 0 && pkey != -ENOSPC ? -ENOTSUP : pkey;
}

/* The same, closed everywhere. -ENOSPC: there is none that no other thread can have open. */
static NEEDS_LIBRARY_LOCK int take_new(void)
{
    int pkey;

    while ((pkey = take_from_kernel()) > 0 && !close_new_everywhere(pkey))
        pkeys_make_idle(pkey);
    return pkey;
}

int pkey_take(enum pkeyguard_rights default_rights)
{
    int pkey;

    if (pkeys_ruled_out() != 0)
        return -ENOTSUP;
    pkey = take_new();
    if (pkey == -ENOSPC)
        pkey = close_and_take_idle();
    if (pkey < 0)
        return pkey;
    pkeys_dedicate(pkey, default_rights);
    return pkey;
}

void pkey_retire(int pkey)
{
    pkeys_make_idle(pkey);
    own_pkru_change(PKEY_WD(pkey), PKEY_AD(pkey));
}

/* One that the kernel can spare. -ENOSPC: it has one or none. */
static NEEDS_LIBRARY_LOCK int take_spare(void)
{
    uint32_t pkru = pkeyguard_pkru_read();
    int pkey = take_from_kernel(), spare;

    if (pkey > 0) {
        spare = os_pkey_alloc();
        os_pkey_free(spare > 0 ? spare : pkey);
        if (spare < 0)
            pkey = -ENOSPC;
        /* Both bits of a pkey in the pool mark a thread outside handlers (thread_records.c). */
        pkeyguard_pkru_write(pkru);
    }
    return pkey;
}

/*
 * The thread itself may have the pkey open, too, in code that a handler has interrupted: then its
 * return would open it again.
 */
int pkey_take_for_pool(void)
{
    int pkey = take_spare();

    if (pkey > 0 && !(thread_stays_closed(PKEY_AD(pkey)) && close_new_everywhere(pkey))) {
        pkeys_make_idle(pkey);
        pkey = -ENOSPC;
    }
    if (pkey == -ENOSPC && thread_outside_handlers())
        pkey = take_idle();
    pkey_manager.pool_is_full = pkey < 0;
    if (pkey > 0) {
        own_pkru_change(0, PKEY_AD(pkey));
        pkeys_add_to_pool(pkey);
    }
    return pkey;
}
