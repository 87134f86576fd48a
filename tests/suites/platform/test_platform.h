/* SPDX-License-Identifier: MIT */
/* test_platform.h - the files of this suite */
#ifndef TEST_PLATFORM_H
#define TEST_PLATFORM_H

#include "support.h"

void add_sandbox(Suite *suite);

#endif
