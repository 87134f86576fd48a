/* SPDX-License-Identifier: MIT */
#include "key/guard_counts.h"

#include <stddef.h>
#include <string.h>

#include "base/list.h"
#include "base/os.h"
#include "base/process.h"

/* The calling thread's guards on one target that belong to one level. */
struct own_count {
    /* valid only while a guard of this entry, open or suspended, keeps the target alive */
    struct guard_target target;
    struct guard_counts counts;
    unsigned level;
    unsigned suspended_for; /* the level that suspended them; 0: they are not suspended */
};

enum { FEW = 8 };

/*
 * A thread has few entries, so the code searches them one by one, the newest first. If there are
 * more than FEW, they move to pages that do not come from malloc, because a signal handler that
 * interrupted malloc may acquire a guard. The pages are unmapped when the last guard is released,
 * so a thread that ends leaves none.
 */
static __thread struct own_counts {
    unsigned level; /* the level of new guards */
    struct own_count *entries;
    size_t count, room;
    struct own_count few[FEW];
} own_counts __attribute__((tls_model("initial-exec")));

/* The guards of a coroutine that does not run. */
struct parked_counts {
    struct list of_process;
    uint64_t number;                    /* not 0 */
    const struct own_counts *parked_by; /* the thread that it ran in; compared, never read */
    struct own_counts own;
};

static struct parked {
    struct list all;
    uint64_t last_number;
} parked UNDER_LIBRARY_LOCK = {.all = LIST_INIT(parked.all)};

/* Returns the entry of the current level, or NULL. */
static struct own_count *find_own(const struct guard_counts *counts)
{
    for (size_t i = own_counts.count; i-- > 0;) {
        struct own_count *mine = &own_counts.entries[i];

        if (mine->target.counts == counts && mine->suspended_for == 0 &&
            mine->level == own_counts.level)
            return mine;
    }
    return NULL;
}

/* Makes room for more entries in new pages, and moves the entries there. */
static int grow_own_counts(void)
{
    size_t size = own_counts.room * sizeof(*own_counts.entries), grown;
    void *entries = own_counts.entries;
    int error;

    if (own_counts.entries == own_counts.few) {
        grown = os_page_size();
        error = os_allocate_pages(grown, &entries);
        if (error == 0)
            memcpy(entries, own_counts.few, size);
    } else {
        grown = 2 * size;
        error = os_grow_pages(size, grown, &entries);
    }
    if (error != 0)
        return error;
    own_counts.entries = entries;
    own_counts.room = grown / sizeof(*own_counts.entries);
    return 0;
}

static int make_room_for_own(void)
{
    if (own_counts.count < own_counts.room)
        return 0;
    if (own_counts.room > 0)
        return grow_own_counts();
    own_counts.entries = own_counts.few;
    own_counts.room = FEW;
    return 0;
}

static void drop_own(struct own_count *entry)
{
    *entry = own_counts.entries[--own_counts.count];
    if (own_counts.count == 0 && own_counts.entries != own_counts.few) {
        os_free_pages(own_counts.entries, own_counts.room * sizeof(*own_counts.entries));
        own_counts.entries = own_counts.few;
        own_counts.room = FEW;
    }
}

static unsigned *counter(struct guard_counts *counts, enum pkeyguard_rights rights,
                         enum guard_mode mode)
{
    if (mode == GUARD_WIDENS)
        return rights == PKEYGUARD_READ_WRITE ? &counts->writers : &counts->readers;
    return rights == PKEYGUARD_READ_ONLY ? &counts->to_read : &counts->to_nothing;
}

bool guard_counts_any(const struct guard_counts *counts)
{
    return (counts->readers | counts->writers | counts->to_read | counts->to_nothing |
            counts->suspended) != 0;
}

static bool counts_none(const struct guard_counts *counts)
{
    return (counts->readers | counts->writers | counts->to_read | counts->to_nothing) == 0;
}

enum pkeyguard_rights guard_counts_widest(const struct guard_counts *counts)
{
    if (counts->writers != 0)
        return PKEYGUARD_READ_WRITE;
    return counts->readers != 0 ? PKEYGUARD_READ_ONLY : PKEYGUARD_NO_ACCESS;
}

enum pkeyguard_rights guard_counts_limit(const struct guard_counts *counts)
{
    if (counts->to_nothing != 0)
        return PKEYGUARD_NO_ACCESS;
    return counts->to_read != 0 ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE;
}

int guard_counts_add(const struct guard_target *target, enum pkeyguard_rights rights,
                     enum guard_mode mode)
{
    struct own_count *mine = find_own(target->counts);

    if (mine == NULL) {
        int error = make_room_for_own();

        if (error != 0)
            return error;
        mine = &own_counts.entries[own_counts.count++];
        *mine = (struct own_count){.target = *target, .level = own_counts.level};
    }
    ++*counter(&mine->counts, rights, mode);
    ++*counter(target->counts, rights, mode);
    return 0;
}

/* Returns the thread's newest entry that has such a guard, or NULL. */
static struct own_count *find_guard(const struct guard_counts *counts, enum pkeyguard_rights rights,
                                    enum guard_mode mode, bool suspended)
{
    for (size_t i = own_counts.count; i-- > 0;) {
        struct own_count *mine = &own_counts.entries[i];

        if (mine->target.counts == counts && (mine->suspended_for != 0) == suspended &&
            *counter(&mine->counts, rights, mode) != 0)
            return mine;
    }
    return NULL;
}

static void remove_own(struct own_count *mine, enum pkeyguard_rights rights, enum guard_mode mode)
{
    --*counter(&mine->counts, rights, mode);
    if (!counts_none(&mine->counts))
        return;
    if (mine->suspended_for != 0)
        mine->target.counts->suspended--;
    drop_own(mine);
}

bool guard_counts_remove(struct guard_counts *counts, enum pkeyguard_rights rights,
                         enum guard_mode mode)
{
    struct own_count *mine = find_guard(counts, rights, mode, false);
    bool counted = *counter(counts, rights, mode) != 0;

    if (mine == NULL) {
        /* It does not count, because a call gate has suspended it. */
        mine = find_guard(counts, rights, mode, true);
        counted = counted && mine == NULL;
    }
    /* A guard that another thread acquired stays in that thread's entries. In a fork child the
     * thread may have one whose count was not kept. */
    if (counted)
        --*counter(counts, rights, mode);
    if (mine != NULL)
        remove_own(mine, rights, mode);
    return counted || mine != NULL;
}

bool guard_counts_own_writer(const struct guard_counts *counts, const struct guard_counts *others)
{
    for (size_t i = own_counts.count; i-- > 0;) {
        const struct own_count *mine = &own_counts.entries[i];

        if ((mine->target.counts == counts || mine->target.counts == others) &&
            mine->suspended_for == 0 && mine->counts.writers != 0)
            return true;
    }
    return false;
}

static void add_counts(struct guard_counts *to, const struct guard_counts *counts)
{
    to->readers += counts->readers;
    to->writers += counts->writers;
    to->to_read += counts->to_read;
    to->to_nothing += counts->to_nothing;
}

static void subtract_counts(struct guard_counts *from, const struct guard_counts *counts)
{
    from->readers -= counts->readers;
    from->writers -= counts->writers;
    from->to_read -= counts->to_read;
    from->to_nothing -= counts->to_nothing;
}

unsigned guard_counts_level(void)
{
    return own_counts.level;
}

static void resume_own(struct own_count *mine, guard_counts_apply *apply)
{
    mine->suspended_for = 0;
    mine->target.counts->suspended--;
    add_counts(mine->target.counts, &mine->counts);
    apply(&mine->target);
}

void guard_counts_suspend(guard_counts_apply *apply)
{
    own_counts.level++;
    for (size_t i = 0; i < own_counts.count; i++) {
        struct own_count *mine = &own_counts.entries[i];

        if (mine->suspended_for != 0)
            continue;
        mine->suspended_for = own_counts.level;
        mine->target.counts->suspended++;
        subtract_counts(mine->target.counts, &mine->counts);
        apply(&mine->target);
    }
}

static void lower_level_of_own(unsigned level)
{
    if (own_counts.level > level)
        own_counts.level = level;
}

void guard_counts_resume(unsigned level, guard_counts_apply *apply)
{
    for (size_t i = 0; i < own_counts.count; i++) {
        struct own_count *mine = &own_counts.entries[i];

        if (mine->suspended_for > level)
            resume_own(mine, apply);
        if (mine->level > level)
            mine->level = level;
    }
    lower_level_of_own(level);
}

unsigned guard_counts_raise_level(void)
{
    return own_counts.level++;
}

void guard_counts_keep_at_level(unsigned level)
{
    for (size_t i = 0; i < own_counts.count; i++) {
        if (own_counts.entries[i].level > level)
            own_counts.entries[i].level = level;
    }
    lower_level_of_own(level);
}

void guard_counts_lower_level(unsigned level, guard_counts_apply *apply)
{
    for (size_t i = own_counts.count; i-- > 0;) {
        struct own_count *mine = &own_counts.entries[i];
        struct guard_target target = mine->target;

        if (mine->level > level) {
            if (mine->suspended_for != 0)
                target.counts->suspended--;
            else
                subtract_counts(target.counts, &mine->counts);
            drop_own(mine);
            apply(&target);
        } else if (mine->suspended_for > level) {
            resume_own(mine, apply);
        }
    }
    lower_level_of_own(level);
}

bool guard_counts_any_own(void)
{
    return own_counts.count != 0 || own_counts.level != 0;
}

static void move_counts(struct own_counts *to, struct own_counts *from)
{
    *to = *from;
    if (from->entries == from->few)
        to->entries = to->few;
    *from = (struct own_counts){0};
}

static NEEDS_LIBRARY_LOCK int park_own(uint64_t *ret_number)
{
    struct parked_counts *coroutine;
    void *page;
    int error;

    *ret_number = 0;
    if (!guard_counts_any_own())
        return 0;
    error = os_allocate_pages(sizeof(*coroutine), &page);
    if (error != 0)
        return error;
    coroutine = page;
    move_counts(&coroutine->own, &own_counts);
    coroutine->number = *ret_number = ++parked.last_number;
    coroutine->parked_by = &own_counts;
    list_insert(&parked.all, &coroutine->of_process);
    return 0;
}

static NEEDS_LIBRARY_LOCK void take_parked(uint64_t number)
{
    list_for_each(link, &parked.all)
    {
        struct parked_counts *coroutine = list_entry(link, struct parked_counts, of_process);

        if (coroutine->number != number)
            continue;
        list_remove(link);
        move_counts(&own_counts, &coroutine->own);
        os_free_pages(coroutine, sizeof(*coroutine));
        return;
    }
}

int guard_counts_switch(uint64_t to, uint64_t *ret_from)
{
    int error = park_own(ret_from);

    if (error == 0 && to != 0)
        take_parked(to);
    return error;
}

/* Guards that are suspended stay suspended in the child. */
static void add_kept(struct guard_counts *counts, const struct own_counts *kept)
{
    for (size_t i = 0; i < kept->count; i++) {
        const struct own_count *entry = &kept->entries[i];

        if (entry->target.counts != counts)
            continue;
        if (entry->suspended_for != 0)
            counts->suspended++;
        else
            add_counts(counts, &entry->counts);
    }
}

void guard_counts_keep_forking_threads(struct guard_counts *counts)
{
    const struct own_counts *kept = process_in_forking_thread(&own_counts);

    *counts = (struct guard_counts){0};
    if (kept != NULL)
        add_kept(counts, kept);
    list_mend(&parked.all);
    list_for_each(link, &parked.all)
    {
        struct parked_counts *coroutine = list_entry(link, struct parked_counts, of_process);

        if (coroutine->parked_by != kept)
            coroutine->own.count = 0;
        add_kept(counts, &coroutine->own);
    }
}
