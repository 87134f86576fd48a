/* SPDX-License-Identifier: MIT */
#include "demonstration.h"

#include <err.h>
#include <errno.h>
#include <stdio.h>
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

void print_enforcement(const struct pkeyguard_key *key)
{
    printf("enforced by %s\n",
           pkeyguard_key_enforcement(key) == PKEYGUARD_PKU ? "protection keys (PKU)" : "mprotect");
}

/*
 * System calls access memory with the thread's rights: they fail with EFAULT where an instruction
 * would fault. write(2) reads the byte, read(2) writes it.
 */
static bool copy_through_pipe(const void *from, void *to)
{
    int ends[2];
    bool copied;

    if (pipe(ends) != 0)
        die("cannot create a pipe");
    copied = write(ends[1], from, 1) == 1 && read(ends[0], to, 1) == 1;
    if (!copied && errno != EFAULT)
        die("cannot use a pipe");
    close(ends[0]);
    close(ends[1]);
    return copied;
}

bool is_reachable(const void *address)
{
    char byte;

    return copy_through_pipe(address, &byte);
}

bool is_writable(void *address)
{
    return copy_through_pipe(address, address);
}

double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}
