/* SPDX-License-Identifier: MIT */
#include "region/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/os.h"
#include "pkru/bits.h"
#include "region/smaps.h"

static int query_each_mapping(int maps, uintptr_t start, uintptr_t end, int *ret_prot)
{
    int prot = -1;

    for (uintptr_t at = start, next; at < end; at = next) {
        struct os_mapping mapping;
        int error = os_query_mapping(maps, at, &mapping);

        if (error != 0)
            return error;
        next = mapping.end < end ? mapping.end : end;
        if ((prot != -1 && prot != mapping.prot) || at % mapping.page_size != 0 ||
            next % mapping.page_size != 0)
            return -EINVAL;
        prot = mapping.prot;
    }
    *ret_prot = prot;
    return 0;
}

int inspect_memory(const void *address, size_t length, int *ret_prot)
{
    uintptr_t start = (uintptr_t)address;
    int maps, error;

    /* The query does not tell pkeys, and reading smaps takes longer the more mappings there are. */
    if (pages_can_carry_pkeys())
        return smaps_inspect(address, length, ret_prot);
    maps = os_open_file_at(AT_FDCWD, "/proc/thread-self/maps", 0);
    error = maps < 0 ? -ENOTSUP : query_each_mapping(maps, start, start + length, ret_prot);
    os_close_file(maps);
    return error == -ENOTSUP ? smaps_inspect(address, length, ret_prot) : error;
}
