/* SPDX-License-Identifier: MIT */
/*
 * patterns.h - recognises the code around an instruction that can write PKRU
 */
#ifndef PATTERNS_H
#define PATTERNS_H

#include "sites.h"

/*
 * Finds the owner of the instruction at site by the bytes around it, all of them in [begin, limit).
 * The instruction itself is complete. Returns UNKNOWN if no pattern fits.
 */
enum owner patterns_find_owner(enum instruction instruction, const unsigned char *begin,
                               const unsigned char *site, const unsigned char *limit);

#endif
