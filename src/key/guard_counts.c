/* SPDX-License-Identifier: MIT */
#include "key/guard_counts.h"

#include <stddef.h>
#include <string.h>

#include "base/fence.h"
#include "base/list.h"
#include "base/os.h"
#include "base/process.h"
#include "base/record_memory.h"
#include "key/own_counts.h"

__thread struct own_counts own_counts;

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

/* ---- the counts of a target ---- */

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

/* 0 at the least: another thread may have released a guard of this one. */
static unsigned replaced(unsigned sum, unsigned before, unsigned now)
{
    return sum + now < before ? 0 : sum + now - before;
}

/* Puts `now` in the place of `before`, in the sums that have it. */
static void replace_counts(struct guard_counts *sums, const struct guard_counts *before,
                           const struct guard_counts *now)
{
    struct guard_counts *written = to_write(sums);

    written->readers = replaced(sums->readers, before->readers, now->readers);
    written->writers = replaced(sums->writers, before->writers, now->writers);
    written->to_read = replaced(sums->to_read, before->to_read, now->to_read);
    written->to_nothing = replaced(sums->to_nothing, before->to_nothing, now->to_nothing);
}

static const struct guard_counts none;

/* ---- the calling thread's entries ---- */

/* How many of the few have to be looked at: those behind them are not used. */
static size_t count_of_few(void)
{
    return own_counts.end / sizeof(*own_counts.few);
}

/* Iterates over the entries; some of the few may not be used. The loop body may drop the entry. */
#define for_each_own(mine)                                                            \
    for (size_t few_ = count_of_few(), left_ = few_ + own_counts.count; left_-- > 0;) \
        for (struct own_count *mine = left_ < few_ ? &own_counts.few[left_]           \
                                                   : &own_counts.more[left_ - few_];  \
             mine != NULL; mine = NULL)

static bool is_one_of_few(const struct own_count *mine)
{
    return mine >= own_counts.few && mine < own_counts.few + FEW;
}

static bool is_on(const struct own_count *mine, const struct guard_counts *counts)
{
    return mine->target.counts == counts && mine->suspended_for == 0;
}

/* From here on until let_nest() no handler changes the entry's guards. */
static void stop_nesting(struct own_count *mine)
{
    mine->nests_readers = mine->nests_writers = NULL;
    compiler_fence();
}

static void let_nest(struct own_count *mine)
{
    const struct guard_target *target = &mine->target;
    const void *id = target->pages != NULL ? (const void *)target->pages : target->key;

    if (target->counts == NULL || mine->counts_each || mine->suspended_for != 0 ||
        mine->level != own_counts.level)
        return;
    compiler_fence();
    mine->nests_readers = mine->readers != 0 || mine->writers != 0 ? id : NULL;
    mine->nests_writers = mine->writers != 0 ? id : NULL;
}

static void let_all_nest(void)
{
    for_each_own(mine)
    {
        stop_nesting(mine);
        let_nest(mine);
    }
}

void guard_counts_let_nest(const struct guard_target *target)
{
    for_each_own(mine)
    {
        if (is_on(mine, target->counts))
            let_nest(mine);
    }
}

/* Makes room for more entries in new pages, and moves the entries there. */
static int grow_more(void)
{
    size_t size = own_counts.room * sizeof(*own_counts.more);
    size_t grown = size == 0 ? os_page_size() : 2 * size;
    void *entries = own_counts.more;
    int error =
        size == 0 ? os_allocate_pages(grown, &entries) : os_grow_pages(size, grown, &entries);

    if (error != 0)
        return error;
    own_counts.more = entries;
    own_counts.room = grown / sizeof(*own_counts.more);
    return 0;
}

static struct own_count *find_unused(void)
{
    for (size_t i = 0; i < FEW; i++) {
        if (own_counts.few[i].target.counts == NULL)
            return &own_counts.few[i];
    }
    return NULL;
}

static void note_used(const struct own_count *mine)
{
    own_counts.latest = (size_t)((const char *)mine - (const char *)own_counts.few);
    if (own_counts.end < own_counts.latest + sizeof(*mine))
        own_counts.end = own_counts.latest + sizeof(*mine);
}

static void note_unused(void)
{
    while (own_counts.end != 0 && own_counts.few[count_of_few() - 1].target.counts == NULL)
        own_counts.end -= sizeof(*own_counts.few);
}

/*
 * Does not set readers and writers: an interrupted guard may have added itself to this entry, and
 * will subtract itself.
 */
static int make_own(const struct guard_target *target, struct own_count **ret_mine)
{
    struct own_count *mine = find_unused();
    bool among_few = mine != NULL;

    if (!among_few) {
        int error = own_counts.count < own_counts.room ? 0 : grow_more();

        if (error != 0)
            return error;
        mine = &own_counts.more[own_counts.count++];
        *mine = (struct own_count){0};
    }
    mine->target = *target;
    mine->level = own_counts.level;
    mine->counts_each = !among_few;
    if (among_few)
        note_used(mine);
    *ret_mine = mine;
    return 0;
}

static void drop_own(struct own_count *mine)
{
    stop_nesting(mine);
    if (is_one_of_few(mine)) {
        mine->target = (struct guard_target){0};
        mine->counted = none;
        mine->suspended_for = 0;
        note_unused();
        return;
    }
    *mine = own_counts.more[--own_counts.count];
    if (own_counts.count == 0) {
        os_free_pages(own_counts.more, own_counts.room * sizeof(*own_counts.more));
        own_counts.more = NULL;
        own_counts.room = 0;
    }
}

/* Counts the entry's guards that widen as they are by now, and those of `now` that restrict. */
static void count_again(struct own_count *mine, struct guard_counts now)
{
    now.readers = mine->readers;
    now.writers = mine->writers;
    if (!mine->counts_each) {
        now.readers = mine->readers != 0 && mine->writers == 0;
        now.writers = mine->writers != 0;
    }
    if (mine->suspended_for == 0)
        replace_counts(mine->target.counts, &mine->counted, &now);
    mine->counted = now;
    if (mine->readers != 0 || mine->writers != 0 || !counts_none(&now))
        return;
    if (mine->suspended_for != 0)
        to_write(mine->target.counts)->suspended--;
    drop_own(mine);
}

/* Returns an entry of the current level, one in which guards nest if there is one, or NULL. */
static struct own_count *find_own(const struct guard_counts *counts)
{
    struct own_count *found = NULL;

    for_each_own(mine)
    {
        if (is_on(mine, counts) && mine->level == own_counts.level &&
            (found == NULL || found->counts_each))
            found = mine;
    }
    return found;
}

/* The entry for one more guard. */
static int find_or_make_own(const struct guard_target *target, enum guard_mode mode,
                            struct own_count **ret_mine)
{
    struct own_count *found = find_own(target->counts);
    bool could_nest =
        found != NULL && found->counts_each && mode == GUARD_WIDENS && find_unused() != NULL;

    if (found == NULL || could_nest)
        return make_own(target, ret_mine);
    *ret_mine = found;
    return 0;
}

static unsigned *restrict_counter(struct guard_counts *counts, enum pkeyguard_rights rights)
{
    return rights == PKEYGUARD_READ_ONLY ? &counts->to_read : &counts->to_nothing;
}

/* Adds or removes one guard. */
static void change_own(struct own_count *mine, enum pkeyguard_rights rights, enum guard_mode mode,
                       unsigned by)
{
    struct guard_counts now = mine->counted;

    stop_nesting(mine);
    if (mode == GUARD_RESTRICTS)
        *restrict_counter(&now, rights) += by;
    else if (rights == PKEYGUARD_READ_WRITE)
        mine->writers += by;
    else
        mine->readers += by;
    count_again(mine, now);
}

int guard_counts_add(const struct guard_target *target, enum pkeyguard_rights rights,
                     enum guard_mode mode)
{
    struct own_count *mine;
    int error = find_or_make_own(target, mode, &mine);

    if (error == 0)
        change_own(mine, rights, mode, 1);
    return error;
}

static bool has_guard(struct own_count *mine, enum pkeyguard_rights rights, enum guard_mode mode)
{
    if (mode == GUARD_RESTRICTS)
        return *restrict_counter(&mine->counted, rights) != 0;
    return (rights == PKEYGUARD_READ_WRITE ? mine->writers : mine->readers) != 0;
}

/* Returns the entry of the highest level that has such a guard, or NULL. */
static struct own_count *find_guard(const struct guard_counts *counts, enum pkeyguard_rights rights,
                                    enum guard_mode mode, bool suspended)
{
    struct own_count *found = NULL;

    for_each_own(mine)
    {
        if (mine->target.counts == counts && (mine->suspended_for != 0) == suspended &&
            has_guard(mine, rights, mode) && (found == NULL || found->level < mine->level))
            found = mine;
    }
    return found;
}

/*
 * A guard of another thread, which stays in that thread's entry. It is not counted if it is nested
 * in another one that writes.
 */
static bool remove_others(struct guard_counts *counts, enum pkeyguard_rights rights,
                          enum guard_mode mode)
{
    unsigned *counter = mode == GUARD_RESTRICTS          ? restrict_counter(counts, rights)
                        : rights == PKEYGUARD_READ_WRITE ? &counts->writers
                                                         : &counts->readers;

    if (*counter == 0)
        return counter == &counts->readers && counts->writers != 0;
    --*to_write(counter);
    return true;
}

bool guard_counts_remove(struct guard_counts *counts, enum pkeyguard_rights rights,
                         enum guard_mode mode)
{
    struct own_count *mine = find_guard(counts, rights, mode, false);

    /* One that a call gate has suspended does not count. */
    if (mine == NULL)
        mine = find_guard(counts, rights, mode, true);
    if (mine == NULL)
        return remove_others(counts, rights, mode);
    change_own(mine, rights, mode, -1u);
    return true;
}

bool guard_counts_settle(struct own_count *mine, struct guard_target *ret_target)
{
    *ret_target = mine->target;
    if (mine->target.counts == NULL || mine->suspended_for != 0)
        return false;
    stop_nesting(mine);
    count_again(mine, mine->counted);
    return true;
}

bool guard_counts_own_writer(const struct guard_counts *counts, const struct guard_counts *others)
{
    for_each_own(mine)
    {
        if ((is_on(mine, counts) || is_on(mine, others)) && mine->writers != 0)
            return true;
    }
    return false;
}

/* ---- guards that another thread has released ---- */

enum pkeyguard_rights guard_counts_nesting(const struct guard_target *target)
{
    enum pkeyguard_rights widest = PKEYGUARD_NO_ACCESS;

    for_each_own(mine)
    {
        if (!is_on(mine, target->counts))
            continue;
        if (mine->nests_writers != NULL)
            return PKEYGUARD_READ_WRITE;
        if (mine->nests_readers != NULL)
            widest = PKEYGUARD_READ_ONLY;
    }
    return widest;
}

void guard_counts_count_each(const struct guard_target *target)
{
    for_each_own(mine)
    {
        if (!is_on(mine, target->counts) || mine->counts_each)
            continue;
        stop_nesting(mine);
        mine->counts_each = true;
        count_again(mine, mine->counted);
    }
}

/* ---- levels ---- */

unsigned guard_counts_level(void)
{
    return own_counts.level;
}

static void suspend_own(struct own_count *mine)
{
    struct guard_counts *counts = mine->target.counts;

    stop_nesting(mine);
    mine->suspended_for = own_counts.level;
    replace_counts(counts, &mine->counted, &none);
    to_write(counts)->suspended++;
}

static void resume_own(struct own_count *mine)
{
    struct guard_counts *counts = mine->target.counts;

    mine->suspended_for = 0;
    to_write(counts)->suspended--;
    replace_counts(counts, &none, &mine->counted);
}

void guard_counts_suspend(guard_counts_apply *apply)
{
    own_counts.level++;
    for_each_own(mine)
    {
        if (mine->target.counts == NULL || mine->suspended_for != 0)
            continue;
        suspend_own(mine);
        apply(&mine->target);
    }
}

static void lower_level_of_own(unsigned level)
{
    if (own_counts.level > level)
        own_counts.level = level;
    let_all_nest();
}

void guard_counts_resume(unsigned level, guard_counts_apply *apply)
{
    for_each_own(mine)
    {
        if (mine->target.counts != NULL && mine->suspended_for > level) {
            resume_own(mine);
            apply(&mine->target);
        }
        if (mine->level > level)
            mine->level = level;
    }
    lower_level_of_own(level);
}

unsigned guard_counts_raise_level(void)
{
    unsigned before = own_counts.level++;

    let_all_nest();
    return before;
}

void guard_counts_keep_at_level(unsigned level)
{
    for_each_own(mine)
    {
        if (mine->level > level)
            mine->level = level;
    }
    lower_level_of_own(level);
}

static void drop_guards(struct own_count *mine)
{
    struct guard_counts *counts = mine->target.counts;

    if (mine->suspended_for != 0)
        to_write(counts)->suspended--;
    else
        replace_counts(counts, &mine->counted, &none);
    mine->readers = mine->writers = 0;
    drop_own(mine);
}

void guard_counts_lower_level(unsigned level, guard_counts_apply *apply)
{
    for_each_own(mine)
    {
        struct guard_target target = mine->target;

        if (target.counts == NULL)
            continue;
        if (mine->level > level)
            drop_guards(mine);
        else if (mine->suspended_for > level)
            resume_own(mine);
        else
            continue;
        apply(&target);
    }
    lower_level_of_own(level);
}

/* ---- coroutines ---- */

bool guard_counts_any_own(void)
{
    return own_counts.end != 0 || own_counts.count != 0 || own_counts.level != 0;
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
    coroutine->own = own_counts;
    own_counts = (struct own_counts){0};
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
        own_counts = coroutine->own;
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

/* ---- fork ---- */

static void add_entries(struct guard_counts *counts, const struct own_count *entries, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (entries[i].target.counts != counts)
            continue;
        if (entries[i].suspended_for != 0)
            to_write(counts)->suspended++;
        else
            replace_counts(counts, &none, &entries[i].counted);
    }
}

/* Guards that are suspended stay suspended in the child. */
static void add_kept(struct guard_counts *counts, const struct own_counts *kept)
{
    add_entries(counts, kept->few, FEW);
    add_entries(counts, kept->more, kept->count);
}

static void forget_guards(struct own_counts *of_other)
{
    *of_other = (struct own_counts){.level = of_other->level};
}

void guard_counts_keep_forking_threads(struct guard_counts *counts)
{
    const struct own_counts *kept = process_in_forking_thread(&own_counts);

    *to_write(counts) = none;
    if (kept != NULL)
        add_kept(counts, kept);
    list_mend(&parked.all);
    list_for_each(link, &parked.all)
    {
        struct parked_counts *coroutine = list_entry(link, struct parked_counts, of_process);

        if (coroutine->parked_by != kept)
            forget_guards(&coroutine->own);
        else
            add_kept(counts, &coroutine->own);
    }
}
