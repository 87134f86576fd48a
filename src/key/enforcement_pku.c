/* SPDX-License-Identifier: MIT */
/* PKU: the kernel tags pages with a pkey, the thread's PKRU says what each pkey allows. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <pkeyguard/pkru.h>

#include "key/enforcement.h"
#include "base/os.h"
#include "pkey/pkeys.h"
#include "pkey/revocation.h"
#include "pkey/kernel_threads.h"
#include "pkey/thread_records.h"

/*
 * pkeys of destroyed keys, a bit each. They are not freed: another thread may still hold rights on
 * them, and the kernel would hand the same number to whoever asks next. Those that every thread was
 * seen to have closed stay closed, for only guards and rights of a live key open one.
 */
static unsigned idle, closed;

static pthread_once_t environment_once = PTHREAD_ONCE_INIT;
static bool environment_wants_mprotect;

static void read_environment(void)
{
    const char *wanted = secure_getenv("PKEYGUARD_ENFORCEMENT");

    environment_wants_mprotect = wanted != NULL && strcmp(wanted, "mprotect") == 0;
}

int pku_ruled_out(void)
{
    pthread_once(&environment_once, read_environment);
    if (environment_wants_mprotect)
        return -ECANCELED;
    return pkeyguard_pkru_supported() ? 0 : -ENOTSUP;
}

/* The idle ones that the threads say they have closed. */
static unsigned closed_by_all(void)
{
    uint64_t closed_at = idle != closed ? thread_records_closed_idle() : 0;
    unsigned found = 0;

    for (unsigned left = idle; left != 0; left &= left - 1) {
        int pkey = __builtin_ctz(left);

        if (pkeys_idle_since(pkey) <= closed_at)
            found |= 1u << pkey;
    }
    return found;
}

/* Those that no other thread has open. */
static unsigned ready_for_reuse(void)
{
    if (idle == 0 || kernel_threads_count() == 1)
        return idle;
    closed |= closed_by_all();
    return closed;
}

unsigned pku_idle_keys(void)
{
    return (unsigned)__builtin_popcount(revocation_allowed() ? idle : ready_for_reuse());
}

static int set_rights(struct pkeyguard_key *key, enum pkeyguard_rights rights)
{
    pkeys_change(key->head.ad_wd, pkeys_deny(key->pkey, rights));
    return 0;
}

int pku_take_idle_key(void)
{
    unsigned reusable = ready_for_reuse();
    int pkey;

    if (reusable == 0)
        return -ENOSPC;
    pkey = __builtin_ctz(reusable);
    idle &= ~(1u << pkey);
    closed &= idle;
    pkeys_reuse(pkey);
    return pkey;
}

/* For a new key. That is not made in a signal handler, so its thread can say what it has closed. */
static int reuse_idle_key(void)
{
    int pkey = pku_take_idle_key();

    /* Without memory for a record the thread stays in the way. */
    if (pkey == -ENOSPC && idle != 0 && thread_records_register() == 0)
        pkey = pku_take_idle_key();
    if (pkey == -ENOSPC && idle != 0 && revoke_everywhere(pkeys_mask(idle)) == 0) {
        closed = idle;
        pkey = pku_take_idle_key();
    }
    return pkey;
}

static int bind(struct pkeyguard_key *key)
{
    int pkey;

    if (pku_ruled_out() != 0)
        return -ENOTSUP;
    pkey = os_pkey_alloc();
    if (pkey == -ENOSPC)
        pkey = reuse_idle_key();
    if (pkey < 0)
        return pkey == -ENOSPC ? -ENOSPC : -ENOTSUP;
    key->pkey = pkey;
    key->head.ad = PKEY_AD(pkey);
    key->head.ad_wd = PKEY_AD(pkey) | PKEY_WD(pkey);
    pkeys_bind(pkey, key->default_rights);
    return set_rights(key, key->default_rights);
}

static int unbind(struct pkeyguard_key *key)
{
    pkeys_unbind(key->pkey);
    pkeys_change(PKEY_WD(key->pkey), PKEY_AD(key->pkey));
    idle |= 1u << key->pkey;
    return 0;
}

static enum pkeyguard_rights rights(const struct pkeyguard_key *key)
{
    return pkeys_rights(key->pkey, pkeyguard_pkru_read());
}

static int apply(const struct pkeyguard_key *key, struct pages *pages)
{
    return pages_protect(pages, pages->prot, key->pkey);
}

static int enter(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, struct pkru_change *ret_change)
{
    uint32_t wd = key->head.ad_wd ^ key->head.ad;
    uint32_t denied = pkeyguard_pkru_read() & key->head.ad_wd;
    uint32_t wanted = denied;

    (void)pages;
    if (mode == GUARD_RESTRICTS) {
        /* Access-disable alone denies everything already, but would say that nobody chose it. */
        wanted |= denied & key->head.ad ? wd : pkeys_deny(key->pkey, rights);
    } else if (rights == PKEYGUARD_READ_WRITE) {
        wanted = 0;
    } else if (rights == PKEYGUARD_READ_ONLY && (denied & key->head.ad)) {
        /* Handlers and threads older than the key have access-disable alone. */
        wanted = wd;
    }
    *ret_change = (struct pkru_change){.cleared = denied & ~wanted, .set = wanted & ~denied};
    pkeys_change(ret_change->cleared, ret_change->set);
    return 0;
}

static int leave(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, const struct pkru_change *change)
{
    (void)key, (void)pages, (void)rights, (void)mode;
    pkeys_change(change->set, change->cleared);
    return 0;
}

const struct enforcement pku_enforcement = {
    .kind = PKEYGUARD_PKU,
    .bind = bind,
    .unbind = unbind,
    .rights = rights,
    .set_rights = set_rights,
    .apply = apply,
    .enter = enter,
    .leave = leave,
};
