/* SPDX-License-Identifier: MIT */
/*
 * list.h - a doubly linked list whose links are members of its elements
 *
 * The head is a link, too: an empty list's head points to itself. Not <sys/queue.h>, which musl
 * does not have.
 */
#ifndef LIST_H
#define LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *previous; /* never NULL once initialised */
};

#define LIST_INIT(head)  \
    {                    \
        &(head), &(head) \
    }

/* The element of this type whose member the link is. */
#define list_entry(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* The loop may not remove the link that it is at. */
#define list_for_each(link, head) \
    for (struct list *link = (head)->next; link != (head); link = link->next)

static inline void list_init(struct list *head)
{
    head->next = head->previous = head;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}

/* At the front. */
static inline void list_insert(struct list *head, struct list *link)
{
    link->next = head->next;
    link->previous = head;
    head->next->previous = link;
    head->next = link;
}

/* The link's own pointers stay as they are. */
static inline void list_remove(struct list *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
}

#endif
