/* SPDX-License-Identifier: MIT */
/* list.h - an intrusive list, circular through its head (musl has no <sys/queue.h>) */
#ifndef LIST_H
#define LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *previous;
};

#define LIST_INIT(head)  \
    {                    \
        &(head), &(head) \
    }

#define list_entry(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

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

static inline void list_insert(struct list *head, struct list *link)
{
    link->next = head->next;
    link->previous = head;
    head->next->previous = link;
    head->next = link;
}

static inline void list_remove(struct list *link)
{
    link->previous->next = link->next;
    link->next->previous = link->previous;
}

#endif
