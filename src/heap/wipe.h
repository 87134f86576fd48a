/* SPDX-License-Identifier: MIT */
/*
 * wipe.h - wipes memory, and checks that wiped memory has not been written to
 *
 * Addresses and sizes are multiples of 16. A check costs about a quarter of a wipe.
 */
#ifndef WIPE_H
#define WIPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/fence.h"
#include "heap/memory_checker.h"

/* For what a fast path needs. */
#define ALWAYS_INLINE __attribute__((always_inline)) static inline

/* gcc refuses to put a function that is not checked into one that is. */
#ifdef __SANITIZE_ADDRESS__
#define WIPE_INLINE static inline NOT_CHECKED_BY_ASAN
#else
#define WIPE_INLINE ALWAYS_INLINE
#endif

enum { WIPE_STEP = 16, WIPE_STORED_MAX = 256 };

typedef uint64_t wipe_words __attribute__((vector_size(WIPE_STEP), may_alias));

/* The compiler must not remove the stores, nor make them a call. */
static inline NOT_CHECKED_BY_ASAN void wipe_step(char *start)
{
    *(wipe_words *)(void *)start = (wipe_words){0};
    compiler_fence();
}

/* Wipes a step at this distance from the start, and one at the same distance from the end. */
WIPE_INLINE void wipe_two_steps(char *start, size_t size, size_t distance)
{
    wipe_step(start + distance);
    wipe_step(start + size - WIPE_STEP - distance);
}

/*
 * Wipes up to WIPE_STORED_MAX bytes with plain stores, which cost less than a call. It goes from
 * both ends inwards: then few branches serve all sizes, and the stores in the middle overlap.
 */
WIPE_INLINE void wipe_stored(char *start, size_t size)
{
    wipe_two_steps(start, size, 0);
    if (size <= 32)
        return;
    wipe_two_steps(start, size, 16);
    if (size <= 64)
        return;
    wipe_two_steps(start, size, 32);
    wipe_two_steps(start, size, 48);
    for (size_t done = 64; done + 64 < size; done += 64) {
        wipe_two_steps(start + done, 64, 0);
        wipe_two_steps(start + done, 64, 16);
    }
}

static inline NOT_CHECKED_BY_ASAN void wipe_small(char *start, size_t size)
{
    if (size <= WIPE_STORED_MAX)
        wipe_stored(start, size);
    else
        explicit_bzero(start, size);
}

/*
 * Whole blocks are wiped in pieces. Above 2 KiB glibc's memset uses REP STOS, which starts more
 * slowly than its loop of vector stores. It is faster in the end only if the memory is in no cache
 * near the CPU.
 */
enum { WIPE_PIECE = 2048, WIPE_PIECES_MAX = 16384 };

static inline NOT_CHECKED_BY_ASAN void wipe_large(char *start, size_t size)
{
    size_t piece = size <= WIPE_PIECES_MAX ? WIPE_PIECE : size;

    for (size_t wiped = 0; wiped < size; wiped += piece)
        explicit_bzero(start + wiped, piece);
}

static inline NOT_CHECKED_BY_ASAN wipe_words wipe_words_at(const char *start)
{
    return *(const wipe_words *)(const void *)start;
}

/* Tells whether up to 32 bytes are zero. With words that takes less than with vectors. */
typedef uint64_t wipe_word __attribute__((may_alias));

WIPE_INLINE bool ends_are_zero(const char *start, size_t size)
{
    const wipe_word *first = (const wipe_word *)(const void *)start;
    const wipe_word *end = (const wipe_word *)(const void *)(start + size);

    return (first[0] | first[1] | end[-2] | end[-1]) == 0;
}

WIPE_INLINE wipe_words two_steps(const char *start, size_t size, size_t distance)
{
    return wipe_words_at(start + distance) | wipe_words_at(start + size - WIPE_STEP - distance);
}

/* In the order of wipe_stored(). */
WIPE_INLINE bool is_zero(const char *start, size_t size)
{
    wipe_words any;

    if (!ends_are_zero(start, size))
        return false;
    if (size <= 32)
        return true;
    any = two_steps(start, size, 16);
    if (size > 64) {
        any |= two_steps(start, size, 32) | two_steps(start, size, 48);
        for (size_t done = 64; done + 64 < size; done += 64)
            any |= two_steps(start + done, 64, 0) | two_steps(start + done, 64, 16);
    }
    return (any[0] | any[1]) == 0;
}

/* Wipes those whole blocks again that have been written to. */
static inline NOT_CHECKED_BY_ASAN void wipe_written(char *start, size_t size)
{
    for (size_t done = 0; done < size; done += WIPE_PIECE) {
        if (!is_zero(start + done, WIPE_PIECE))
            explicit_bzero(start + done, WIPE_PIECE);
    }
}

#endif
