/* SPDX-License-Identifier: MIT */
/* smaps.h - what /proc/self/smaps says about this process's mappings */
#ifndef SMAPS_H
#define SMAPS_H

#include <stddef.h>

/* Like inspect_memory(), but reads the entries of all mappings at lower addresses first. */
int smaps_inspect(const void *address, size_t length, int *ret_prot);

#endif
