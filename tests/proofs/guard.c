/* SPDX-License-Identifier: MIT */
/* The bounds of a scope at an offset: guard.h. */
#include "proof.h"

#include <pkeyguard.h>

/* It fits exactly if no byte of it is outside, computed without overflow. */
bool prove_fits(size_t size, size_t offset, size_t of_region)
{
    bool inside = (unsigned __int128)size + offset <= of_region;

    return pkeyguard_guard_fits(size, offset, of_region) == (of_region != 0 && inside);
}
