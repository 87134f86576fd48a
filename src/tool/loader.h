/* SPDX-License-Identifier: MIT */
/*
 * loader.h - which loader a program asks for (PT_INTERP in elf(5))
 */
#ifndef LOADER_H
#define LOADER_H

#include <limits.h>

enum loader {
    LOADER_UNKNOWN, /* no program of 64 bits, or it cannot be read */
    LOADER_NONE,
    LOADER_NAMED
};

/* *ret_path: set for LOADER_NAMED only. */
enum loader find_loader(int file, char ret_path[PATH_MAX]);

#endif
