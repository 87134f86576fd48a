/* SPDX-License-Identifier: MIT */
#include "region/inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>

#include <pkeyguard/pkru.h>

#include "base/os.h"
#include "pkey/own_pkru.h"
#include "pkru/bits.h"
#include "region/maps_reader.h"

/* How far the memory has been looked at, and the page rights so far. */
struct inspection {
    uintptr_t at, end;
    int prot; /* -1: none yet */
};

/* Looks at the mapping of the next address. */
static int inspect_mapping(struct inspection *inspection, const struct mapped_range *range)
{
    uintptr_t next = range->end < inspection->end ? range->end : inspection->end;

    if (inspection->prot != -1 && inspection->prot != range->prot)
        return -EINVAL;
    if (range->page_size != 0 &&
        (inspection->at % range->page_size != 0 || next % range->page_size != 0))
        return -EINVAL;
    if (range->pkey != 0)
        return -EBUSY;
    inspection->prot = range->prot;
    inspection->at = next;
    return 0;
}

/*
 * True if the page certainly has pkey 0: the kernel lets this thread read it while PKRU denies
 * every other pkey. The page then gets memory, if it had none.
 */
static bool shows_pkey_0(uintptr_t page)
{
    pkru_bits before;
    bool shown;

    if (!pkeyguard_pkru_supported())
        return false;
    own_pkru_begin_change();
    before = pkeyguard_pkru_read();
    pkeyguard_pkru_write(before | (EVERY_AD & ~PKEY_AD(0)));
    shown = os_populate_to_read((void *)page, os_page_size()) == 0;
    pkeyguard_pkru_write(before);
    own_pkru_end_change();
    return shown;
}

/*
 * Asks for each mapping, which takes as long whatever else is mapped. The kernel does not tell
 * pkeys. -ENOTSUP: this does not answer the question.
 */
static int query_each_mapping(int maps, struct inspection *inspection)
{
    while (inspection->at < inspection->end) {
        struct os_mapping mapping;
        struct mapped_range range;
        int error = os_query_mapping(maps, inspection->at, &mapping);

        if (error != 0)
            return error;
        range = (struct mapped_range){
            .end = mapping.end, .prot = mapping.prot, .page_size = mapping.page_size};
        if (pages_can_carry_pkeys() && !shows_pkey_0(inspection->at))
            return -ENOTSUP;
        error = inspect_mapping(inspection, &range);
        if (error != 0)
            return error;
    }
    return 0;
}

/* Takes longer the more mappings there are at lower addresses. */
static int read_each_mapping(struct inspection *inspection)
{
    struct mapped_range range;
    struct maps_reader reader;
    int error = maps_open(&reader, true), unread;

    if (error != 0)
        return error;
    while (error == 0 && inspection->at < inspection->end) {
        if (!maps_next(&reader, &range) || range.start > inspection->at)
            error = -ENOMEM;
        else if (range.end > inspection->at)
            error = inspect_mapping(inspection, &range);
    }
    unread = maps_close(&reader);
    return error != 0 ? error : unread;
}

int inspect_memory(const void *address, size_t length, int *ret_prot)
{
    const struct inspection none = {(uintptr_t)address, (uintptr_t)address + length, -1};
    struct inspection inspection = none;
    int maps = os_open_file_at(AT_FDCWD, "/proc/thread-self/maps", 0);
    int error = maps < 0 ? -ENOTSUP : query_each_mapping(maps, &inspection);

    os_close_file(maps);
    if (error == -ENOTSUP) {
        inspection = none;
        error = read_each_mapping(&inspection);
    }
    if (error == 0)
        *ret_prot = inspection.prot;
    return error;
}
