/* SPDX-License-Identifier: MIT */
#include "region/maps_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/os.h"

/* Enough of a line for what is looked for in it. The rest of a longer line is skipped. */
enum { LINE_SIZE = 64 };

int maps_open(struct maps_reader *reader, bool details)
{
    const char *path = details ? "/proc/thread-self/smaps" : "/proc/thread-self/maps";

    *reader = (struct maps_reader){.file = os_open_file_at(AT_FDCWD, path, 0)};
    if (reader->file >= 0)
        return 0;
    if (errno == ENOENT)
        return -ENOTSUP;
    return errno == ENOMEM || errno == EMFILE || errno == ENFILE ? -ENOMEM : -EACCES;
}

/* Returns the next byte, or -1 at the end. */
static int next_byte(struct maps_reader *reader)
{
    if (reader->at == reader->have) {
        ssize_t count = os_read_file(reader->file, reader->buffer, sizeof(reader->buffer));

        reader->failed = reader->failed || count < 0;
        reader->have = count > 0 ? (size_t)count : 0;
        reader->at = 0;
        if (count <= 0)
            return -1;
    }
    return (unsigned char)reader->buffer[reader->at++];
}

static bool next_line(struct maps_reader *reader, char line[LINE_SIZE])
{
    size_t length = 0;
    int byte;

    while ((byte = next_byte(reader)) >= 0 && byte != '\n') {
        if (length < LINE_SIZE - 1)
            line[length++] = (char)byte;
    }
    line[length] = '\0';
    return byte == '\n';
}

/* True for the first line of a mapping: "start-end rwxp ...". */
static bool begins_mapping(const char *line, struct mapped_range *ret_range)
{
    struct mapped_range range = {0};
    char *after;

    range.start = strtoul(line, &after, 16);
    if (after == line || *after != '-')
        return false;
    range.end = strtoul(after + 1, &after, 16);
    if (strnlen(after, 5) < 5)
        return false;
    range.prot = (after[1] == 'r' ? PROT_READ : 0) | (after[2] == 'w' ? PROT_WRITE : 0) |
                 (after[3] == 'x' ? PROT_EXEC : 0);
    *ret_range = range;
    return true;
}

/* Returns what follows the name in a line "Name: value" of this name, or NULL. */
static const char *value_of(const char *line, const char *name)
{
    size_t length = strlen(name);

    return strncmp(line, name, length) == 0 ? line + length : NULL;
}

static void note_detail(const char *line, struct mapped_range *range)
{
    const char *pkey = value_of(line, "ProtectionKey:");
    const char *page_size = value_of(line, "KernelPageSize:"); /* in KiB */

    if (pkey != NULL)
        range->pkey = atoi(pkey);
    if (page_size != NULL)
        range->page_size = strtoul(page_size, NULL, 10) * 1024;
}

bool maps_next(struct maps_reader *reader, struct mapped_range *ret_range)
{
    struct mapped_range range = reader->pending;
    char line[LINE_SIZE];

    reader->pending = (struct mapped_range){0};
    while (next_line(reader, line)) {
        struct mapped_range *begun = range.end == 0 ? &range : &reader->pending;

        if (begins_mapping(line, begun) && begun == &reader->pending)
            break;
        note_detail(line, &range);
    }
    if (range.end == 0)
        return false;
    *ret_range = range;
    return true;
}

int maps_close(struct maps_reader *reader)
{
    os_close_file(reader->file);
    return reader->failed ? -ENOMEM : 0;
}
