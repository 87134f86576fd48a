/* SPDX-License-Identifier: MIT */
#include "preload.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "find.h"

/* Returns a file descriptor, or -1. */
static int open_program(const char *program)
{
    char path[PATH_MAX];

    return find_program(program, path) ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
}

static bool read_at(int file, void *buffer, size_t size, off_t offset)
{
    return pread(file, buffer, size, offset) == (ssize_t)size;
}

/* True if the program has no loader, which is what preloads libraries. */
static bool lacks_loader(int file, const Elf64_Ehdr *header)
{
    for (unsigned i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr segment;

        if (!read_at(file, &segment, sizeof(segment),
                     (off_t)(header->e_phoff + i * sizeof(segment))) ||
            segment.p_type == PT_INTERP)
            return false;
    }
    return true;
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
    Elf64_Ehdr header;

    if (file < 0)
        return NULL;
    if (read_at(file, &header, sizeof(header), 0) && memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 &&
        header.e_ident[EI_CLASS] == ELFCLASS64) {
        if (lacks_loader(file, &header))
            obstacle = "it is linked statically, so nothing can be preloaded";
        else if (contains(file, library, sizeof(library)))
            obstacle = "libpkeyguard is linked into it statically";
    }
    close(file);
    return obstacle;
}
