/* SPDX-License-Identifier: MIT */
/* module.h - the file that a piece of code comes from */
#ifndef MODULE_H
#define MODULE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Finds the program or shared object that has the code at an address. Gets the last size - 1 bytes
 * of its path, and the code's address in that file. Returns false if there is none, or the C
 * library does not tell. Async-signal-safe.
 */
bool module_find(const void *code, char *ret_path, size_t size, size_t *ret_offset);

#endif
