/* SPDX-License-Identifier: MIT */
#include "key/guard_counts.h"

#include <stddef.h>
#include <string.h>

#include "base/os.h"

struct own_guards {
    const struct guard_counts *of; /* compared, never followed */
    struct guard_counts count;
};

enum { FEW = 8 };

/*
 * The calling thread's own. Few at a time, so they are searched from the newest. More than that
 * stand in pages, from outside malloc, for a guard may be acquired in a signal handler that
 * interrupted malloc; the pages go when the thread holds nothing, so that none are left at its end.
 */
static __thread struct {
    struct own_guards *entries;
    size_t count, room;
    struct own_guards few[FEW];
} own __attribute__((tls_model("initial-exec")));

static struct own_guards *find_own(const struct guard_counts *held)
{
    for (size_t i = own.count; i-- > 0;) {
        if (own.entries[i].of == held)
            return &own.entries[i];
    }
    return NULL;
}

/* Moves the entries into pages, or into more of them. */
static int grow(void)
{
    size_t size = own.room * sizeof(*own.entries), grown;
    void *entries = own.entries;
    int error;

    if (own.entries == own.few) {
        grown = os_page_size();
        error = os_allocate_pages(grown, &entries);
        if (error == 0)
            memcpy(entries, own.few, size);
    } else {
        grown = 2 * size;
        error = os_grow_pages(size, grown, &entries);
    }
    if (error != 0)
        return error;
    own.entries = entries;
    own.room = grown / sizeof(*own.entries);
    return 0;
}

static int make_room(void)
{
    if (own.count < own.room)
        return 0;
    if (own.room > 0)
        return grow();
    own.entries = own.few;
    own.room = FEW;
    return 0;
}

static void drop(struct own_guards *entry)
{
    *entry = own.entries[--own.count];
    if (own.count == 0 && own.entries != own.few) {
        os_free_pages(own.entries, own.room * sizeof(*own.entries));
        own.entries = own.few;
        own.room = FEW;
    }
}

static unsigned *counter(struct guard_counts *held, enum pkeyguard_rights rights,
                         enum guard_mode mode)
{
    if (mode == GUARD_WIDENS)
        return rights == PKEYGUARD_READ_WRITE ? &held->writers : &held->readers;
    return rights == PKEYGUARD_READ_ONLY ? &held->to_read : &held->to_nothing;
}

bool guard_counts_any(const struct guard_counts *held)
{
    return (held->readers | held->writers | held->to_read | held->to_nothing) != 0;
}

enum pkeyguard_rights guard_counts_widest(const struct guard_counts *held)
{
    if (held->writers != 0)
        return PKEYGUARD_READ_WRITE;
    return held->readers != 0 ? PKEYGUARD_READ_ONLY : PKEYGUARD_NO_ACCESS;
}

enum pkeyguard_rights guard_counts_limit(const struct guard_counts *held)
{
    if (held->to_nothing != 0)
        return PKEYGUARD_NO_ACCESS;
    return held->to_read != 0 ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE;
}

int guard_counts_add(struct guard_counts *held, enum pkeyguard_rights rights, enum guard_mode mode)
{
    struct own_guards *mine = find_own(held);

    if (mine == NULL) {
        int error = make_room();

        if (error != 0)
            return error;
        mine = &own.entries[own.count++];
        *mine = (struct own_guards){.of = held};
    }
    ++*counter(&mine->count, rights, mode);
    ++*counter(held, rights, mode);
    return 0;
}

bool guard_counts_remove(struct guard_counts *held, enum pkeyguard_rights rights,
                         enum guard_mode mode)
{
    struct own_guards *mine = find_own(held);

    if (*counter(held, rights, mode) == 0)
        return false;
    --*counter(held, rights, mode);
    /* A guard that another thread acquired is in that thread's own count. */
    if (mine != NULL && *counter(&mine->count, rights, mode) != 0) {
        --*counter(&mine->count, rights, mode);
        if (!guard_counts_any(&mine->count))
            drop(mine);
    }
    return true;
}

void guard_counts_keep_own(struct guard_counts *held)
{
    const struct own_guards *mine = find_own(held);

    *held = mine == NULL ? (struct guard_counts){0} : mine->count;
}
