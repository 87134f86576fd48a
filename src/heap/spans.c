/* SPDX-License-Identifier: MIT */
#include "heap/spans.h"

#include "base/os.h"

void spans_abort(void)
{
    os_abort("a heap's metadata was overwritten", NULL);
}

uint32_t spans_length(const struct spans *spans, uint32_t number)
{
    uint32_t length = spans_block(spans, number)->count;

    if (length == 0 || length > spans->count - number)
        spans_abort();
    return length;
}

void spans_list_insert(const struct spans *spans, uint32_t *head, uint32_t number)
{
    struct block *block = spans_block(spans, number);

    block->previous = 0;
    block->next = *head;
    if (*head != 0)
        spans_block(spans, *head - 1)->previous = number + 1;
    *head = number + 1;
}

void spans_list_remove(const struct spans *spans, uint32_t *head, uint32_t number)
{
    struct block *block = spans_block(spans, number);

    if (block->previous != 0)
        spans_block(spans, block->previous - 1)->next = block->next;
    else
        *head = block->next;
    if (block->next != 0)
        spans_block(spans, block->next - 1)->previous = block->previous;
}

/* Returns the number of the list for spans of this length. */
static unsigned list_of_length(uint32_t count)
{
    unsigned log2 = 31 - (unsigned)__builtin_clz(count);

    return count < EXACT_LISTS ? count : EXACT_LISTS + log2 - 6;
}

static uint32_t *free_list_head(const struct spans *spans, unsigned list)
{
    return &spans->free->first[list];
}

static void mark_span_free(const struct spans *spans, uint32_t number, uint32_t count)
{
    const uint32_t ends[] = {number, number + count - 1};

    for (int i = 0; i < 2; i++) {
        struct block *end = spans_block(spans, ends[i]);

        atomic_store_explicit(&end->role, BLOCK_FREE, memory_order_relaxed);
        end->count = count;
    }
}

static void mark_span_other(const struct spans *spans, uint32_t number, uint32_t count)
{
    atomic_store_explicit(&spans_block(spans, number)->role, BLOCK_OTHER, memory_order_relaxed);
    atomic_store_explicit(&spans_block(spans, number + count - 1)->role, BLOCK_OTHER,
                          memory_order_relaxed);
}

static bool block_is_free(const struct spans *spans, uint32_t number)
{
    return atomic_load_explicit(&spans_block(spans, number)->role, memory_order_relaxed) ==
           BLOCK_FREE;
}

static void insert_free_span(const struct spans *spans, uint32_t number, uint32_t count)
{
    unsigned list = list_of_length(count);

    mark_span_free(spans, number, count);
    spans_list_insert(spans, free_list_head(spans, list), number);
    spans->free->filled[list / 64] |= UINT64_C(1) << list % 64;
}

static void remove_free_span(const struct spans *spans, uint32_t number, uint32_t count)
{
    unsigned list = list_of_length(count);

    spans_list_remove(spans, free_list_head(spans, list), number);
    if (*free_list_head(spans, list) == 0)
        spans->free->filled[list / 64] &= ~(UINT64_C(1) << list % 64);
    mark_span_other(spans, number, count);
}

/* Returns the first list from this one on that is not empty, or SPAN_LISTS. */
static unsigned next_filled_list(const struct spans *spans, unsigned list)
{
    for (unsigned word = list / 64; word < 2; word++) {
        uint64_t filled = spans->free->filled[word];

        if (word == list / 64)
            filled &= ~UINT64_C(0) << list % 64;
        if (filled != 0)
            return 64 * word + (unsigned)__builtin_ctzll(filled);
    }
    return SPAN_LISTS;
}

/*
 * Returns the number + 1 of a free span of at least this length, or 0. A list for a range of
 * lengths may have spans that are too short; the lists after it have none.
 */
static uint32_t find_free_span(const struct spans *spans, uint32_t count)
{
    unsigned list = list_of_length(count);

    if (list >= EXACT_LISTS) {
        uint32_t link = *free_list_head(spans, list);

        while (link != 0 && spans_block(spans, link - 1)->count < count)
            link = spans_block(spans, link - 1)->next;
        if (link != 0)
            return link;
        list++;
    }
    list = next_filled_list(spans, list);
    return list < SPAN_LISTS ? *free_list_head(spans, list) : 0;
}

/* Returns the first block from this one on whose address is a multiple of `alignment` blocks. */
static uintptr_t next_aligned(const struct spans *spans, uint32_t number, uintptr_t alignment)
{
    return number + (-(spans->base + number) & (alignment - 1));
}

static bool take_free_span(const struct spans *spans, uint32_t count, uintptr_t alignment,
                           uint32_t *ret_number)
{
    uint32_t link, number, length, start;

    /* A span that is longer by alignment - 1 blocks always contains an aligned span. */
    if (alignment > spans->count || alignment - 1 > spans->count - count)
        return false;
    link = find_free_span(spans, count + (uint32_t)alignment - 1);
    if (link == 0)
        return false;
    number = link - 1;
    length = spans_length(spans, number);
    if (length < count + (uint32_t)alignment - 1)
        spans_abort();
    remove_free_span(spans, number, length);
    start = (uint32_t)next_aligned(spans, number, alignment);
    if (start > number)
        insert_free_span(spans, number, start - number);
    if (number + length > start + count)
        insert_free_span(spans, start + count, number + length - (start + count));
    *ret_number = start;
    return true;
}

static bool take_span_at_frontier(const struct spans *spans, uint32_t count, uintptr_t alignment,
                                  uint32_t *ret_number)
{
    uint32_t frontier = spans->free->frontier;
    uintptr_t start = next_aligned(spans, frontier, alignment);

    if (start > spans->count || count > spans->count - start)
        return false;
    if (start > frontier)
        insert_free_span(spans, frontier, (uint32_t)start - frontier);
    spans->free->frontier = (uint32_t)start + count;
    *ret_number = (uint32_t)start;
    return true;
}

bool spans_take(const struct spans *spans, uint32_t count, uintptr_t alignment,
                uint32_t *ret_number)
{
    return take_free_span(spans, count, alignment, ret_number) ||
           take_span_at_frontier(spans, count, alignment, ret_number);
}

void spans_give_back(const struct spans *spans, uint32_t number, uint32_t count)
{
    uint32_t next = number + count;

    if (next < spans->free->frontier && block_is_free(spans, next)) {
        uint32_t length = spans_length(spans, next);

        remove_free_span(spans, next, length);
        count += length;
    }
    if (number > 0 && block_is_free(spans, number - 1)) {
        uint32_t length = spans_block(spans, number - 1)->count;

        if (length > number)
            spans_abort();
        number -= length;
        count += length;
        remove_free_span(spans, number, length);
    }
    if (number + count == spans->free->frontier)
        spans->free->frontier = number;
    else
        insert_free_span(spans, number, count);
}
