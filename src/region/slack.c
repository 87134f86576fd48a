/* SPDX-License-Identifier: MIT */
#include "region/slack.h"

#include <stdio.h>

#include "base/os.h"

/* Never 0, so that a stray NUL shows. Neighbours differ, so that a copy of the pattern shows. */
static unsigned char pattern_at(size_t before_start)
{
    return (unsigned char)((before_start * 89 + 36) | 1);
}

void slack_fill(const struct pkeyguard_region *region)
{
    char *start = region->head.address;

    for (size_t before = slack_size(region); before > 0; before--)
        *(unsigned char *)(start - before) = pattern_at(before);
}

char *slack_damage(const struct pkeyguard_region *region)
{
    char *start = region->head.address;

    for (size_t before = slack_size(region); before > 0; before--) {
        if (*(const unsigned char *)(start - before) != pattern_at(before))
            return start - before;
    }
    return NULL;
}

void slack_require_intact(const struct pkeyguard_region *region)
{
    const char *damage = slack_damage(region);
    bool named = region->name[0] != '\0';
    char before[24];

    if (damage == NULL)
        return;
    snprintf(before, sizeof(before), "%zu", (size_t)(region->head.address - damage));
    os_abort("the slack of ", named ? "region '" : "a region without a name",
             named ? region->name : "", named ? "'" : "", " was overwritten, from ", before,
             damage + 1 == region->head.address ? " byte" : " bytes", " before its start", NULL);
}
