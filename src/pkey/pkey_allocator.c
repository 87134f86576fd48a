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

/* PKEYGUARD_ENFORCEMENT from the environment. Written once, under `once`. */
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

/* Returns the idle pkeys that every thread has closed, by the threads' own records. */
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
 * Returns the idle pkeys that no other thread has open. A pkey that was closed in every thread
 * stays closed, because only guards and rights of a live key open a pkey.
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

/* Takes an idle pkey. -ENOSPC: another thread may have each of them open. */
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

/*
 * Takes an idle pkey. If there is none, first closes the idle pkeys in this thread, then by a
 * signal in all others.
 */
static NEEDS_LIBRARY_LOCK int close_and_take_idle(void)
{
    int pkey = take_idle();

    /*
     * If there is no memory for this thread's record, the thread still counts as one that may have
     * the pkeys open.
     */
    if (pkey == -ENOSPC && pkey_manager.idle != 0 && thread_records_register(true) == 0)
        pkey = take_idle();
    if (pkey == -ENOSPC && pkey_manager.idle != 0 &&
        revoke_everywhere(pkru_of_set(pkey_manager.idle)) == 0) {
        pkey_manager.closed_everywhere = pkey_manager.idle;
        pkey = take_idle();
    }
    return pkey;
}

/*
 * Closes a pkey from the kernel that another user of pkeys may have had before, because
 * pkey_free(2) closes it in no thread. If the program has chosen a signal, every thread closes it.
 * Otherwise only the calling thread does, and a pkey that certainly had another user is not used
 * yet. False: some thread may have it open.
 */
static NEEDS_LIBRARY_LOCK bool close_new_everywhere(int pkey)
{
    bool signal_allowed = signal_round_allowed();

    if (!signal_allowed && !(pkey_manager.second_hand & 1u << pkey))
        return true;
    return kernel_threads_count() == 1 ||
           (signal_allowed && revoke_everywhere(PKEY_BITS(pkey)) == 0);
}

/*
 * The kernel gives out the lowest free pkey. So it had taken this one before if it gave out a
 * higher one. Nor does a thread have a pkey open that nobody had. @pkru: the calling thread's,
 * before the kernel opened the pkey in it.
 */
static NEEDS_LIBRARY_LOCK void note_first_use(int pkey, pkru_bits pkru)
{
    if (pkey < pkey_manager.highest || !(pkru & PKEY_AD(pkey)))
        pkey_manager.second_hand |= 1u << pkey;
    else
        pkey_manager.highest = pkey;
}

/*
 * Checks once that the kernel accepts pkeys for pages. A sandbox may allow pkey_alloc(2) and refuse
 * pkey_mprotect(2).
 */
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

/*
 * Asks the kernel for a pkey. If the program has freed one of this library's, the kernel gives it
 * out again. Such a pkey keeps its owner, and its rights in this thread, which the kernel has
 * opened. From then on the kernel counts it as taken again.
 */
static NEEDS_LIBRARY_LOCK int alloc_foreign(void)
{
    pkru_bits pkru = pkeyguard_pkru_read();
    int pkey;

    while ((pkey = os_pkey_alloc()) > 0 && pkeys_own() & PKEY_BITS(pkey))
        pkeyguard_pkru_write(pkru);
    if (pkey > 0)
        note_first_use(pkey, pkru);
    return pkey;
}

/*
 * Takes a pkey from the kernel. -ENOSPC: the kernel has none left. -ENOTSUP: the kernel has no
 * pkeys, or accepts them for no page.
 */
static NEEDS_LIBRARY_LOCK int take_from_kernel(void)
{
    int pkey = alloc_foreign();

    if (pkey > 0 && !pages_take_pkeys(pkey)) {
        os_pkey_free(pkey);
        return -ENOTSUP;
    }
    return pkey < 0 && pkey != -ENOSPC ? -ENOTSUP : pkey;
}

/*
 * Takes a pkey from the kernel and closes it everywhere. -ENOSPC: none is left, or another thread
 * may have it open.
 */
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

/* Takes a pkey, but leaves the kernel at least one. -ENOSPC: the kernel has only one or none. */
static NEEDS_LIBRARY_LOCK int take_spare(void)
{
    uint32_t pkru = pkeyguard_pkru_read();
    int pkey = take_from_kernel(), spare;

    if (pkey > 0) {
        spare = alloc_foreign();
        os_pkey_free(spare > 0 ? spare : pkey);
        if (spare < 0)
            pkey = -ENOSPC;
        /*
         * One bit only: both bits of a pkey of the pool mark a thread as outside handlers
         * (thread_records.c).
         */
        pkeyguard_pkru_write(pkru);
    }
    return pkey;
}

/*
 * Also checks this thread's signal frames: if interrupted code has the pkey open, the handler's
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
