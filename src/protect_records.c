/* SPDX-License-Identifier: MIT */
#include <pkeyguard.h>

#include "base/record_memory.h"
#include "heap/heap_directory.h"
#include "pkey/pkey_allocator.h"

static NEEDS_LIBRARY_LOCK int protect_with_new_pkey(void)
{
    int pkey = pkey_take(PKEYGUARD_NO_ACCESS), error;

    if (pkey < 0)
        return pkey;
    error = record_memory_protect(pkey);
    if (error != 0)
        pkey_retire(pkey);
    return error;
}

/* The locks of heaps, too: a thread that has one writes how much of the heap's region is in use. */
int pkeyguard_protect_records(void)
{
    int error;

    heaps_lock_for_fork();
    error = library_lock();
    if (error == 0) {
        error = record_memory.is_protected ? 0 : protect_with_new_pkey();
        library_unlock();
    }
    heaps_unlock_after_fork();
    return error;
}
