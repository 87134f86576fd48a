/* SPDX-License-Identifier: MIT */
/* test_pitfalls.h - the files of this suite, and what they share */
#ifndef TEST_PITFALLS_H
#define TEST_PITFALLS_H

#include "one_region.h"

/* A system call returned this with errno EFAULT. */
void assert_efault(long result);

/* True from Linux 6.12 on: it writes a signal frame to a stack that the thread has closed. */
bool kernel_writes_to_closed_stacks(void);

/* Creates keys until no pkey is left, and returns how many. */
int create_keys(struct pkeyguard_key *keys[16]);
void destroy_keys(struct pkeyguard_key *keys[16], int count);

/* Adds a test with machine code for PKRU, which runs under PKU only. */
void add_pkeys_test(TCase *tests, const TTest *test, int times);

void add_kernels_key_tests(Suite *suite);
void add_kernels_signal_tests(Suite *suite);

#endif
