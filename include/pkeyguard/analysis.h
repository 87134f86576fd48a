/* SPDX-License-Identifier: MIT */
/*
 * analysis.h - the compile-time half of guards: what Clang's thread safety analysis is told
 *
 * With -Wthread-safety Clang checks these; to every other compiler, and without the warning, they
 * are nothing.
 *
 *     static struct pkeyguard_region *vault;
 *     static struct secret *secret PKEYGUARD_GUARDED_BY(vault);
 *     static void rotate(void) PKEYGUARD_NEEDS_WRITE(vault);
 *
 * Reaching *secret with no scope on vault open, writing it in a read scope, using it after the
 * scope or in try's else branch, and calling rotate() outside a write scope each draw a warning.
 * The analysis compares expressions as they are written: session->vault is not another's vault.
 * Its limits: it takes a region for open from an auto form to the end of the function; in C a
 * member that guards stands for that member of every such struct; and a function that NEEDS_READ
 * draws a warning where it opens a write scope on the same region.
 */
#ifndef PKEYGUARD_ANALYSIS_H
#define PKEYGUARD_ANALYSIS_H

#ifdef __clang__
#define PKEYGUARD_ANALYSIS_(attribute) __attribute__((attribute))
#else
#define PKEYGUARD_ANALYSIS_(attribute)
#endif

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* To the analysis a region is a capability. */
struct PKEYGUARD_ANALYSIS_(capability("region")) pkeyguard_region;

/* On a pointer: what it points at needs the region open. */
#define PKEYGUARD_GUARDED_BY(region) PKEYGUARD_ANALYSIS_(pt_guarded_by(*&region))

/* The same in a struct whose member the region is; before Clang 19 nothing in C, which has no name
 * for the member there. */
#if !defined(__clang__) || defined(__cplusplus) || __clang_major__ >= 19
#define PKEYGUARD_GUARDED_BY_MEMBER(region) PKEYGUARD_GUARDED_BY(region)
#else
#define PKEYGUARD_GUARDED_BY_MEMBER(region)
#endif

/* On a function: its caller has the region open. The expression may use the parameters:
 * PKEYGUARD_NEEDS_READ(session->vault). */
#define PKEYGUARD_NEEDS_READ(region)  PKEYGUARD_ANALYSIS_(requires_shared_capability(region))
#define PKEYGUARD_NEEDS_WRITE(region) PKEYGUARD_ANALYSIS_(requires_capability(region))

/*
 * pkeyguard_assume_read, pkeyguard_assume_write - tell the analysis that a region is open
 *
 * For what it cannot see: a bare pkeyguard_acquire(), a guard on the whole key, a callback that
 * runs inside somebody's scope. It believes it to the end of the function, or to where a path joins
 * on which it was not told. They check nothing and do nothing; each returns its argument.
 *
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
#define pkeyguard_assume_read(region) pkeyguard_analysis_shared(region)
#define pkeyguard_assume_write(region) \
    pkeyguard_analysis_exclusive(pkeyguard_analysis_nothing(region))

/* ---- What follows serves the macros above; do not call it yourself. ---- */

/* Each tells the analysis of the region it is given, which it returns. */
static inline struct pkeyguard_region *pkeyguard_analysis_nothing(struct pkeyguard_region *region)
    PKEYGUARD_ANALYSIS_(assert_shared_capability(region))
        PKEYGUARD_ANALYSIS_(release_generic_capability(region))
            PKEYGUARD_ANALYSIS_(lock_returned(region))
                PKEYGUARD_ANALYSIS_(no_thread_safety_analysis);
static inline struct pkeyguard_region *pkeyguard_analysis_shared(struct pkeyguard_region *region)
    PKEYGUARD_ANALYSIS_(assert_shared_capability(region))
        PKEYGUARD_ANALYSIS_(lock_returned(region));
static inline struct pkeyguard_region *pkeyguard_analysis_exclusive(struct pkeyguard_region *region)
    PKEYGUARD_ANALYSIS_(assert_capability(region)) PKEYGUARD_ANALYSIS_(lock_returned(region));

static inline struct pkeyguard_region *pkeyguard_analysis_nothing(struct pkeyguard_region *region)
{
    return region;
}

static inline struct pkeyguard_region *pkeyguard_analysis_shared(struct pkeyguard_region *region)
{
    return region;
}

static inline struct pkeyguard_region *pkeyguard_analysis_exclusive(struct pkeyguard_region *region)
{
    return region;
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
