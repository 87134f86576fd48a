/* SPDX-License-Identifier: MIT */
/* demonstration.h - what the examples with other people's software show and measure by */
#ifndef DEMONSTRATION_H
#define DEMONSTRATION_H

#include <stdbool.h>

/* Ends the program with a message, always or on an error of this library's. */
__attribute__((noreturn)) void die(const char *what);
void check(int error, const char *what);

/* Whether a load from there would succeed now. */
bool is_reachable(const void *address);

/* In nanoseconds. */
double now(void);

#endif
