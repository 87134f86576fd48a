/* SPDX-License-Identifier: MIT */
/* test_debug.h - what the files of this suite share; each of them defines PKEYGUARD_DEBUG */
#ifndef TEST_DEBUG_H
#define TEST_DEBUG_H

#include "one_region.h"

/* The flags of the keys that a loop test runs with; it prints the name when it fails. */
enum { KINDS = 3 };
extern const unsigned kind_flags[KINDS];

/* Makes `key` and `region` again, with such a key. */
void remake_key(int kind);

/*
 * The call, made in a child process, aborts with this line on stderr: "libpkeyguard: ", the line
 * and a newline. A number behind ".c:" is written as # in it.
 */
void assert_misuse(void (*call)(void *argument), void *argument, const char *line);

/* The call, made in a child process, says nothing and returns. */
void assert_allowed_use(void (*call)(void *argument), void *argument);

/* Write guards on `region`, in a file without PKEYGUARD_DEBUG. */
void acquire_unchecked(struct pkeyguard_guard *ret_guard);
void release_unchecked(struct pkeyguard_guard *guard);

/* The files of the suite. */
void add_misuse(Suite *suite);
void add_allowed(Suite *suite);

#endif
