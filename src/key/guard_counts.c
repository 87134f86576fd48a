/* SPDX-License-Identifier: MIT */
#include "key/guard_counts.h"

#include <stddef.h>
#include <string.h>

#include "base/os.h"

struct own_hold {
    const struct holds *of; /* compared, never followed */
    struct holds count;
};

enum { FEW = 8 };

/*
 * The calling thread's own. Few at a time, so they are searched from the newest. More than that
 * stand in pages, from outside malloc, for a guard may be acquired in a signal handler that
 * interrupted malloc; the pages go when the thread holds nothing, so that none are left at its end.
 */
static __thread struct {
    struct own_hold *entries;
    size_t count, room;
    struct own_hold few[FEW];
} own __attribute__((tls_model("initial-exec")));

static struct own_hold *find_own(const struct holds *held)
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

static void drop(struct own_hold *entry)
{
    *entry = own.entries[--own.count];
    if (own.count == 0 && own.entries != own.few) {
        os_free_pages(own.entries, own.room * sizeof(*own.entries));
        own.entries = own.few;
        own.room = FEW;
    }
}

static unsigned *counter(struct holds *held, enum pkeyguard_rights rights, enum guard_mode mode)
{
    if (mode == GUARD_WIDENS)
        return rights == PKEYGUARD_READ_WRITE ? &held->writers : &held->readers;
    return rights == PKEYGUARD_READ_ONLY ? &held->to_read : &held->to_nothing;
}

bool holds_any(const struct holds *held)
{
    return (held->readers | held->writers | held->to_read | held->to_nothing) != 0;
}

enum pkeyguard_rights holds_widest(const struct holds *held)
{
    if (held->writers != 0)
        return PKEYGUARD_READ_WRITE;
    return held->readers != 0 ? PKEYGUARD_READ_ONLY : PKEYGUARD_NO_ACCESS;
}

enum pkeyguard_rights holds_limit(const struct holds *held)
{
    if (held->to_nothing != 0)
        return PKEYGUARD_NO_ACCESS;
    return held->to_read != 0 ? PKEYGUARD_READ_ONLY : PKEYGUARD_READ_WRITE;
}

int holds_add(struct holds *held, enum pkeyguard_rights rights, enum guard_mode mode)
{
    struct own_hold *mine = find_own(held);

    if (mine == NULL) {
        int error = make_room();

        if (error != 0)
            return error;
        mine = &own.entries[own.count++];
        *mine = (struct own_hold){.of = held};
    }
    ++*counter(&mine->count, rights, mode);
    ++*counter(held, rights, mode);
    return 0;
}

bool holds_remove(struct holds *held, enum pkeyguard_rights rights, enum guard_mode mode)
{
    struct own_hold *mine = find_own(held);

    if (*counter(held, rights, mode) == 0)
        return false;
    --*counter(held, rights, mode);
    /* A guard that another thread acquired is in that thread's own count. */
    if (mine != NULL && *counter(&mine->count, rights, mode) != 0) {
        --*counter(&mine->count, rights, mode);
        if (!holds_any(&mine->count))
            drop(mine);
    }
    return true;
}

void holds_keep_own(struct holds *held)
{
    const struct own_hold *mine = find_own(held);

    *held = mine == NULL ? (struct holds){0} : mine->count;
}
