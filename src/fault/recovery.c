/* SPDX-License-Identifier: MIT */
#include "fault/recovery.h"

#include "base/os.h"

__thread struct recovery_point *own_recovery_point;

int recovery_prepare(const void *frame, struct recovery_point **ret_point)
{
    void *page;
    int error = os_allocate_pages(sizeof(**ret_point), &page);

    if (error != 0)
        return error;
    *ret_point = page;
    (*ret_point)->outer = own_recovery_point;
    (*ret_point)->frame = frame;
    return 0;
}

static bool is_own(const struct recovery_point *wanted)
{
    const struct recovery_point *point = own_recovery_point;

    while (point != NULL && point != wanted)
        point = point->outer;
    return point == wanted;
}

/* A signal handler may run at any instruction, and must find no point that is gone. */
void recovery_end(struct recovery_point *point)
{
    bool own = is_own(point);

    while (own && own_recovery_point != NULL && own_recovery_point != point) {
        struct recovery_point *left = own_recovery_point;

        own_recovery_point = left->outer;
        os_free_pages(left, sizeof(*left));
    }
    if (own)
        own_recovery_point = point->outer;
    os_free_pages(point, sizeof(*point));
}
