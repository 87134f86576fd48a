/* SPDX-License-Identifier: MIT */
/*
 * output.h - what the subcommands write to stdout: JSON, colour, and names that may hold anything
 */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdbool.h>

/* To be called first: makes names in UTF-8 readable. */
void output_prepare(void);

/* Flushes stdout; false, with errno, when anything written to it was lost. */
bool output_complete(void);

/* Whether stdout is a terminal that shows colour; NO_COLOR in the environment says no. */
bool output_in_colour(void);

/* A file's or symbol's name for people; what would not print, or would steer a terminal, is '?'. */
void print_name(const char *name);

/* One JSON document on stdout. name is the member's; NULL in an array and at the top. */
struct json {
    bool follows; /* a value stands before this one in the same object or array */
};
void json_begin(struct json *json, const char *name, char bracket);
void json_end(struct json *json, char bracket);
void json_string(struct json *json, const char *name, const char *value); /* NULL: null */
void json_bool(struct json *json, const char *name, bool value);
/* A number, in JSON's own form. */
__attribute__((format(printf, 3, 4))) void json_number(struct json *json, const char *name,
                                                       const char *format, ...);

#endif
