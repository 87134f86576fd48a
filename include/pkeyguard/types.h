/* SPDX-License-Identifier: MIT */
/*
 * types.h - the standard types that the headers use: bool, size_t, ptrdiff_t, uint32_t, uint64_t
 *
 * With PKEYGUARD_DECLARATIONS_ONLY (pkeyguard.h) the C library's headers are left out, which have
 * more than declarations. Types that a header before this one declared are then not declared again.
 */
#ifndef PKEYGUARD_TYPES_H
#define PKEYGUARD_TYPES_H

#ifndef PKEYGUARD_DECLARATIONS_ONLY
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#else
#if !defined(bool) && !defined(__cplusplus) && \
    !(defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L)
typedef _Bool bool;
#endif
#ifndef offsetof /* in <stddef.h> */
typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;
#endif
#ifndef UINT64_MAX /* in <stdint.h> */
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;
#endif
#endif

#endif
