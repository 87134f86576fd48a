/* SPDX-License-Identifier: MIT */
#include "demonstration.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <pkeyguard.h>

void die(const char *message)
{
    errx(EXIT_FAILURE, "%s", message);
}

void check(int error, const char *what)
{
    if (error != 0)
        errx(EXIT_FAILURE, "%s: %s", what, pkeyguard_strerror(error));
}

/* write(2) reads the byte with the thread's rights: it fails with EFAULT if a load would fault. */
bool is_reachable(const void *address)
{
    int pipe_ends[2];
    bool reachable;

    if (pipe(pipe_ends) != 0)
        die("cannot create a pipe");
    reachable = write(pipe_ends[1], address, 1) == 1;
    if (!reachable && errno != EFAULT)
        die("cannot write to the pipe");
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
