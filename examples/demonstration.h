/* SPDX-License-Identifier: MIT */
/* demonstration.h - errors, reachability and time, for the examples that use other libraries */
#ifndef DEMONSTRATION_H
#define DEMONSTRATION_H

#include <stdbool.h>

struct pkeyguard_key;

/* Ends the program with this message. */
__attribute__((noreturn)) void die(const char *message);

/* Ends the program with a message if error, a result of libpkeyguard, is not 0. */
void check(int error, const char *what);

/* Prints how the key is enforced. */
void print_enforcement(const struct pkeyguard_key *key);

/* True if the calling thread could read the byte at this address now. */
bool is_reachable(const void *address);

/* True if it could write that byte. The byte keeps its value, and must be reachable. */
bool is_writable(void *address);

/* The monotonic clock, in nanoseconds. */
double now(void);

#endif
