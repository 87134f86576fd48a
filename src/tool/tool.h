/* SPDX-License-Identifier: MIT */
/*
 * tool.h - the subcommands of the pkeyguard command, and their exit statuses
 */
#ifndef TOOL_H
#define TOOL_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Exit statuses. TOOL_NEGATIVE: doctor found no protection keys, scan found instructions of unknown
 * origin, or maps --check found something. TOOL_FAILED: there is no answer, or (doctor) protection
 * keys do not protect. Wrong usage is EX_USAGE of sysexits.h.
 */
enum { TOOL_OK = 0, TOOL_NEGATIVE = 1, TOOL_FAILED = 2 };

/* Says on stderr how to get help, after a complaint about wrong usage. Returns the exit status. */
int suggest_help(void);

/*
 * Exit statuses of run and guest when the program did not end by itself, as of env(1), timeout(1)
 * and shells. TOOL_KILLED: and the number of the signal.
 */
enum {
    TOOL_TIMED_OUT = 124,
    TOOL_GUEST_FAILED = 125,
    TOOL_NOT_RUN = 126,
    TOOL_NOT_FOUND = 127,
    TOOL_KILLED = 128
};

/* What the options said. Each subcommand uses those that main.c allows for it. */
struct tool_options {
    bool json, check;
    const char *kernel; /* NULL: not given */
    unsigned seconds;   /* of the timeout; 0: none */
    const char **files;
    size_t file_count;
};

/* Each gets the arguments after its options, ended by NULL, and returns an exit status. */
int doctor(char *const arguments[], const struct tool_options *options);
int maps(char *const arguments[], const struct tool_options *options);
int scan(char *const arguments[], const struct tool_options *options);
/* Returns only on failure; otherwise the program replaces this process. */
int run(char *const arguments[], const struct tool_options *options);
int guest(char *const arguments[], const struct tool_options *options);

#endif
