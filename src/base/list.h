/* SPDX-License-Identifier: MIT */
/*
 * list.h - a doubly linked list whose links are members of its elements
 *
 * The head is a link too. The head of an empty list points to itself. Links may be in protected
 * records (record_memory.h). musl has no <sys/queue.h>, so the library does not use it.
 */
#ifndef LIST_H
#define LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/record_memory.h"

struct list {
    struct list *next, *previous; /* never NULL after list_init() */
};

#define LIST_INIT(head)  \
    {                    \
        &(head), &(head) \
    }

/* Returns the element, of this type, whose member the link is. */
#define list_entry(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* The loop body may not remove the current link. */
#define list_for_each(link, head) \
    for (struct list *link = (head)->next; link != (head); link = link->next)

static inline void list_init(struct list *head)
{
    struct list *written = to_write(head);

    written->next = written->previous = head;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}

/*
 * Inserts the link at the front. The last store puts it into the list. So if a fork copies the list
 * in the middle of another thread's change, the child has every link with the right `next`, and
 * list_mend() repairs `previous`.
 */
static inline void list_insert(struct list *head, struct list *link)
{
    struct list *written = to_write(link);

    written->next = head->next;
    written->previous = head;
    to_write(head->next)->previous = link;
    __atomic_store_n(&to_write(head)->next, link, __ATOMIC_RELEASE);
}

/* Removes the link. Its own pointers do not change. */
static inline void list_remove(struct list *link)
{
    __atomic_store_n(&to_write(link->previous)->next, link->next, __ATOMIC_RELEASE);
    to_write(link->next)->previous = link->previous;
}

/* The same for one link or head, and for a whole list. */
static inline void list_mend_link(struct list *link)
{
    to_write(link->next)->previous = link;
}

static inline void list_mend(struct list *head)
{
    struct list *link = head;

    do {
        list_mend_link(link);
        link = link->next;
    } while (link != head);
}

#endif
