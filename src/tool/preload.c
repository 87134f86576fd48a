/* SPDX-License-Identifier: MIT */
#include "preload.h"

#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "find.h"
#include "loader.h"

/* Returns a file descriptor, or -1. */
static int open_program(const char *program)
{
    char path[PATH_MAX];

    return find_program(program, path) ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
}

/* True if the file has these bytes. */
static bool contains(int file, const void *bytes, size_t length)
{
    char buffer[1 << 16];
    ssize_t got;

    /* Each piece begins with what may be the start of the bytes at the end of the one before. */
    for (off_t offset = 0; (got = pread(file, buffer, sizeof(buffer), offset)) >= (ssize_t)length;
         offset += got - (ssize_t)length + 1) {
        if (memmem(buffer, (size_t)got, bytes, length) != NULL)
            return true;
    }
    return false;
}

const char *preload_obstacle(const char *program)
{
    /* The library's messages begin so. */
    static const char library[] = "libpkeyguard: ";
    int file = open_program(program);
    const char *obstacle = NULL;
    char loader[PATH_MAX];

    if (file < 0)
        return NULL;
    switch (find_loader(file, loader)) {
    case LOADER_UNKNOWN:
        break;
    case LOADER_NONE: /* the loader is what preloads libraries */
        obstacle = "it is linked statically, so nothing can be preloaded";
        break;
    case LOADER_NAMED:
        if (contains(file, library, sizeof(library)))
            obstacle = "libpkeyguard is linked into it statically";
        break;
    }
    close(file);
    return obstacle;
}
