/* SPDX-License-Identifier: MIT */
/*
 * complain.h - error messages on stderr
 */
#ifndef COMPLAIN_H
#define COMPLAIN_H

/* Sets the name that messages begin with, "pkeyguard" at first. It must stay valid. */
void complain_as(const char *name);

/* Flushes stdout, then writes "NAME: " and the formatted message to stderr, as one line. */
__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);

#endif
