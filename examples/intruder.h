/* SPDX-License-Identifier: MIT */
/* intruder.h - a thread that writes where it must not */
#ifndef INTRUDER_H
#define INTRUDER_H

#include <stdbool.h>

struct pkeyguard_region;

/*
 * Has another thread write to the first byte of a region, which it may read. With protection keys
 * the calling thread has the region open for writing meanwhile; under mprotect, where that would
 * open it for the other thread, too, nobody has. The program goes on only if the write fails.
 *
 * what: the region's content, for what this prints
 * stores: the thread writes by an instruction, so that SIGSEGV kills the process; else by a system
 *         call, which fails
 */
void intrude(struct pkeyguard_region *region, const char *what, bool stores);

#endif
