/* SPDX-License-Identifier: MIT */
/*
 * Back end without enforcement. Pages have their page rights at all times, and guards change
 * nothing.
 */
#include "key/enforcement.h"

static int unenforced_bind(struct pkeyguard_key *key)
{
    (void)key;
    return 0;
}

static NEEDS_LIBRARY_LOCK int unenforced_apply(const struct pkeyguard_key *key, struct pages *pages)
{
    (void)key;
    to_write(pages)->allowed = PKEYGUARD_READ_WRITE;
    return pages_protect(pages, pages->prot, 0);
}

static enum pkeyguard_rights unenforced_rights(const struct pkeyguard_key *key)
{
    (void)key;
    return PKEYGUARD_READ_WRITE;
}

static int unenforced_set_rights(struct pkeyguard_key *key, enum pkeyguard_rights rights)
{
    (void)key, (void)rights;
    return 0;
}

static int unenforced_enter(struct pkeyguard_key *key, struct pages *pages,
                            enum pkeyguard_rights rights, enum guard_mode mode,
                            struct pkru_change *ret_change)
{
    (void)key, (void)pages, (void)rights, (void)mode;
    *ret_change = (struct pkru_change){0};
    return 0;
}

static int unenforced_leave(struct pkeyguard_key *key, struct pages *pages,
                            enum pkeyguard_rights rights, enum guard_mode mode,
                            const struct pkru_change *change)
{
    (void)key, (void)pages, (void)rights, (void)mode, (void)change;
    return 0;
}

const struct enforcement no_enforcement = {
    .kind = PKEYGUARD_UNENFORCED,
    .bind = unenforced_bind,
    .unbind = unenforced_bind,
    .apply = unenforced_apply,
    .rights = unenforced_rights,
    .set_rights = unenforced_set_rights,
    .set_rights_everywhere = unenforced_set_rights,
    .enter = unenforced_enter,
    .leave = unenforced_leave,
};
