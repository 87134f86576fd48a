/* SPDX-License-Identifier: MIT */
/*
 * maps_reader.h - reads this process's mappings from /proc
 *
 * It allocates no memory, so it can be used with the library's lock held. It is no cancellation
 * point.
 */
#ifndef MAPS_READER_H
#define MAPS_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mapped_range {
    uintptr_t start, end;
    int prot;         /* PROT_* */
    int pkey;         /* 0 if the kernel shows none */
    size_t page_size; /* 0 without details */
};

struct maps_reader {
    int file;
    size_t have, at;             /* bytes in the buffer; the first one not looked at yet */
    bool failed;                 /* true if the kernel refused a read */
    struct mapped_range pending; /* its first line was read; end is 0 if there is none */
    char buffer[1024];
};

/*
 * Begins at the lowest address. @details: also gets pkeys and page sizes, from smaps, for which the
 * kernel walks the page tables. -ENOTSUP: there is no /proc, or not this file; -EACCES: it may not
 * be read; -ENOMEM: no memory, no file descriptor.
 */
int maps_open(struct maps_reader *reader, bool details);

/* Gets the next mapping, in the order of addresses. False: there is none, or a read failed. */
bool maps_next(struct maps_reader *reader, struct mapped_range *ret_range);

/* Returns 0, or -ENOMEM if a read failed. */
int maps_close(struct maps_reader *reader);

#endif
