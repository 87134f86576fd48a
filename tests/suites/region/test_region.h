/* SPDX-License-Identifier: MIT */
/* test_region.h - helpers for the files of this suite */
#ifndef TEST_REGION_H
#define TEST_REGION_H

#include "support.h"

/* Each flag that a region on any key can have by itself. PKEYGUARD_REGION_SECRET is last. */
enum { SECRET_FLAG = 6, FLAGS = 7 };
extern const unsigned each_flag[FLAGS];

/* How many of them the kernel supports: all, or all but the last. */
int supported_flags(void);
#define NO_SECRET_MEMORY "the kernel has no secret memory"

struct pkeyguard_region *region_with_flags(struct pkeyguard_key *key, size_t size, unsigned flags);

/* A region's guard pages are inside its mapping and share its key; else each is a mapping. */
bool guard_pages_inside(unsigned flags);

/* The page before the region and the page after it fault as guard pages do. */
void assert_guard_pages(const struct pkeyguard_region *region, unsigned flags, bool open);

/* How many bytes the mapping has that holds an address. */
int bytes_of_mapping(const void *address);

/* Whether smaps lists this flag, such as " lo", for the mapping that holds an address. */
bool has_vm_flag(const void *address, const char *flag);

/* 64 bytes that this process and its program have nowhere else. */
void write_secret(char *secret);
bool is_secret(const char *bytes);

/* The files of the suite. */
void add_basics(Suite *suite);
void add_page_rights(Suite *suite);
void add_guard_pages(Suite *suite);
void add_flags(Suite *suite);
void add_seals(Suite *suite);
void add_adoption(Suite *suite);
void add_lookup(Suite *suite);
void add_huge_pages(Suite *suite);
void add_end_aligned(Suite *suite);
void add_checks(Suite *suite);

#endif
