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

enum { WIPE_STEP = 16, WIPE_STORED_MAX = 256 };

typedef uint64_t wipe_words __attribute__((vector_size(WIPE_STEP), may_alias));

/* The compiler must not remove the stores, nor make them a call. */
static inline NOT_CHECKED_BY_ASAN void wipe_step(char *start)
{
    *(wipe_words *)(void *)start = (wipe_words){0};
    compiler_fence();
}

/* Wipes up to WIPE_STORED_MAX bytes with plain stores, which cost less than a call. The first and
 * the last step need no loop. */
static inline NOT_CHECKED_BY_ASAN void wipe_stored(char *start, size_t size)
{
    wipe_step(start);
    wipe_step(start + size - WIPE_STEP);
    for (size_t done = WIPE_STEP; done + WIPE_STEP < size; done += WIPE_STEP)
        wipe_step(start + done);
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

static inline NOT_CHECKED_BY_ASAN bool is_zero(const char *start, size_t size)
{
    wipe_words any = wipe_words_at(start) | wipe_words_at(start + size - WIPE_STEP);

    if (size > (size_t)2 * WIPE_STEP) {
        for (size_t done = WIPE_STEP; done < size - WIPE_STEP; done += WIPE_STEP)
            any |= wipe_words_at(start + done);
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
