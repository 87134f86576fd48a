/* SPDX-License-Identifier: MIT */
#include "guest_archive.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int archive_begin(struct archive *ret_archive)
{
    int file = memfd_create("guest", 0);

    *ret_archive = (struct archive){.stream = file < 0 ? NULL : fdopen(file, "w+")};
    return ret_archive->stream == NULL ? -errno : 0;
}

bool archive_has(const struct archive *archive, const char *path)
{
    for (size_t at = 0; at < archive->length; at += strlen(archive->names + at) + 1) {
        if (strcmp(archive->names + at, path) == 0)
            return true;
    }
    return false;
}

/* Notes that the path is in the archive. Returns false, with errno, on failure. */
static bool note_name(struct archive *archive, const char *path)
{
    size_t size = strlen(path) + 1;
    char *names = realloc(archive->names, archive->length + size);

    if (names == NULL)
        return false;
    memcpy(names + archive->length, path, size);
    archive->names = names;
    archive->length += size;
    return true;
}

/* Headers, names and contents begin at multiples of four bytes. */
static void pad(struct archive *archive, size_t size)
{
    fwrite("\0\0", 1, -size % 4, archive->stream);
}

/* @name: without a slash in front. An error is found by archive_end(). */
static void put_header(struct archive *archive, const char *name, mode_t mode, size_t size)
{
    int length = fprintf(archive->stream,
                         "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x", /* newc */
                         ++archive->last, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, strlen(name) + 1, 0);

    fwrite(name, 1, strlen(name) + 1, archive->stream);
    pad(archive, (size_t)length + strlen(name) + 1);
}

/* Adds all but the content, to a folder that is there. */
static int add_in_folder(struct archive *archive, const char *path, mode_t mode, size_t size)
{
    if (!note_name(archive, path))
        return -errno;
    put_header(archive, path + 1, mode, size);
    return 0;
}

static int add_parents(struct archive *archive, const char *path)
{
    const char *slash = path;
    int error = 0;

    while (error == 0 && (slash = strchr(slash + 1, '/')) != NULL) {
        char *parent = strndup(path, (size_t)(slash - path));

        if (parent == NULL)
            return -ENOMEM;
        if (!archive_has(archive, parent))
            error = add_in_folder(archive, parent, S_IFDIR | 0755, 0);
        free(parent);
    }
    return error;
}

/* Adds all but the content. */
static int add_entry(struct archive *archive, const char *path, mode_t mode, size_t size)
{
    int error = add_parents(archive, path);

    return error != 0 ? error : add_in_folder(archive, path, mode, size);
}

int archive_add_folder(struct archive *archive, const char *path)
{
    return add_entry(archive, path, S_IFDIR | 0755, 0);
}

int archive_add_bytes(struct archive *archive, const char *path, const void *bytes, size_t size)
{
    int error =
        archive_has(archive, path) ? -EEXIST : add_entry(archive, path, S_IFREG | 0644, size);

    if (error != 0)
        return error == -EEXIST ? 0 : error;
    fwrite(bytes, 1, size, archive->stream);
    pad(archive, size);
    return 0;
}

/* Copies size bytes. A file that is shorter now is an error. */
static int copy_content(struct archive *archive, FILE *source, size_t size)
{
    char buffer[1 << 16];

    for (size_t left = size; left > 0;) {
        size_t got = fread(buffer, 1, left < sizeof(buffer) ? left : sizeof(buffer), source);

        if (got == 0)
            return ferror(source) ? -errno : -EIO;
        fwrite(buffer, 1, got, archive->stream);
        left -= got;
    }
    pad(archive, size);
    return 0;
}

static int add_open_file(struct archive *archive, const char *path, FILE *source)
{
    struct stat status;
    int error;

    if (fstat(fileno(source), &status) != 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return -EINVAL;
    if (status.st_size > UINT32_MAX)
        return -EFBIG;
    error = add_entry(archive, path, S_IFREG | (status.st_mode & 07777), (size_t)status.st_size);
    return error != 0 ? error : copy_content(archive, source, (size_t)status.st_size);
}

int archive_add_copy(struct archive *archive, const char *path, const char *source)
{
    FILE *file;
    int error;

    if (archive_has(archive, path))
        return 0;
    file = fopen(source, "re");
    if (file == NULL)
        return -errno;
    error = add_open_file(archive, path, file);
    fclose(file);
    return error;
}

int archive_end(struct archive *archive, size_t *ret_size)
{
    int file = fileno(archive->stream);
    struct stat status;

    put_header(archive, "TRAILER!!!", 0, 0);
    if (fflush(archive->stream) != 0 || fstat(file, &status) != 0)
        return -errno;
    if (ferror(archive->stream))
        return -ENOMEM; /* the errno of the failed write is lost */
    *ret_size = (size_t)status.st_size;
    return file;
}
