/* SPDX-License-Identifier: MIT */
#include "fault/module.h"

#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <string.h>
#include <sys/auxv.h>

/* dladdr(3) and dl_iterate_phdr(3) take a lock of the loader's. Since glibc 2.35 there is another
 * function, which a handler may call. */
#ifdef DLFO_STRUCT_HAS_EH_DBASE

static const char *path_of(const struct link_map *map)
{
    const char *path = map->l_name;

    /* The program itself has no name there. */
    if (path[0] == '\0')
        path = (const char *)getauxval(AT_EXECFN);
    return path;
}

/* Other memory may lie between the segments of a file: those of aarch64 are 64 KiB apart. */
static bool is_in_segment(const struct dl_find_object *found, const void *code)
{
    const ElfW(Ehdr) *header = found->dlfo_map_start;
    const ElfW(Phdr) *segments =
        (const void *)((const char *)found->dlfo_map_start + header->e_phoff);
    uintptr_t address = (uintptr_t)code - found->dlfo_link_map->l_addr;

    for (int i = 0; i < header->e_phnum; i++) {
        if (segments[i].p_type == PT_LOAD && address - segments[i].p_vaddr < segments[i].p_memsz)
            return true;
    }
    return false;
}

bool module_find(const void *code, char *ret_path, size_t size, size_t *ret_offset)
{
    struct dl_find_object found;
    const char *path;
    size_t length, skipped;

    if (_dl_find_object((void *)(uintptr_t)code, &found) != 0 || !is_in_segment(&found, code))
        return false;
    path = path_of(found.dlfo_link_map);
    if (path == NULL)
        return false;
    length = strlen(path);
    skipped = length < size ? 0 : length - (size - 1);
    memcpy(ret_path, path + skipped, length - skipped + 1);
    *ret_offset = (size_t)code - found.dlfo_link_map->l_addr;
    return true;
}

#else

bool module_find(const void *code, char *ret_path, size_t size, size_t *ret_offset)
{
    (void)code, (void)ret_path, (void)size, (void)ret_offset;
    return false;
}

#endif
