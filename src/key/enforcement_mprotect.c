/* SPDX-License-Identifier: MIT */
/*
 * Back end of software keys. The page tables allow the widest rights that any open guard in the
 * process asks for.
 *
 * A region's rights are the widest of three things: the guards on the region, the guards on its
 * whole key, and the key's base rights narrowed by the region's restrict guards. The library calls
 * the kernel only when the result changes.
 */
#include <errno.h>
#include <sys/mman.h>

#include "base/error_text.h"
#include "base/os.h"
#include "key/key.h"
#include "key/own_counts.h"

/* All software keys, including the private keys of single regions. */
static struct software_keys {
    struct list keys;
} software_keys UNDER_LIBRARY_LOCK = {.keys = LIST_INIT(software_keys.keys)};

static enum pkeyguard_rights wider(enum pkeyguard_rights a, enum pkeyguard_rights b)
{
    return a > b ? a : b;
}

static enum pkeyguard_rights narrower(enum pkeyguard_rights a, enum pkeyguard_rights b)
{
    return a < b ? a : b;
}

static NEEDS_LIBRARY_LOCK enum pkeyguard_rights allowed_rights(const struct pkeyguard_key *key,
                                                               const struct pages *pages)
{
    enum pkeyguard_rights base = narrower(key->base, guard_counts_limit(&pages->guards));
    enum pkeyguard_rights guards =
        wider(guard_counts_widest(&pages->guards), guard_counts_widest(&key->guards));

    return wider(base, guards);
}

static int allowed_prot(int prot, enum pkeyguard_rights rights)
{
    switch (rights) {
    case PKEYGUARD_READ_WRITE:
        return prot;
    case PKEYGUARD_READ_ONLY:
        /*
         * The CPU lets a program read a page that has only PROT_WRITE, so a read guard makes it
         * readable.
         */
        return prot & PROT_WRITE ? (prot & PROT_EXEC) | PROT_READ : prot;
    default:
        return PROT_NONE;
    }
}

static NEEDS_LIBRARY_LOCK int mprotect_apply(const struct pkeyguard_key *key, struct pages *pages)
{
    enum pkeyguard_rights rights = allowed_rights(key, pages);
    int prot = allowed_prot(pages->prot, rights), error = 0;

    if (prot != pages->applied || pages->pkey != 0)
        error = pages_protect(pages, prot, 0);
    if (error == 0)
        to_write(pages)->allowed = (int)rights;
    return error;
}

/* Changes all of the key's pages. After a failure some pages have changed and some have not. */
static NEEDS_LIBRARY_LOCK int apply_to_key(struct pkeyguard_key *key)
{
    to_write(key)->open = wider(key->base, guard_counts_widest(&key->guards));
    list_for_each(link, &key->pages)
    {
        int error = mprotect_apply(key, list_entry(link, struct pages, of_key));

        if (error != 0)
            return error;
    }
    return 0;
}

/* Applies the counts of open guards to these pages, or to the whole key for NULL. */
static NEEDS_LIBRARY_LOCK int apply_counts(struct pkeyguard_key *key, struct pages *pages)
{
    return pages != NULL ? mprotect_apply(key, pages) : apply_to_key(key);
}

/* True if the kernel may allow more than these pages should, after it has refused a change. */
static NEEDS_LIBRARY_LOCK bool too_open(const struct pkeyguard_key *key, const struct pages *pages)
{
    int prot = allowed_prot(pages->prot, allowed_rights(key, pages));

    return (pages->applied & ~prot) != 0;
}

/*
 * All of the key's pages, whatever the kernel refuses. True: none is more open than it should be.
 * One that is less open becomes right with the next change.
 */
static NEEDS_LIBRARY_LOCK bool narrow_key(struct pkeyguard_key *key)
{
    bool narrow = true;

    to_write(key)->open = wider(key->base, guard_counts_widest(&key->guards));
    list_for_each(link, &key->pages)
    {
        struct pages *pages = list_entry(link, struct pages, of_key);

        if (mprotect_apply(key, pages) != 0 && too_open(key, pages))
            narrow = false;
    }
    return narrow;
}

/* Restores the pages after a failure. The caller has restored base and counts. */
static NEEDS_LIBRARY_LOCK void restore_key(struct pkeyguard_key *key)
{
    if (!narrow_key(key))
        pages_abort_unrestored();
}

void mprotect_forget_others(void)
{
    list_mend(&software_keys.keys);
    list_for_each(link, &software_keys.keys)
    {
        struct pkeyguard_key *key = list_entry(link, struct pkeyguard_key, of_process);

        list_mend(&key->pages);
        guard_counts_keep_forking_threads(&key->guards);
        list_for_each(link_of_key, &key->pages) guard_counts_keep_forking_threads(
            &list_entry(link_of_key, struct pages, of_key)->guards);
        if (!narrow_key(key))
            os_abort("a fork child cannot close what other threads had open", NULL);
    }
}

static NEEDS_LIBRARY_LOCK int mprotect_bind(struct pkeyguard_key *key)
{
    struct pkeyguard_key *written = to_write(key);

    written->base = key->default_rights;
    written->guards = (struct guard_counts){0};
    written->open = key->base;
    list_insert(&software_keys.keys, &key->of_process);
    return 0;
}

static NEEDS_LIBRARY_LOCK int mprotect_unbind(struct pkeyguard_key *key)
{
    if (guard_counts_any(&key->guards))
        return -EBUSY;
    list_remove(&key->of_process);
    return 0;
}

static enum pkeyguard_rights mprotect_rights(const struct pkeyguard_key *key)
{
    return (enum pkeyguard_rights)key->open;
}

static int mprotect_set_rights(struct pkeyguard_key *key, enum pkeyguard_rights rights)
{
    enum pkeyguard_rights before;
    int error = library_lock();

    if (error != 0)
        return error;
    before = key->base;
    to_write(key)->base = rights;
    error = apply_to_key(key);
    if (error != 0) {
        to_write(key)->base = before;
        restore_key(key);
    }
    library_unlock();
    return error;
}

static struct guard_target target_of(struct pkeyguard_key *key, struct pages *pages)
{
    return (struct guard_target){
        .key = key, .pages = pages, .counts = pages != NULL ? &pages->guards : &key->guards};
}

static enum pkeyguard_rights open_for(const struct guard_target *target)
{
    return (enum pkeyguard_rights)(target->pages != NULL ? target->pages->allowed
                                                         : target->key->open);
}

/*
 * If the target is less open than the thread's own guards have it, another thread has released one
 * of them, or another thread of this fork child did not know whose they are.
 */
static NEEDS_LIBRARY_LOCK void notice_foreign_releases(const struct guard_target *target)
{
    if (guard_counts_nesting(target) > open_for(target))
        guard_counts_count_each(target);
}

static int mprotect_enter(struct pkeyguard_key *key, struct pages *pages,
                          enum pkeyguard_rights rights, enum guard_mode mode,
                          struct pkru_change *ret_change)
{
    struct guard_target target = target_of(key, pages);
    int error = library_lock();

    if (error != 0)
        return error;
    *ret_change = (struct pkru_change){0};
    notice_foreign_releases(&target);
    error = guard_counts_add(&target, rights, mode);
    if (error == 0) {
        error = apply_counts(key, pages);
        if (error != 0) {
            guard_counts_remove(target.counts, rights, mode);
            restore_key(key);
        }
    }
    guard_counts_let_nest(&target);
    library_unlock();
    return error;
}

/*
 * A release that is over but may not have returned: the handler of a signal that waited for the
 * lock's release may leave it by siglongjmp(3). The guard then seems to be open.
 */
static __thread struct unreturned_release {
    const struct guard_counts *counts; /* NULL: there is none */
    enum pkeyguard_rights rights;
    enum guard_mode mode;
} unreturned_release __attribute__((tls_model("initial-exec")));

/* True if that release has already released this guard. */
static bool was_released(const struct guard_counts *counts, enum pkeyguard_rights rights,
                         enum guard_mode mode)
{
    return unreturned_release.counts == counts && unreturned_release.rights == rights &&
           unreturned_release.mode == mode;
}

static int mprotect_leave(struct pkeyguard_key *key, struct pages *pages,
                          enum pkeyguard_rights rights, enum guard_mode mode,
                          const struct pkru_change *change)
{
    struct guard_target target = target_of(key, pages);
    int error = library_lock();

    (void)change;
    if (error != 0)
        return error;
    if (!guard_counts_remove(target.counts, rights, mode) &&
        !was_released(target.counts, rights, mode))
        os_abort("a guard released twice, through a copy of it", NULL);
    error = apply_counts(key, pages);
    if (error == 0) {
        unreturned_release = (struct unreturned_release){target.counts, rights, mode};
    } else {
        /* This cannot fail: the entry that was removed above left room. */
        if (guard_counts_add(&target, rights, mode) != 0)
            os_abort("the count of an open guard is lost", NULL);
        restore_key(key);
    }
    guard_counts_let_nest(&target);
    library_unlock();
    unreturned_release.counts = NULL;
    return error;
}

int mprotect_settle(struct own_count *mine, enum pkeyguard_rights released)
{
    struct guard_target target;
    int error = library_lock();

    if (error != 0)
        return error;
    if (guard_counts_settle(mine, &target)) {
        error = apply_counts(target.key, target.pages);
        guard_counts_let_nest(&target);
        unreturned_release = (struct unreturned_release){target.counts, released, GUARD_WIDENS};
    }
    library_unlock();
    unreturned_release.counts = NULL;
    return error;
}

static LOCK_ANALYSIS(no_thread_safety_analysis) void apply_or_abort(
    const struct guard_target *target)
{
    if (apply_counts(target->key, target->pages) != 0)
        os_abort("a call gate cannot close the thread's guards, or open them again", NULL);
}

static LOCK_ANALYSIS(acquire_capability(library_mutex))
    LOCK_ANALYSIS(no_thread_safety_analysis) void lock_or_abort(void)
{
    int error = library_lock();

    if (error != 0)
        os_abort("a call gate: ", error_text(error), NULL);
}

void mprotect_suspend_own(void)
{
    lock_or_abort();
    guard_counts_suspend(apply_or_abort);
    library_unlock();
}

void mprotect_resume_own(unsigned level)
{
    lock_or_abort();
    guard_counts_resume(level, apply_or_abort);
    library_unlock();
}

unsigned mprotect_raise_level(void)
{
    unsigned level;

    lock_or_abort();
    level = guard_counts_raise_level();
    library_unlock();
    return level;
}

void mprotect_keep_guards_at(unsigned level)
{
    lock_or_abort();
    guard_counts_keep_at_level(level);
    library_unlock();
}

void mprotect_lower_level(unsigned level)
{
    lock_or_abort();
    guard_counts_lower_level(level, apply_or_abort);
    library_unlock();
}

int mprotect_switch_own(uint64_t to, uint64_t *ret_from)
{
    int error;

    *ret_from = 0;
    if (to == 0 && !guard_counts_any_own())
        return 0;
    error = library_lock();
    if (error != 0)
        return error;
    error = guard_counts_switch(to, ret_from);
    library_unlock();
    return error;
}

const struct enforcement mprotect_enforcement = {
    .kind = PKEYGUARD_MPROTECT,
    .bind = mprotect_bind,
    .unbind = mprotect_unbind,
    .apply = mprotect_apply,
    .rights = mprotect_rights,
    .set_rights = mprotect_set_rights,
    .set_rights_everywhere = mprotect_set_rights,
    .enter = mprotect_enter,
    .leave = mprotect_leave,
};
