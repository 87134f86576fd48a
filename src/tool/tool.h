/* SPDX-License-Identifier: MIT */
/*
 * tool.h - the pkeyguard command: its subcommands and what they share
 */
#ifndef TOOL_H
#define TOOL_H

#include <stdbool.h>

/* Exit statuses; wrong usage is EX_USAGE of sysexits.h. */
enum { TOOL_OK = 0, TOOL_LACKING = 1, TOOL_FAILED = 2 };
enum { TOOL_NOT_RUN = 126, TOOL_NOT_FOUND = 127 }; /* as of env(1) */

/* Each takes the arguments that follow its options, NULL at their end; returns an exit status. */
int doctor(char *const arguments[], bool json);
int maps(char *const arguments[], bool json);
int scan(char *const arguments[], bool json);
int run(char *const arguments[], bool json); /* only if it fails: else COMMAND takes over */

/* "pkeyguard SUBCOMMAND: " and this as a line on stderr. */
__attribute__((format(printf, 1, 2))) void complain(const char *format, ...);

#endif
