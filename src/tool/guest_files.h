/* SPDX-License-Identifier: MIT */
/*
 * guest_files.h - what a guest needs of this machine's files
 */
#ifndef GUEST_FILES_H
#define GUEST_FILES_H

#include <stdbool.h>

#include "guest_archive.h"

/*
 * Adds a file, and what it needs to run, at the same paths: the shared libraries of a program or
 * library and its loader, the interpreter of a script. A folder is added with all that is in it;
 * the programs there bring their libraries, too. @path: absolute. Returns false after a complaint.
 */
bool guest_files_add(struct archive *archive, const char *path);

/* Adds what programs load without saying so: the loader's cache, the library that
 * pthread_cancel(3) unwinds with, and what "pkeyguard run" preloads. */
bool guest_files_add_common(struct archive *archive);

#endif
