/* SPDX-License-Identifier: MIT */
#include "key/guard_counts.h"

#include <stddef.h>
#include <string.h>

#include "base/os.h"

/* The calling thread's guards on one key or region. */
struct own_count {
    const struct guard_counts *of; /* compared, never followed */
    struct guard_counts counts;
};

enum { FEW = 8 };

/*
 * A thread has few at a time, so they are searched one by one, the newest first. More than FEW
 * stand in pages from outside malloc, because a guard may be acquired in a signal handler that
 * interrupted malloc. The pages go when the thread has no guard: none are left when it ends.
 */
static __thread struct own_counts {
    struct own_count *entries;
    size_t count, room;
    struct own_count few[FEW];
} own_counts __attribute__((tls_model("initial-exec")));

static struct own_count *find_own(const struct guard_counts *counts)
{
    for (size_t i = own_counts.count; i-- > 0;) {
        if (own_counts.entries[i].of == counts)
            return &own_counts.entries[i];
    }
    return NULL;
}

/* Moves the entries into pages, or into more of them. */
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
    return (counts->readers | counts->writers | counts->to_read | counts->to_nothing) != 0;
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

int guard_counts_add(struct guard_counts *counts, enum pkeyguard_rights rights,
                     enum guard_mode mode)
{
    struct own_count *mine = find_own(counts);

    if (mine == NULL) {
        int error = make_room_for_own();

        if (error != 0)
            return error;
        mine = &own_counts.entries[own_counts.count++];
        *mine = (struct own_count){.of = counts};
    }
    ++*counter(&mine->counts, rights, mode);
    ++*counter(counts, rights, mode);
    return 0;
}

bool guard_counts_remove(struct guard_counts *counts, enum pkeyguard_rights rights,
                         enum guard_mode mode)
{
    struct own_count *mine = find_own(counts);

    if (*counter(counts, rights, mode) == 0)
        return false;
    --*counter(counts, rights, mode);
    /* A guard that another thread acquired stays in the count of that thread. */
    if (mine != NULL && *counter(&mine->counts, rights, mode) != 0) {
        --*counter(&mine->counts, rights, mode);
        if (!guard_counts_any(&mine->counts))
            drop_own(mine);
    }
    return true;
}

void guard_counts_keep_own(struct guard_counts *counts)
{
    const struct own_count *mine = find_own(counts);

    *counts = mine == NULL ? (struct guard_counts){0} : mine->counts;
}
