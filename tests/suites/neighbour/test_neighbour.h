/* SPDX-License-Identifier: MIT */
/*
 * test_neighbour.h - another user of pkeys in the same process, as a JIT engine is
 *
 * It has pkeys of its own, which it gets from the kernel, and changes PKRU by RDPKRU and WRPKRU.
 * Where the CPU has no pkeys, it changes its pages' rights instead.
 */
#ifndef TEST_NEIGHBOUR_H
#define TEST_NEIGHBOUR_H

#include <stdint.h>

#include "one_region.h"
#include "place.h"
#include "worker.h"

enum { PKEYS_OF_CPU = 15, NEIGHBOURS_PAGES = 2 };

/* Every value of a pkey's two deny bits: 1 access-disable, 2 write-disable. */
enum { DENIALS = 4 };

extern struct neighbour {
    char *pages[NEIGHBOURS_PAGES];
    int pkeys[NEIGHBOURS_PAGES]; /* of the pages; -1: the CPU has none */
} neighbour;

/* The fixture: the neighbour, and then a key with a region. */
void move_in(void);
void move_out(void);

/* The neighbour denies itself these accesses to its pages, in the calling thread. */
void neighbour_denies(unsigned denial);

/* The neighbour has exactly these rights in the calling thread. */
void assert_neighbour_denies(unsigned denial);

/* The calling thread's PKRU becomes 0. */
void open_everything(void);

/* True if the neighbour has this pkey. */
bool is_neighbours(int pkey);

/* The work of a thread: tries to write to the target. The fault is in fault_of_worker. */
extern struct fault fault_of_worker;
void do_write(void *target);

/* The thread cannot write to the region: it gets exactly the fault of the region's key. */
void assert_denied_on(struct worker *worker, const struct pkeyguard_region *denied);

/* The files of the suite. */
void add_rights(Suite *suite);
void add_pkeys(Suite *suite);
void add_threads(Suite *suite);

#endif
