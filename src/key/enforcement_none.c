/* SPDX-License-Identifier: MIT */
/* No enforcement: pages are open as their page rights say; guards change nothing. */
#include "key/enforcement.h"

static int bind(struct pkeyguard_key *key)
{
    (void)key;
    return 0;
}

static enum pkeyguard_rights rights(const struct pkeyguard_key *key)
{
    (void)key;
    return PKEYGUARD_READ_WRITE;
}

static int set_rights(struct pkeyguard_key *key, enum pkeyguard_rights rights)
{
    (void)key, (void)rights;
    return 0;
}

static int apply(const struct pkeyguard_key *key, struct pages *pages)
{
    (void)key;
    pages->allowed = PKEYGUARD_READ_WRITE;
    return pages_protect(pages, pages->prot, 0);
}

static int enter(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, struct pkru_change *ret_change)
{
    (void)key, (void)pages, (void)rights, (void)mode;
    *ret_change = (struct pkru_change){0};
    return 0;
}

static int leave(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, const struct pkru_change *change)
{
    (void)key, (void)pages, (void)rights, (void)mode, (void)change;
    return 0;
}

const struct enforcement no_enforcement = {
    .kind = PKEYGUARD_UNENFORCED,
    .bind = bind,
    .unbind = bind,
    .rights = rights,
    .set_rights = set_rights,
    .apply = apply,
    .enter = enter,
    .leave = leave,
};
