/* SPDX-License-Identifier: MIT */
/*
 * mprotect: the page tables allow what the widest open guard in the process asks for.
 *
 * A region's effective rights are the widest of the guards on it, the guards on its whole key and
 * the key's base, the base narrowed by the region's restrict guards. The kernel is called only when
 * they change.
 */
#include <errno.h>
#include <sys/mman.h>

#include "key/enforcement.h"
#include "base/lock.h"
#include "base/os.h"

static struct list keys_of_process = LIST_INIT(keys_of_process);

static enum pkeyguard_rights wider(enum pkeyguard_rights a, enum pkeyguard_rights b)
{
    return a > b ? a : b;
}

static enum pkeyguard_rights narrower(enum pkeyguard_rights a, enum pkeyguard_rights b)
{
    return a < b ? a : b;
}

static enum pkeyguard_rights allowed(const struct pkeyguard_key *key, const struct pages *pages)
{
    enum pkeyguard_rights base = narrower(key->base, guard_counts_limit(&pages->held));
    enum pkeyguard_rights guards =
        wider(guard_counts_widest(&pages->held), guard_counts_widest(&key->held));

    return wider(base, guards);
}

static int allowed_prot(int prot, enum pkeyguard_rights rights)
{
    switch (rights) {
    case PKEYGUARD_READ_WRITE:
        return prot;
    case PKEYGUARD_READ_ONLY:
        /* On the CPU write implies read, so a read guard on PROT_WRITE pages reads. */
        return prot & PROT_WRITE ? (prot & PROT_EXEC) | PROT_READ : prot;
    default:
        return PROT_NONE;
    }
}

static int apply(const struct pkeyguard_key *key, struct pages *pages)
{
    enum pkeyguard_rights rights = allowed(key, pages);
    int prot = allowed_prot(pages->prot, rights), error = 0;

    if (prot != pages->applied || pages->pkey != 0)
        error = pages_protect(pages, prot, 0);
    if (error == 0)
        pages->allowed = (int)rights;
    return error;
}

/* All of the key's pages; on failure some have changed. */
static int apply_to_all(struct pkeyguard_key *key)
{
    key->open = wider(key->base, guard_counts_widest(&key->held));
    list_for_each(link, &key->pages)
    {
        int error = apply(key, list_entry(link, struct pages, of_key));

        if (error != 0)
            return error;
    }
    return 0;
}

/* Applies what the account says to these pages, or to the whole key for NULL. */
static int refresh(struct pkeyguard_key *key, struct pages *pages)
{
    return pages != NULL ? apply(key, pages) : apply_to_all(key);
}

/* After a failed refresh, when the account is back to what it was. */
static void restore(struct pkeyguard_key *key)
{
    if (apply_to_all(key) != 0)
        os_abort("the kernel refuses to take page rights back", NULL);
}

static void keep_own_guards(void)
{
    list_for_each(link, &keys_of_process)
    {
        struct pkeyguard_key *key = list_entry(link, struct pkeyguard_key, of_process);

        guard_counts_keep_own(&key->held);
        list_for_each(link_of_key, &key->pages)
            guard_counts_keep_own(&list_entry(link_of_key, struct pages, of_key)->held);
        if (apply_to_all(key) != 0)
            os_abort("a fork child cannot close what other threads had open", NULL);
    }
}

static int bind(struct pkeyguard_key *key)
{
    library_add_fork_child(keep_own_guards);
    key->base = key->default_rights;
    key->held = (struct guard_counts){0};
    key->open = key->base;
    list_insert(&keys_of_process, &key->of_process);
    return 0;
}

static int unbind(struct pkeyguard_key *key)
{
    if (guard_counts_any(&key->held))
        return -EBUSY;
    list_remove(&key->of_process);
    return 0;
}

static enum pkeyguard_rights rights(const struct pkeyguard_key *key)
{
    return (enum pkeyguard_rights)key->open;
}

static int set_rights(struct pkeyguard_key *key, enum pkeyguard_rights rights)
{
    enum pkeyguard_rights before;
    int error = library_lock();

    if (error != 0)
        return error;
    before = key->base;
    key->base = rights;
    error = apply_to_all(key);
    if (error != 0) {
        key->base = before;
        restore(key);
    }
    library_unlock();
    return error;
}

static int enter(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, struct pkru_change *ret_change)
{
    struct guard_counts *held = pages != NULL ? &pages->held : &key->held;
    int error = library_lock();

    if (error != 0)
        return error;
    *ret_change = (struct pkru_change){0};
    error = guard_counts_add(held, rights, mode);
    if (error == 0) {
        error = refresh(key, pages);
        if (error != 0) {
            guard_counts_remove(held, rights, mode);
            restore(key);
        }
    }
    library_unlock();
    return error;
}

static int leave(struct pkeyguard_key *key, struct pages *pages, enum pkeyguard_rights rights,
                 enum guard_mode mode, const struct pkru_change *change)
{
    struct guard_counts *held = pages != NULL ? &pages->held : &key->held;
    int error = library_lock();

    (void)change;
    if (error != 0)
        return error;
    if (!guard_counts_remove(held, rights, mode))
        os_abort("a guard released twice, through a copy of it", NULL);
    error = refresh(key, pages);
    if (error != 0) {
        /* The room that it left is still there. */
        if (guard_counts_add(held, rights, mode) != 0)
            os_abort("the account of an open guard is lost", NULL);
        restore(key);
    }
    library_unlock();
    return error;
}

const struct enforcement mprotect_enforcement = {
    .kind = PKEYGUARD_MPROTECT,
    .bind = bind,
    .unbind = unbind,
    .rights = rights,
    .set_rights = set_rights,
    .apply = apply,
    .enter = enter,
    .leave = leave,
};
