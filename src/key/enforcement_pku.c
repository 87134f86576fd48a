/* SPDX-License-Identifier: MIT */
/*
 * Back end of dedicated keys. The kernel tags their pages with the key's own pkey; each thread's
 * PKRU says what that pkey allows.
 */
#include <errno.h>

#include "key/key.h"
#include "key/virtual_pool.h"
#include "pkey/kernel_threads.h"
#include "pkey/own_pkru.h"
#include "pkey/pkey_allocator.h"
#include "pkey/revocation.h"

static int pku_set_rights(struct pkeyguard_key *key, enum pkeyguard_rights rights)
{
    pkru_bits deny = pkru_deny(key->pkey, rights);

    pkeys_note_given_up(deny & ~pkru_deny(key->pkey, key->default_rights));
    own_pkru_change(key->head.ad_wd, deny);
    return 0;
}

static int pku_set_rights_everywhere(struct pkeyguard_key *key, enum pkeyguard_rights rights)
{
    int error = library_lock();

    if (error != 0)
        return error;
    if (kernel_threads_count() == 1)
        pkeys_note_everywhere(key->pkey, pkru_deny(key->pkey, rights));
    else
        error = set_rights_everywhere(key->pkey, pkru_deny(key->pkey, rights));
    if (error == 0)
        error = pku_set_rights(key, rights);
    library_unlock();
    return error;
}

static NEEDS_LIBRARY_LOCK int pku_bind(struct pkeyguard_key *key)
{
    struct pkeyguard_key *written = to_write(key);
    int pkey = pkey_take(key->default_rights);

    if (pkey == -ENOSPC && virtual_pool_shrink())
        pkey = pkey_take(key->default_rights);
    if (pkey < 0)
        return pkey;
    written->pkey = pkey;
    written->head.ad = PKEY_AD(pkey);
    written->head.ad_wd = PKEY_BITS(pkey);
    written->head.wd = PKEY_WD(pkey);
    written->head.default_deny = pkru_deny(pkey, key->default_rights);
    return pku_set_rights(key, key->default_rights);
}

static NEEDS_LIBRARY_LOCK int pku_unbind(struct pkeyguard_key *key)
{
    pkey_retire(key->pkey);
    return 0;
}

static NEEDS_LIBRARY_LOCK int pku_apply(const struct pkeyguard_key *key, struct pages *pages)
{
    return pages_protect(pages, pages->prot, key->pkey);
}

static enum pkeyguard_rights pku_rights(const struct pkeyguard_key *key)
{
    return pkru_rights(key->pkey, pkeyguard_pkru_read());
}

/*
 * The deny bits inside a restrict guard. AD alone denies all access, but AD alone is also the
 * kernel's initial value. The guard sets WD too, which shows that this thread chose the value.
 */
static pkru_bits pku_narrowed(const struct pkeyguard_key *key, pkru_bits denied,
                              enum pkeyguard_rights rights)
{
    return denied | (denied & key->head.ad ? key->head.wd : pkru_deny(key->pkey, rights));
}

static int pku_enter(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                     enum guard_mode mode, struct pkru_change *ret_change)
{
    pkru_bits denied = pkeyguard_pkru_read() & key->head.ad_wd, wanted;

    (void)pages;
    wanted = mode == GUARD_RESTRICTS ? pku_narrowed(key, denied, rights)
                                     : pkru_widened(denied, key->head.ad, rights);
    *ret_change = (struct pkru_change){
        .cleared = pkru_to_relative(key->pkey, denied & ~wanted),
        .set = pkru_to_relative(key->pkey, wanted & ~denied),
    };
    if (mode == GUARD_RESTRICTS)
        pkeys_note_given_up(wanted & ~denied);
    own_pkru_change(denied & ~wanted, wanted & ~denied);
    return 0;
}

static int pku_leave(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                     enum guard_mode mode, const struct pkru_change *change)
{
    (void)pages, (void)rights, (void)mode;
    own_pkru_change(pkru_from_relative(key->pkey, change->set),
                    pkru_from_relative(key->pkey, change->cleared));
    return 0;
}

static bool pku_denied(const struct pkeyguard_key *key, pkru_bits *ret_denied)
{
    *ret_denied = pkru_to_relative(key->pkey, pkeyguard_pkru_read());
    return true;
}

const struct enforcement pku_enforcement = {
    .kind = PKEYGUARD_PKU,
    .owns_pkey = true,
    .bind = pku_bind,
    .unbind = pku_unbind,
    .apply = pku_apply,
    .rights = pku_rights,
    .set_rights = pku_set_rights,
    .set_rights_everywhere = pku_set_rights_everywhere,
    .enter = pku_enter,
    .leave = pku_leave,
    .denied = pku_denied,
};
