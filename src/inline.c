/* SPDX-License-Identifier: MIT */
/* The inline functions' one real symbol each, for bindings of other languages. */
#define PKEYGUARD_INLINE

#include <pkeyguard.h>
