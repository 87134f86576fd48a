/* SPDX-License-Identifier: MIT */
/* run: executes a program with the fault reporter preloaded */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "complain.h"
#include "find.h"
#include "preload.h"
#include "tool.h"

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

int run(char *const arguments[], const struct tool_options *options)
{
    const char *obstacle = preload_obstacle(arguments[0]);
    char reporter[PATH_MAX];

    (void)options;
    if (!find_companion(PKEYGUARD_REPORTER, reporter)) {
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
