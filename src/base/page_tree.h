/* SPDX-License-Identifier: MIT */
/*
 * page_tree.h - finds a value by any address in its pages, without a lock
 *
 * A radix tree over page numbers. page_tree_find() may run while another thread, or the code that a
 * signal handler interrupted, changes the tree: for each page it sees the value before the change
 * or after it. It takes at most 8 steps, however many values there are.
 *
 * Every other function needs the library's lock. The nodes are in the memory of record_memory.h.
 *
 * Nodes are never freed, because a search may be in them. A node is 512 bytes and serves 64 pages;
 * there is one for each place of the address space where the pages of a value ever began or ended.
 */
#ifndef PAGE_TREE_H
#define PAGE_TREE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct page_tree_node;

/* All zero at first. */
struct page_tree {
    atomic_uintptr_t root; /* the slot of all pages (page_tree.c) */

    /* Under the lock. */
    struct page_tree_node *spare; /* an array: nodes that were never used */
    size_t spare_count;
    size_t reserved; /* how many calls of page_tree_set() the spare nodes must serve */
};

/* From now on one more page_tree_set() will have the memory that it needs. -ENOMEM. */
int page_tree_reserve(struct page_tree *tree);

/* Gives a reservation back that no page_tree_set() used. */
void page_tree_cancel(struct page_tree *tree);

/*
 * The pages of these addresses get the value, in place of any that they have. It uses up a
 * reservation. A value is not NULL, and its address is even.
 */
void page_tree_set(struct page_tree *tree, const void *start, size_t length, void *value);

/* Those of the pages that have this value lose it. */
void page_tree_clear(struct page_tree *tree, const void *start, size_t length, const void *value);

/* True if one of the pages has a value for which `test` is true. */
bool page_tree_any(const struct page_tree *tree, const void *start, size_t length,
                   bool (*test)(const void *value));

/* Returns the value of the address's page, or NULL. Takes no lock and is async-signal-safe. */
void *page_tree_find(const struct page_tree *tree, const void *address);

#endif
