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

enum { WIPE_STEP = 16, WIPE_STORED_MAX = 128 };

/* Wipes little memory with plain stores, which cost less than a call. */
static inline void wipe_small(char *start, size_t size)
{
    const char *end = start + size;

    if (size > WIPE_STORED_MAX) {
        explicit_bzero(start, size);
        return;
    }
    do {
        memset(start, 0, WIPE_STEP);
        /* stops the compiler from removing the stores */
        __asm__ volatile("" : : "r"(start) : "memory");
        start += WIPE_STEP;
    } while (start != end);
}

/*
 * Whole blocks are wiped in pieces. Above 2 KiB glibc's memset uses REP STOS, which starts more
 * slowly than its loop of vector stores. It is faster in the end only if the memory is in no cache
 * near the CPU.
 */
enum { WIPE_PIECE = 2048, WIPE_PIECES_MAX = 16384 };

static inline void wipe_large(char *start, size_t size)
{
    size_t piece = size <= WIPE_PIECES_MAX ? WIPE_PIECE : size;

    for (size_t wiped = 0; wiped < size; wiped += piece)
        explicit_bzero(start + wiped, piece);
}

static inline bool is_zero(const char *start, size_t size)
{
    typedef uint64_t words __attribute__((vector_size(WIPE_STEP), may_alias));
    const words *word = (const void *)start, *end = (const void *)(start + size);
    words any = {0};

    do
        any |= *word++;
    while (word != end);
    return (any[0] | any[1]) == 0;
}

/* Wipes those whole blocks again that have been written to. */
static inline void wipe_written(char *start, size_t size)
{
    for (size_t done = 0; done < size; done += WIPE_PIECE) {
        if (!is_zero(start + done, WIPE_PIECE))
            explicit_bzero(start + done, WIPE_PIECE);
    }
}

#endif
