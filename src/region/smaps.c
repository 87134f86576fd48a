/* SPDX-License-Identifier: MIT */
#include "region/smaps.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static int prot_of(const char *permissions)
{
    return (permissions[0] == 'r' ? PROT_READ : 0) | (permissions[1] == 'w' ? PROT_WRITE : 0) |
           (permissions[2] == 'x' ? PROT_EXEC : 0);
}

/*
 * In smaps each mapping is a line that starts with its addresses, and then lines of the form "Name:
 * value".
 */
static int inspect(FILE *smaps, uintptr_t start, uintptr_t end, int *ret_prot)
{
    uintptr_t seen = start;
    bool here = false, line_begins = true;
    uintptr_t from = 0, to = 0;
    int prot = -1;
    char line[256];

    for (; fgets(line, sizeof(line), smaps) != NULL; line_begins = strchr(line, '\n') != NULL) {
        unsigned long first, after, value;
        char permissions[5];

        if (!line_begins)
            continue;
        if (sscanf(line, "%lx-%lx %4s", &first, &after, permissions) == 3) {
            if (seen >= end || first > seen)
                break;
            here = after > seen;
            if (!here)
                continue;
            from = first > start ? first : start;
            to = after < end ? after : end;
            seen = to;
            if (prot != -1 && prot != prot_of(permissions))
                return -EINVAL;
            prot = prot_of(permissions);
        } else if (here && sscanf(line, "KernelPageSize: %lu kB", &value) == 1) {
            if (from % (value * 1024) != 0 || to % (value * 1024) != 0)
                return -EINVAL;
        } else if (here && sscanf(line, "ProtectionKey: %lu", &value) == 1 && value != 0) {
            return -EBUSY;
        }
    }
    if (seen < end)
        return -ENOMEM;
    *ret_prot = prot;
    return 0;
}

int smaps_inspect(const void *address, size_t length, int *ret_prot)
{
    int error, cancellation;
    FILE *smaps;

    /* Reading a file is a cancellation point. */
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellation);
    smaps = fopen("/proc/self/smaps", "re");
    if (smaps == NULL) {
        error = errno == ENOENT ? -ENOTSUP : errno == EACCES ? -EACCES : -ENOMEM;
    } else {
        error = inspect(smaps, (uintptr_t)address, (uintptr_t)address + length, ret_prot);
        fclose(smaps);
    }
    pthread_setcancelstate(cancellation, NULL);
    return error;
}
