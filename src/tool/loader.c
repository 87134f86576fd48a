/* SPDX-License-Identifier: MIT */
#include "loader.h"

#include <elf.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static bool read_at(int file, void *buffer, size_t size, Elf64_Off offset)
{
    return pread(file, buffer, size, (off_t)offset) == (ssize_t)size;
}

static enum loader read_name(int file, const Elf64_Phdr *segment, char ret_path[PATH_MAX])
{
    if (segment->p_filesz >= PATH_MAX ||
        !read_at(file, ret_path, segment->p_filesz, segment->p_offset))
        return LOADER_UNKNOWN;
    ret_path[segment->p_filesz] = '\0';
    return LOADER_NAMED;
}

enum loader find_loader(int file, char ret_path[PATH_MAX])
{
    Elf64_Ehdr header;

    if (!read_at(file, &header, sizeof(header), 0) ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64)
        return LOADER_UNKNOWN;
    for (unsigned i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr segment;

        if (!read_at(file, &segment, sizeof(segment), header.e_phoff + i * sizeof(segment)))
            return LOADER_UNKNOWN;
        if (segment.p_type == PT_INTERP)
            return read_name(file, &segment, ret_path);
    }
    return LOADER_NONE;
}
