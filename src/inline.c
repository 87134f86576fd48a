/* SPDX-License-Identifier: MIT */
/* Compiles the headers' inline functions as exported ones, for bindings of other languages. */
#define PKEYGUARD_INLINE

#include <pkeyguard.h>
