/* SPDX-License-Identifier: MIT */
/* test_records.h - helpers for the files of this suite */
#ifndef TEST_RECORDS_H
#define TEST_RECORDS_H

#include "one_region.h"

/* What the library keeps a record of. */
enum record { DEDICATED_KEY, VIRTUAL_KEY, SOFTWARE_KEY, REGION, HEAP, RECORDS };
void *new_record(enum record kind);

void protect(void);

/* Writes what the byte already is. */
void write_same_byte(void *record);

/* A stray write to the record faults, and a read does not. */
void assert_protected(void *record);

/* Every function that changes records works: keys of each kind, guards, regions and a heap. */
void use_library(void);

/* The files of the suite. */
void add_access(Suite *suite);
void add_forks(Suite *suite);
void add_failures(Suite *suite);

#endif
