/* SPDX-License-Identifier: MIT */
/*
 * analysis.h - annotations for Clang's thread safety analysis: guards checked at compile time
 *
 * Clang checks them when it is called with -Wthread-safety. Without that warning, and with other
 * compilers, they have no effect.
 *
 *     static struct pkeyguard_region *vault;
 *     static struct secret *secret PKEYGUARD_GUARDED_BY(vault);
 *     static void rotate(void) PKEYGUARD_NEEDS_WRITE(vault);
 *
 * With these declarations Clang warns of:
 *  - an access to *secret where no scope on vault is open
 *  - a write to *secret in a read scope
 *  - an access to *secret after the scope, or in the else branch of a try form
 *  - a call of rotate() outside a write scope
 *
 * The analysis compares expressions as they are written: a scope on first->vault does not cover
 * second->vault.
 *
 * Limits of the analysis:
 *  - After an auto form it takes the region for open beyond the end of the block: until the end of
 *    the function, or until a branch joins in which the region is closed.
 *  - In C it does not tell structs apart in PKEYGUARD_GUARDED_BY_MEMBER(vault): a scope on
 *    first->vault also permits second->secret.
 *  - A function marked PKEYGUARD_NEEDS_READ draws a warning where it opens a write scope on the
 *    same region.
 */
#ifndef PKEYGUARD_ANALYSIS_H
#define PKEYGUARD_ANALYSIS_H

/* Where the region may be a struct's member, it stands behind `*&`: else Clang 22, in C, takes the
 * member's name for that of a global variable. */
#ifdef __clang__
#define PKEYGUARD_ANALYSIS_(attribute) __attribute__((attribute))
#else
#define PKEYGUARD_ANALYSIS_(attribute)
#endif

#include <pkeyguard/begin.h>

/* Makes a region a capability, as the analysis calls what must be held for an access. */
struct PKEYGUARD_ANALYSIS_(capability("region")) pkeyguard_region;

/*
 * PKEYGUARD_GUARDED_BY - for a pointer: its memory may be used only while the region is open
 *
 * It stands behind the name of a variable:
 *
 *     static struct secret *secret PKEYGUARD_GUARDED_BY(vault);
 *
 * Since 0.1.
 */
#define PKEYGUARD_GUARDED_BY(region) PKEYGUARD_ANALYSIS_(pt_guarded_by(*&region))

/*
 * PKEYGUARD_GUARDED_BY_MEMBER - PKEYGUARD_GUARDED_BY() for a pointer and a region in one struct
 *
 *     struct session {
 *         struct pkeyguard_region *vault;
 *         struct secret *secret PKEYGUARD_GUARDED_BY_MEMBER(vault);
 *     };
 *
 * It means what PKEYGUARD_GUARDED_BY() means. In C it has no effect before Clang 19: an attribute
 * could not name another member. Since 0.1.
 */
#if !defined(__clang__) || defined(__cplusplus) || __clang_major__ >= 19
#define PKEYGUARD_GUARDED_BY_MEMBER(region) PKEYGUARD_GUARDED_BY(region)
#else
#define PKEYGUARD_GUARDED_BY_MEMBER(region)
#endif

/*
 * PKEYGUARD_NEEDS_READ, PKEYGUARD_NEEDS_WRITE - for a function: the caller must have a region open
 *
 * It stands behind the parameters of a declaration, and may use them:
 *
 *     void show(struct session *from) PKEYGUARD_NEEDS_READ(from->vault);
 *
 * Since 0.1.
 */
#define PKEYGUARD_NEEDS_READ(region)  PKEYGUARD_ANALYSIS_(requires_shared_capability(region))
#define PKEYGUARD_NEEDS_WRITE(region) PKEYGUARD_ANALYSIS_(requires_capability(region))

/*
 * pkeyguard_assume_read, pkeyguard_assume_write - tell the analysis that a region is open
 *
 * For guards that the analysis does not see: a bare pkeyguard_acquire(), a guard on the whole key,
 * a callback that its caller runs inside a scope. The analysis then takes the region for open until
 * the end of the function, or until a branch joins in which the macro was not used. At run time
 * these macros check nothing and do nothing. Each returns its argument.
 *
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
#define pkeyguard_assume_read(region) pkeyguard_analysis_shared(region)
#define pkeyguard_assume_write(region) \
    pkeyguard_analysis_exclusive(pkeyguard_analysis_nothing(region))

/* ---- For the macros above; do not call these yourself. ---- */

#ifndef PKEYGUARD_DECLARATIONS_ONLY

/*
 * Each returns its argument and tells the analysis something about it: that the region is closed
 * (nothing), open for reading (shared), or open for writing (exclusive). An exclusive assertion
 * does not count while a shared one holds, so pkeyguard_assume_write() makes a "nothing" first.
 */
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

#endif

#include <pkeyguard/end.h>
#endif
