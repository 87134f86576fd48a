/* SPDX-License-Identifier: MIT */
/*
 * tool.h - the subcommands of the pkeyguard command, and their exit statuses
 */
#ifndef TOOL_H
#define TOOL_H

#include <stdbool.h>

/*
 * Exit statuses. TOOL_NEGATIVE: doctor found no protection keys, scan found instructions of unknown
 * origin, or maps_check found something. TOOL_FAILED: there is no answer, or (doctor) protection
 * keys do not protect. Wrong usage is EX_USAGE of sysexits.h.
 */
enum { TOOL_OK = 0, TOOL_NEGATIVE = 1, TOOL_FAILED = 2 };

/* Says on stderr how to get help, after a complaint about wrong usage. Returns the exit status. */
int suggest_help(void);

/* Exit statuses of run when it cannot execute the program, as of env(1). */
enum { TOOL_NOT_RUN = 126, TOOL_NOT_FOUND = 127 };

/* Each gets the arguments after its options, ended by NULL, and returns an exit status. */
int doctor(char *const arguments[], bool json);
int maps(char *const arguments[], bool json);
int maps_check(char *const arguments[], bool json); /* only what differs inside a region */
int scan(char *const arguments[], bool json);
/* Returns only on failure; otherwise the program replaces this process. Ignores json. */
int run(char *const arguments[], bool json);

#endif
