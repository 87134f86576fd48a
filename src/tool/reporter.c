/* SPDX-License-Identifier: MIT */
/* "pkeyguard run" preloads this: it installs the fault reporter before the program starts. */
#include <stdio.h>

#include <pkeyguard.h>

__attribute__((constructor)) static void install_reporter(void)
{
    int error = pkeyguard_fault_reporter_install(0);

    if (error != 0)
        fprintf(stderr, "pkeyguard run: cannot install the fault reporter: %s\n",
                pkeyguard_strerror(error));
}
