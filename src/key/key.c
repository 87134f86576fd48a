/* SPDX-License-Identifier: MIT */
#include <pkeyguard/key.h>

#include <errno.h>
#include <stdlib.h>

#include "key/enforcement.h"
#include "base/lock.h"

static int bind(struct pkeyguard_key *key, const struct enforcement *enforcement)
{
    key->enforcement = enforcement;
    return enforcement->bind(key);
}

static int bind_as_asked(struct pkeyguard_key *key, unsigned flags)
{
    int error;

    if (flags == PKEYGUARD_KEY_SOFTWARE)
        return bind(key, &mprotect_enforcement);
    if (flags == PKEYGUARD_KEY_VIRTUAL) {
        error = bind(key, &virtual_enforcement);
        if (error == -ENOTSUP)
            return bind(key, &mprotect_enforcement);
        return error == -ENOSYS ? -ENOTSUP : error;
    }
    error = bind(key, &pku_enforcement);
    if (error == -ENOTSUP && flags == PKEYGUARD_KEY_OPTIONAL)
        return bind(key, &no_enforcement);
    if (error == -ENOTSUP && flags == 0)
        return bind(key, &mprotect_enforcement);
    return error;
}

int pkeyguard_key_create(enum pkeyguard_rights default_rights, unsigned flags,
                         struct pkeyguard_key **ret_key)
{
    struct pkeyguard_key *key;
    int error;

    /* The flags exclude one another. */
    if (!rights_valid(default_rights) ||
        (flags != 0 && flags != PKEYGUARD_KEY_HARDWARE && flags != PKEYGUARD_KEY_SOFTWARE &&
         flags != PKEYGUARD_KEY_VIRTUAL && flags != PKEYGUARD_KEY_OPTIONAL) ||
        (flags == PKEYGUARD_KEY_VIRTUAL && default_rights != PKEYGUARD_NO_ACCESS))
        return -EINVAL;
    key = calloc(1, sizeof(*key));
    if (key == NULL)
        return -ENOMEM;
    key->default_rights = default_rights;
    key->pkey = -1;
    key->bound = key->pkey_bits = UNBOUND;
    key->no_base_rights = flags == PKEYGUARD_KEY_VIRTUAL;
    list_init(&key->pages);
    error = library_lock();
    if (error == 0) {
        error = bind_as_asked(key, flags);
        library_unlock();
    }
    if (error != 0) {
        free(key);
        return error;
    }
    *ret_key = key;
    return 0;
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
    library_unlock();
    if (error == 0)
        free(key);
    return error;
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
