/* SPDX-License-Identifier: MIT */
#include "demonstration.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <pkeyguard.h>

void die(const char *what)
{
    errx(EXIT_FAILURE, "%s", what);
}

void check(int error, const char *what)
{
    if (error != 0)
        errx(EXIT_FAILURE, "%s: %s", what, pkeyguard_strerror(error));
}

/* The kernel reads on the program's behalf, under the same key: EFAULT where a load would fault. */
bool is_reachable(const void *address)
{
    int pipe_ends[2];
    bool reachable;

    if (pipe(pipe_ends) != 0)
        die("no pipe");
    reachable = write(pipe_ends[1], address, 1) == 1;
    if (!reachable && errno != EFAULT)
        die("cannot write to a pipe");
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    return reachable;
}

double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}
