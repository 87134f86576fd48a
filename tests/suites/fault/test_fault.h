/* SPDX-License-Identifier: MIT */
/* test_fault.h - helpers for the files of this suite */
#ifndef TEST_FAULT_H
#define TEST_FAULT_H

#include "one_region.h"

/* The tests' region is named "session keys" and has two pages, of which SIZE bytes are asked for.
 */
enum { SIZE = 5000, LENGTH = 2 * PAGE_BYTES };
void set_up_named_region(void);

/*
 * Makes an access that must fault, and decodes the fault in a signal handler: returns what
 * pkeyguard_fault_decode() returned, and leaves the fault in last_fault.
 */
int decode_access(enum access access, const volatile void *target);
extern __thread struct pkeyguard_fault last_fault;
extern __thread int decode_result; /* what it returned last */

/* The same with SIGSEGV or another signal that the test sends itself. */
int decode_raised(int signal);

/* If set, runs between the fault and its decoding. */
extern void (*before_decode)(void);

/* The access, at this offset into the region, is decoded to this. */
void assert_decoded(enum access access, ptrdiff_t offset, enum pkeyguard_fault_kind kind,
                    enum pkeyguard_rights rights);

/* The kind of a fault because no guard is open. */
enum pkeyguard_fault_kind kind_of_guard_fault(void);

/* The library's word for each access. */
extern const enum pkeyguard_access reported_access[];

/* In a child process: installs the reporter over this handler, because a sanitizer has its own. */
void install_reporter_over(void (*handler)(int), unsigned flags);

/* The reporter's line for an access to the region's first byte, with no guard open. */
const char *report_of(enum access access);

/*
 * assert_ends(), for lines of the reporter. Each says in which thread and where the access was
 * made, which is left out of `lines`.
 */
void assert_reports(void (*call)(void *argument), void *argument, const char *lines, int signal);

/* The files of the suite. */
void add_decode(Suite *suite);
void add_format(Suite *suite);
void add_reporter(Suite *suite);
void add_granting(Suite *suite);
void add_tried_calls(Suite *suite);
void add_records(Suite *suite);

#endif
