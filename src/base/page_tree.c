/* SPDX-License-Identifier: MIT */
#include "base/page_tree.h"

#include <stdint.h>

#include "base/record_memory.h"

/*
 * A slot stands for 2^bits pages, bits being a multiple of LEVEL_BITS. It holds one of these:
 *
 *     0                     no page has a value
 *     a value               that of all pages
 *     a node's address | 1  the node's slots stand for a 64th of the pages each
 *
 * The root's slot stands for all pages of 60-bit addresses, more than any CPU has. A slot for one
 * page never holds a node.
 *
 * A slot that has a node keeps it. Then a value that covers all of its pages stands in the node's
 * slots.
 */
enum { LEVEL_BITS = 6, SLOTS = 1 << LEVEL_BITS, LEVELS = 8, ALL_BITS = LEVELS * LEVEL_BITS };

/* 4 KiB. Where pages are larger, all parts of a page have the same value. */
enum { PAGE_SHIFT = 12 };

/*
 * page_tree_set() makes nodes only around the first and the last page: at most two on each level,
 * and one on the first.
 */
enum { NODES_OF_SET = 2 * LEVELS - 1, NODES_IN_CHUNK = 128 };

struct page_tree_node {
    atomic_uintptr_t slots[SLOTS];
};

/* ---- slots ---- */

static uint64_t page_of(const void *address)
{
    return (uint64_t)(uintptr_t)address >> PAGE_SHIFT;
}

static uint64_t last_page_of(const void *start, size_t length)
{
    return page_of((const char *)start + (length - 1));
}

static bool is_node(uintptr_t content)
{
    return content & 1;
}

/* A node is seen with its slots as they were when it came into the tree. */
static uintptr_t content_of(const atomic_uintptr_t *slot)
{
    return atomic_load_explicit(slot, memory_order_acquire);
}

static void put(atomic_uintptr_t *slot, uintptr_t content)
{
    atomic_store_explicit(to_write(slot), content, memory_order_release);
}

/* The page's slot in a node whose slots stand for 2^bits pages each. */
static atomic_uintptr_t *slot_in_node(uintptr_t content, unsigned bits, uint64_t page)
{
    struct page_tree_node *node = (struct page_tree_node *)(content - 1);

    return &node->slots[page >> bits & (SLOTS - 1)];
}

/* The slot that has the page's value, which stands for 2^*ret_bits pages. */
static atomic_uintptr_t *slot_of(const struct page_tree *tree, uint64_t page, unsigned *ret_bits)
{
    atomic_uintptr_t *slot = (atomic_uintptr_t *)&tree->root;
    unsigned bits = ALL_BITS;
    uintptr_t content;

    while (is_node(content = content_of(slot))) {
        bits -= LEVEL_BITS;
        slot = slot_in_node(content, bits, page);
    }
    *ret_bits = bits;
    return slot;
}

static uint64_t first_page_behind(uint64_t page, unsigned bits)
{
    return (page | ((UINT64_C(1) << bits) - 1)) + 1;
}

/* ---- nodes ---- */

int page_tree_reserve(struct page_tree *tree)
{
    struct page_tree *written = to_write(tree);
    size_t needed = (tree->reserved + 1) * NODES_OF_SET;
    size_t count = needed > NODES_IN_CHUNK ? needed : NODES_IN_CHUNK;
    void *nodes;
    int error;

    if (tree->spare_count < needed) {
        /* The few that are left are not used any more. They have not become memory yet. */
        error = record_memory_take(count * sizeof(struct page_tree_node), &nodes);
        if (error != 0)
            return error;
        written->spare = nodes;
        written->spare_count = count;
    }
    written->reserved++;
    return 0;
}

void page_tree_cancel(struct page_tree *tree)
{
    to_write(tree)->reserved--;
}

/* Puts a node in the slot. Each page keeps its value. Returns the slot's content. */
static uintptr_t split(struct page_tree *tree, atomic_uintptr_t *slot)
{
    struct page_tree_node *node = &tree->spare[--to_write(tree)->spare_count];
    uintptr_t value = content_of(slot);

    for (int i = 0; value != 0 && i < SLOTS; i++)
        put(&node->slots[i], value);
    put(slot, (uintptr_t)node | 1);
    return (uintptr_t)node | 1;
}

/* Splits slots until one stands for pages from `page` to at most `last`. */
static atomic_uintptr_t *slot_within(struct page_tree *tree, uint64_t page, uint64_t last,
                                     unsigned *ret_bits)
{
    atomic_uintptr_t *slot = slot_of(tree, page, ret_bits);

    while (page % (UINT64_C(1) << *ret_bits) != 0 ||
           first_page_behind(page, *ret_bits) > last + 1) {
        uintptr_t node = split(tree, slot);

        *ret_bits -= LEVEL_BITS;
        slot = slot_in_node(node, *ret_bits, page);
    }
    return slot;
}

/* ---- values ---- */

void page_tree_set(struct page_tree *tree, const void *start, size_t length, void *value)
{
    uint64_t last = last_page_of(start, length);
    unsigned bits;

    for (uint64_t page = page_of(start); page <= last; page = first_page_behind(page, bits))
        put(slot_within(tree, page, last, &bits), (uintptr_t)value);
    to_write(tree)->reserved--;
}

void page_tree_clear(struct page_tree *tree, const void *start, size_t length, const void *value)
{
    uint64_t last = last_page_of(start, length);
    unsigned bits;

    for (uint64_t page = page_of(start); page <= last; page = first_page_behind(page, bits)) {
        atomic_uintptr_t *slot = slot_of(tree, page, &bits);

        if (content_of(slot) == (uintptr_t)value)
            put(slot, 0);
    }
}

bool page_tree_any(const struct page_tree *tree, const void *start, size_t length,
                   bool (*test)(const void *value))
{
    uint64_t last = last_page_of(start, length);
    unsigned bits;

    for (uint64_t page = page_of(start); page <= last; page = first_page_behind(page, bits)) {
        uintptr_t value = content_of(slot_of(tree, page, &bits));

        if (value != 0 && test((const void *)value))
            return true;
    }
    return false;
}

void *page_tree_find(const struct page_tree *tree, const void *address)
{
    uint64_t page = page_of(address);
    unsigned bits;

    if (page >> ALL_BITS != 0)
        return NULL;
    return (void *)content_of(slot_of(tree, page, &bits));
}
