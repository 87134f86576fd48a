/* SPDX-License-Identifier: MIT */
/*
 * guest_archive.h - the guest's first file system: an archive in memory, as cpio's format "newc"
 *
 * The kernel unpacks it (Documentation/driver-api/early-userspace/buffer-format.rst). All files
 * belong to root. Functions return 0 or -errno.
 */
#ifndef GUEST_ARCHIVE_H
#define GUEST_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct archive {
    FILE *stream;  /* of a memfd */
    char *names;   /* each path that is in it, each with a zero byte behind it */
    size_t length; /* of names */
    unsigned last; /* inode number that was given last */
};

int archive_begin(struct archive *ret_archive);

/* True if the path is in the archive. */
bool archive_has(const struct archive *archive, const char *path);

/*
 * Each adds something at an absolute path, and the folders above it. What is there already stays.
 *
 * archive_add_folder: an empty folder.
 * archive_add_bytes: a file with this content.
 * archive_add_copy: the file of this machine that @source names, with its mode. Follows links.
 */
int archive_add_folder(struct archive *archive, const char *path);
int archive_add_bytes(struct archive *archive, const char *path, const void *bytes, size_t size);
int archive_add_copy(struct archive *archive, const char *path, const char *source);

/*
 * Completes the archive. Returns a file descriptor that a child process inherits, or -errno.
 * *ret_size: in bytes.
 */
int archive_end(struct archive *archive, size_t *ret_size);

#endif
