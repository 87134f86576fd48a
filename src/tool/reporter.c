/* SPDX-License-Identifier: MIT */
/* Preloaded by "pkeyguard run": installs the fault reporter before the program starts. */
#include <stdio.h>

#include <pkeyguard.h>

__attribute__((constructor)) static void install(void)
{
    int error = pkeyguard_fault_reporter_install(0);

    if (error != 0)
        fprintf(stderr, "pkeyguard run: no reports: %s\n", pkeyguard_strerror(error));
}
