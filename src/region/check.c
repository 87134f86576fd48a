/* SPDX-License-Identifier: MIT */
/* check.c - compares what the kernel has with what the library made */
#include <pkeyguard/region.h>

#include <errno.h>
#include <sys/mman.h>

#include "base/error_text.h"
#include "base/os.h"
#include "pkru/bits.h"
#include "region/maps_reader.h"
#include "region/mapping.h"
#include "region/slack.h"

/* Pages that should be alike. */
struct span {
    uintptr_t start, end;
    int prot, pkey; /* PAGES_CHANGING: not known, and not compared */
};

/* Guard pages before and after, and pages on both sides of a gap. */
enum { MOST_SPANS = 5 };
struct spans {
    struct span span[MOST_SPANS];
    size_t count;
};

static void add_span(struct spans *spans, const char *start, const char *end, int prot, int pkey)
{
    if (start != end)
        spans->span[spans->count++] = (struct span){(uintptr_t)start, (uintptr_t)end, prot, pkey};
}

/* Guard pages inside the mapping are as the pages are. Others have no page rights and no pkey. */
static NEEDS_LIBRARY_LOCK struct spans expected_spans(const struct pkeyguard_region *region)
{
    const struct pages *pages = &region->pages;
    const char *start = pages_start(pages), *end = start + pages_span(pages);
    const char *gap = pages->address + pages->gap;
    struct spans spans = {.count = 0};

    add_span(&spans, mapping_start(region), start, PROT_NONE, 0);
    if (pages->gap != 0) {
        add_span(&spans, start, gap, pages->applied, pages->pkey);
        add_span(&spans, gap, gap + os_page_size(), PROT_NONE, 0);
        start = gap + os_page_size();
    }
    add_span(&spans, start, end, pages->applied, pages->pkey);
    add_span(&spans, end, mapping_start(region) + mapping_length(region), PROT_NONE, 0);
    return spans;
}

/* Pages that are not as they should be. */
struct stale_range {
    uintptr_t start, end; /* equal: there are none */
    bool mapped;
    struct span expected;
};

static bool differs(const struct span *span, const struct mapped_range *range)
{
    return span->prot != PAGES_CHANGING && (range->prot != span->prot || range->pkey != span->pkey);
}

static uintptr_t lower(uintptr_t a, uintptr_t b)
{
    return a < b ? a : b;
}

/* Looks for the first stale pages of a span from *at on, and moves *at past what is right. */
static struct stale_range find_in_span(struct maps_reader *reader, struct mapped_range *range,
                                       const struct span *span, uintptr_t *at)
{
    while (*at < span->end) {
        uintptr_t end;

        if (range->end <= *at && maps_next(reader, range))
            continue;
        if (range->end <= *at)
            return (struct stale_range){*at, span->end, false, *span};
        if (range->start > *at)
            return (struct stale_range){*at, lower(range->start, span->end), false, *span};
        end = lower(range->end, span->end);
        if (differs(span, range))
            return (struct stale_range){*at, end, true, *span};
        *at = end;
    }
    return (struct stale_range){0};
}

/* Looks for the first stale pages from an address on. */
static int find_stale(const struct spans *spans, uintptr_t from, struct stale_range *ret_stale)
{
    struct mapped_range range = {0};
    struct maps_reader reader;
    int error = maps_open(&reader, pages_can_carry_pkeys());

    if (error != 0)
        return error;
    *ret_stale = (struct stale_range){0};
    for (size_t i = 0; i < spans->count && ret_stale->end == 0; i++) {
        const struct span *span = &spans->span[i];

        if (from < span->start)
            from = span->start;
        *ret_stale = find_in_span(&reader, &range, span, &from);
    }
    return maps_close(&reader);
}

/* What the kernel refuses is found again by the next check. */
static void repair_range(const struct stale_range *stale)
{
    void *start = (void *)stale->start;
    size_t length = stale->end - stale->start;

    if (pages_can_carry_pkeys())
        (void)os_protect_with_pkey(start, length, stale->expected.prot, stale->expected.pkey);
    else
        (void)os_protect(start, length, stale->expected.prot);
}

/* What a check has found in a region's pages. */
struct finding {
    void *first; /* the first page that is not as it should be, or NULL */
    bool gone;   /* a page is not mapped */
};

static NEEDS_LIBRARY_LOCK int check_pages(const struct pkeyguard_region *region, bool repair,
                                          struct finding *ret_finding)
{
    struct spans spans = expected_spans(region);
    struct stale_range stale = {0};
    int error;

    *ret_finding = (struct finding){0};
    do {
        error = find_stale(&spans, stale.end, &stale);
        if (error != 0 || stale.end == 0)
            return error;
        if (ret_finding->first == NULL)
            ret_finding->first = (void *)stale.start;
        if (!stale.mapped)
            ret_finding->gone = true;
        else if (repair)
            repair_range(&stale);
    } while (repair);
    return 0;
}

/* Without the page right to read or write nobody can look at the slack, or change it. */
static int check_slack(struct pkeyguard_region *region, bool repair, char **ret_damage)
{
    bool writes = repair && region->pages.prot & PROT_WRITE;
    enum pkeyguard_rights rights = writes ? PKEYGUARD_READ_WRITE : PKEYGUARD_READ_ONLY;
    struct pkeyguard_key *key = region->head.key;
    struct pkru_change change;
    int error;

    *ret_damage = NULL;
    if (slack_size(region) == 0 || !(region->pages.prot & (PROT_READ | PROT_WRITE)))
        return 0;
    error = key->enforcement->enter(key, &region->pages, rights, GUARD_WIDENS, &change);
    if (error != 0)
        return error;
    *ret_damage = slack_damage(region);
    if (*ret_damage != NULL && writes)
        slack_fill(region);
    error = key->enforcement->leave(key, &region->pages, rights, GUARD_WIDENS, &change);
    if (error != 0)
        os_abort("a region that was checked cannot be closed: ", error_text(error), NULL);
    return 0;
}

static int report(void *address, int error, void **ret_address)
{
    if (ret_address != NULL)
        *ret_address = address;
    return error;
}

int pkeyguard_region_check(struct pkeyguard_region *region, unsigned flags, void **ret_address)
{
    bool repair = flags & PKEYGUARD_CHECK_REPAIR;
    struct finding finding;
    char *damage = NULL;
    int error;

    if (region == NULL || (flags & ~(unsigned)PKEYGUARD_CHECK_REPAIR) != 0)
        return -EINVAL;
    if (pages_absent(&region->pages))
        return report(region->pages.address, -ESTALE, ret_address);
    error = library_lock();
    if (error != 0)
        return error;
    error = check_pages(region, repair, &finding);
    library_unlock();
    if (error == 0 && !finding.gone && (finding.first == NULL || repair))
        error = check_slack(region, repair, &damage);
    if (finding.first != NULL)
        return report(finding.first, -ESTALE, ret_address);
    return error == 0 && damage != NULL ? report(damage, -EUCLEAN, ret_address) : error;
}
