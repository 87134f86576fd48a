/* SPDX-License-Identifier: MIT */
/* inspect.h - what the kernel tells of memory that somebody else mapped */
#ifndef INSPECT_H
#define INSPECT_H

#include <stddef.h>

/*
 * The page rights of the memory. -ENOMEM: not all of it is mapped; -EINVAL: the rights are not the
 * same everywhere, or an end lies inside a (huge) page; -EBUSY: it carries a pkey; -ENOTSUP: there
 * is no /proc/self/smaps; -EACCES: it may not be read.
 */
int inspect_memory(const void *address, size_t length, int *ret_prot);

#endif
