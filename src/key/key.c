/* SPDX-License-Identifier: MIT */
#include "key/key.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/registry.h"

/* Keys, in memory that does not come from malloc. A key's record is published until the key is
 * destroyed. */
static struct registry keys UNDER_LIBRARY_LOCK = REGISTRY_INIT_UNSEARCHED(struct pkeyguard_key);

static NEEDS_LIBRARY_LOCK int bind_to(struct pkeyguard_key *key,
                                      const struct enforcement *enforcement)
{
    to_write(key)->enforcement = enforcement;
    return enforcement->bind(key);
}

static NEEDS_LIBRARY_LOCK int bind_as_asked(struct pkeyguard_key *key, unsigned flags)
{
    int error;

    if (flags == PKEYGUARD_KEY_SOFTWARE)
        return bind_to(key, &mprotect_enforcement);
    if (flags == PKEYGUARD_KEY_VIRTUAL) {
        error = bind_to(key, &virtual_enforcement);
        if (error == -ENOTSUP)
            return bind_to(key, &mprotect_enforcement);
        return error == -ENOSYS ? -ENOTSUP : error;
    }
    error = bind_to(key, &pku_enforcement);
    if (error == -ENOTSUP && flags == PKEYGUARD_KEY_OPTIONAL)
        return bind_to(key, &no_enforcement);
    if (error == -ENOTSUP && flags == 0)
        return bind_to(key, &mprotect_enforcement);
    return error;
}

static void init_key(struct pkeyguard_key *zeroed_key, enum pkeyguard_rights default_rights)
{
    struct pkeyguard_key *written = to_write(zeroed_key);

    written->default_rights = default_rights;
    written->pkey = -1;
    written->bound_bits = written->pkey_bits = UNBOUND;
    list_init(&zeroed_key->pages);
}

/* At most one flag may be set. */
static bool flags_valid(unsigned flags, enum pkeyguard_rights default_rights)
{
    switch (flags) {
    case 0:
    case PKEYGUARD_KEY_HARDWARE:
    case PKEYGUARD_KEY_SOFTWARE:
    case PKEYGUARD_KEY_OPTIONAL:
        return true;
    case PKEYGUARD_KEY_VIRTUAL:
        return default_rights == PKEYGUARD_NO_ACCESS;
    default:
        return false;
    }
}

static NEEDS_LIBRARY_LOCK int create_key(enum pkeyguard_rights default_rights, unsigned flags,
                                         struct pkeyguard_key **ret_key)
{
    struct pkeyguard_key *key = registry_take(&keys);
    int error;

    if (key == NULL)
        return -ENOMEM;
    init_key(key, default_rights);
    to_write(key)->no_base_rights = flags == PKEYGUARD_KEY_VIRTUAL;
    error = bind_as_asked(key, flags);
    if (error != 0) {
        registry_give_back(&keys, key);
        return error;
    }
    registry_publish(&keys, key, NULL);
    *ret_key = key;
    return 0;
}

int pkeyguard_key_create(enum pkeyguard_rights default_rights, unsigned flags,
                         struct pkeyguard_key **ret_key)
{
    struct pkeyguard_key *key;
    int error;

    if (!rights_valid(default_rights) || !flags_valid(flags, default_rights))
        return -EINVAL;
    error = library_lock();
    if (error != 0)
        return error;
    error = create_key(default_rights, flags, &key);
    library_unlock();
    if (error == 0)
        *ret_key = key;
    return error;
}

int pkeyguard_key_destroy(struct pkeyguard_key *key)
{
    int error;

    if (key == NULL)
        return 0;
    error = library_lock();
    if (error != 0)
        return error;
    error = list_empty(&key->pages) ? key->enforcement->unbind(key) : -EBUSY;
    if (error == 0)
        registry_give_back(&keys, key);
    library_unlock();
    return error;
}

void key_init_private(struct pkeyguard_key *key)
{
    init_key(key, PKEYGUARD_NO_ACCESS);
    (void)bind_to(key, &mprotect_enforcement);
}

void key_end_private(struct pkeyguard_key *key)
{
    (void)key->enforcement->unbind(key);
}

int key_take_pages(struct pkeyguard_key *key, struct pages *pages)
{
    int error = key->enforcement->apply(key, pages);

    if (error == 0) {
        list_remove(&pages->of_key);
        list_insert(&key->pages, &pages->of_key);
    }
    return error;
}

void key_drop_pages(struct pages *pages)
{
    list_remove(&pages->of_key);
    list_init(&pages->of_key);
}

int key_set_prot(const struct pkeyguard_key *key, struct pages *pages, int prot)
{
    int before, error = library_lock();

    if (error != 0)
        return error;
    before = pages->prot;
    to_write(pages)->prot = prot;
    error = key->enforcement->apply(key, pages);
    if (error != 0)
        to_write(pages)->prot = before;
    library_unlock();
    return error;
}

int key_open_pages(struct pkeyguard_key *key, struct pages *pages, struct pkru_change *ret_change)
{
    int before = pages->prot, error = 0;

    if (before != (PROT_READ | PROT_WRITE))
        error = key_set_prot(key, pages, PROT_READ | PROT_WRITE);
    if (error != 0)
        return error;
    error = key->enforcement->enter(key, pages, PKEYGUARD_READ_WRITE, GUARD_WIDENS, ret_change);
    if (error != 0 && pages->prot != before && key_set_prot(key, pages, before) != 0)
        pages_abort_unrestored();
    return error;
}

int key_close_pages(struct pkeyguard_key *key, struct pages *pages,
                    const struct pkru_change *change)
{
    return key->enforcement->leave(key, pages, PKEYGUARD_READ_WRITE, GUARD_WIDENS, change);
}

enum pkeyguard_enforcement pkeyguard_key_enforcement(const struct pkeyguard_key *key)
{
    return key == NULL ? PKEYGUARD_MPROTECT : key->enforcement->kind;
}

int pkeyguard_key_number(const struct pkeyguard_key *key)
{
    return key == NULL ? -1 : key->pkey;
}

enum pkeyguard_rights pkeyguard_key_rights(const struct pkeyguard_key *key)
{
    return key == NULL ? PKEYGUARD_NO_ACCESS : key->enforcement->rights(key);
}

int pkeyguard_key_set_rights(struct pkeyguard_key *key, enum pkeyguard_rights rights)
{
    if (key == NULL || !rights_valid(rights) || key->no_base_rights)
        return -EINVAL;
    return key->enforcement->set_rights(key, rights);
}

int pkeyguard_key_set_rights_everywhere(struct pkeyguard_key *key, enum pkeyguard_rights rights)
{
    if (key == NULL || !rights_valid(rights) || key->no_base_rights)
        return -EINVAL;
    return key->enforcement->set_rights_everywhere(key, rights);
}
