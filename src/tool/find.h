/* SPDX-License-Identifier: MIT */
/*
 * find.h - finds programs, and the files that are installed with this command
 */
#ifndef FIND_H
#define FIND_H

#include <limits.h>
#include <stdbool.h>

/*
 * Finds the program that execvp(3) would execute. Returns false if there is none. A name with a
 * slash is its own path, whether such a file exists or not.
 */
bool find_program(const char *name, char ret_path[PATH_MAX]);

/* Makes a path absolute, without "." and ".."; links stay. Returns false if it is too long. */
bool absolute_path(const char *path, char ret_path[PATH_MAX]);

/*
 * Finds a file that is installed beside the shared library that this command uses. @name: relative
 * to the library's directory. Returns false if it is not there.
 */
bool find_companion(const char *name, char ret_path[PATH_MAX]);

#endif
