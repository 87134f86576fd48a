/* SPDX-License-Identifier: MIT */
/* run: executes a program with the fault reporter preloaded */
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "complain.h"
#include "preload.h"
#include "tool.h"

/* The reporter is installed in a directory beside the shared library that this command uses. */
static bool find_reporter(char path[PATH_MAX])
{
    void *library = dlopen(PKEYGUARD_SONAME, RTLD_LAZY | RTLD_NOLOAD);
    struct link_map *map;
    char *end;

    if (library == NULL || dlinfo(library, RTLD_DI_LINKMAP, &map) != 0 ||
        realpath(map->l_name, path) == NULL)
        return false;
    end = strrchr(path, '/') + 1;
    if ((size_t)(end - path) + sizeof(PKEYGUARD_REPORTER) > PATH_MAX)
        return false;
    memcpy(end, PKEYGUARD_REPORTER, sizeof(PKEYGUARD_REPORTER));
    return access(path, R_OK) == 0;
}

/* Puts path in front of what LD_PRELOAD names already. Returns false, with errno, on failure. */
static bool add_to_ld_preload(const char *path)
{
    const char *others = getenv("LD_PRELOAD");
    char *all;
    bool done;

    if (others == NULL)
        return setenv("LD_PRELOAD", path, 1) == 0;
    if (asprintf(&all, "%s:%s", path, others) < 0)
        return false;
    done = setenv("LD_PRELOAD", all, 1) == 0;
    free(all);
    return done;
}

int run(char *const arguments[], bool json)
{
    const char *obstacle = preload_obstacle(arguments[0]);
    char reporter[PATH_MAX];

    (void)json;
    if (!find_reporter(reporter)) {
        complain("cannot find " PKEYGUARD_REPORTER " beside " PKEYGUARD_SONAME);
        return TOOL_NOT_RUN;
    }
    /* ld.so(8) splits LD_PRELOAD at these characters. */
    if (strpbrk(reporter, ": ") != NULL) {
        complain("%s: cannot be preloaded: its path has a colon or a space", reporter);
        return TOOL_NOT_RUN;
    }
    if (!add_to_ld_preload(reporter)) {
        complain("cannot set LD_PRELOAD: %s", strerror(errno));
        return TOOL_NOT_RUN;
    }
    if (obstacle != NULL)
        complain("%s: cannot explain its faults: %s", arguments[0], obstacle);
    execvp(arguments[0], arguments);
    complain("%s: %s", arguments[0], strerror(errno));
    return errno == ENOENT ? TOOL_NOT_FOUND : TOOL_NOT_RUN;
}
