/* SPDX-License-Identifier: MIT */
/* smaps.h - what the kernel tells of this process's mappings, in /proc/self/smaps */
#ifndef SMAPS_H
#define SMAPS_H

#include <stddef.h>

/*
 * The page rights of memory that somebody else mapped. -ENOMEM: not all of it is mapped; -EINVAL:
 * the rights are not the same everywhere, or an end lies inside a (huge) page; -EBUSY: it carries a
 * pkey; -ENOTSUP: there is no /proc/self/smaps; -EACCES: it may not be read.
 */
int smaps_inspect(const void *address, size_t length, int *ret_prot);

#endif
