/* SPDX-License-Identifier: MIT */
/* inspect.h - what the kernel says about memory that the program mapped */
#ifndef INSPECT_H
#define INSPECT_H

#include <stddef.h>

/*
 * Gets the page rights of the memory. -ENOMEM: part of it is not mapped. -EINVAL: parts have
 * different rights, or an end is inside a (huge) page. -EBUSY: it has a pkey. -ENOTSUP: there is no
 * /proc/self/smaps. -EACCES: smaps may not be read.
 */
int inspect_memory(const void *address, size_t length, int *ret_prot);

#endif
