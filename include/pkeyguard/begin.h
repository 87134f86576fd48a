/* SPDX-License-Identifier: MIT */
/*
 * begin.h, end.h - what every header has around its declarations
 *
 * They have no include guard: each use of begin.h has one of end.h after it. With
 * PKEYGUARD_DECLARATIONS_ONLY (pkeyguard.h) attributes are left out.
 */
#ifdef __cplusplus
extern "C" {
#endif
#ifndef PKEYGUARD_DECLARATIONS_ONLY
#pragma GCC visibility push(default)
#elif !defined(__attribute__)
#define __attribute__(attributes)
#define PKEYGUARD_NO_ATTRIBUTES_
#endif
