/* SPDX-License-Identifier: MIT */
#include "find.h"

#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool find_program(const char *name, char ret_path[PATH_MAX])
{
    const char *folder = getenv("PATH");

    if (strchr(name, '/') != NULL || folder == NULL)
        return snprintf(ret_path, PATH_MAX, "%s", name) < PATH_MAX;
    for (;;) {
        int length = (int)strcspn(folder, ":");

        snprintf(ret_path, PATH_MAX, "%.*s%s%s", length, folder, length > 0 ? "/" : "", name);
        if (access(ret_path, X_OK) == 0)
            return true;
        if (folder[length] == '\0')
            return false;
        folder += length + 1;
    }
}

bool absolute_path(const char *path, char ret_path[PATH_MAX])
{
    size_t length = 0;

    if (path[0] != '/') {
        if (getcwd(ret_path, PATH_MAX) == NULL)
            return false;
        length = strlen(ret_path);
    }
    while (*(path += strspn(path, "/")) != '\0') {
        size_t part = strcspn(path, "/");

        if (part == 2 && strncmp(path, "..", 2) == 0) {
            while (length > 0 && ret_path[--length] != '/')
                ;
        } else if (part != 1 || *path != '.') {
            if (length + 1 + part >= PATH_MAX)
                return false;
            ret_path[length] = '/';
            memcpy(ret_path + length + 1, path, part);
            length += 1 + part;
        }
        path += part;
    }
    if (length == 0)
        ret_path[length++] = '/';
    ret_path[length] = '\0';
    return true;
}

bool find_companion(const char *name, char ret_path[PATH_MAX])
{
    void *library = dlopen(PKEYGUARD_SONAME, RTLD_LAZY | RTLD_NOLOAD);
    struct link_map *map;
    char *end;

    if (library == NULL || dlinfo(library, RTLD_DI_LINKMAP, &map) != 0 ||
        realpath(map->l_name, ret_path) == NULL)
        return false;
    end = strrchr(ret_path, '/') + 1;
    if ((size_t)(end - ret_path) + strlen(name) >= PATH_MAX)
        return false;
    memcpy(end, name, strlen(name) + 1);
    return access(ret_path, R_OK) == 0;
}
