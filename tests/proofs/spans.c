/* SPDX-License-Identifier: MIT */
/* Numbers of blocks in a heap: spans.c. */
#include "heap/spans.c"
#include "proof.h"

/* What pkeyguard_heap_create() makes: a heap's blocks have numbers of 32 bits, and addresses. */
static bool is_heap(uint32_t count, uintptr_t base)
{
    return count != 0 && count < UINT32_MAX && base != 0 &&
           base < (ADDRESS_END >> BLOCK_SHIFT) - count;
}

bool prove_list_of_length(uint32_t shorter, uint32_t longer)
{
    ASSUME(shorter != 0 && shorter <= longer);
    return list_of_length(longer) < SPAN_LISTS && list_of_length(shorter) <= list_of_length(longer);
}

/* Every span in a list after the length's own is long enough, as find_free_span() relies on. */
bool prove_later_lists_are_long_enough(uint32_t wanted, uint32_t length)
{
    ASSUME(wanted != 0 && length != 0 && list_of_length(length) > list_of_length(wanted));
    return length > wanted;
}

/* A list for one length has that length alone. */
bool prove_exact_lists(uint32_t wanted, uint32_t length)
{
    ASSUME(wanted != 0 && length != 0 && list_of_length(wanted) < EXACT_LISTS);
    return (list_of_length(length) == list_of_length(wanted)) == (length == wanted);
}

/* The first aligned block from here on: none before it is aligned. */
bool prove_next_aligned(uint32_t count, uintptr_t base, uint32_t number, unsigned log2,
                        uint32_t between)
{
    struct spans spans = {.count = count, .base = base};
    uintptr_t alignment = power_of_two(log2), next;

    ASSUME(is_heap(count, base) && number <= count);
    next = next_aligned(&spans, number, alignment);
    return next >= number && next - number < alignment && is_aligned(base + next, alignment) &&
           (between < number || between >= next || !is_aligned(base + between, alignment));
}

/* A span from the frontier is inside the heap, and no span was there. For any alignment. */
bool prove_span_at_frontier(uint32_t count, uintptr_t base, uint32_t frontier, uint32_t wanted,
                            uintptr_t alignment, struct block *blocks)
{
    struct free_spans free;
    struct spans spans = {.blocks = blocks, .free = &free, .count = count, .base = base};
    uint32_t number = 0;

    ASSUME(is_heap(count, base) && frontier <= count && wanted != 0);
    free.frontier = frontier;
    if (!take_span_at_frontier(&spans, wanted, alignment, &number))
        return true;
    return number >= frontier && (uint64_t)number + wanted <= count &&
           free.frontier == number + wanted;
}

/*
 * A free span that is longer by alignment - 1 blocks has an aligned span of the wanted length in
 * it, and what remains before and behind it is counted without overflow: take_free_span().
 */
bool prove_aligned_span_in_a_longer_one(uint32_t count, uintptr_t base, uint32_t wanted,
                                        unsigned log2, uint32_t number, uint32_t length)
{
    struct spans spans = {.count = count, .base = base};
    uintptr_t alignment = power_of_two(log2), start;

    ASSUME(is_heap(count, base) && wanted != 0 && wanted <= count);
    ASSUME(alignment <= count && alignment - 1 <= count - wanted);
    ASSUME(number < count && length <= count - number);
    ASSUME(length >= wanted + (uint32_t)alignment - 1);
    start = next_aligned(&spans, number, alignment);
    return wanted + (uint32_t)alignment - 1 >= wanted && start == (uint32_t)start &&
           start - number + wanted <= length &&
           (uint64_t)number + length == (uint32_t)(number + length);
}
