/* SPDX-License-Identifier: MIT */
/*
 * output.h - writes to stdout: JSON, colour, and names that may hold any bytes
 */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdbool.h>

/* Call this before any other function here: it makes names be read as UTF-8. */
void output_prepare(void);

/*
 * Flushes stdout. Returns false if this or an earlier write to stdout failed; errno is that of the
 * failed write unless another call has changed it since.
 */
bool output_complete(void);

/* True if stdout is a terminal that shows colour and NO_COLOR is not in the environment. */
bool output_in_colour(void);

/*
 * Prints the name of a file or symbol. Each character that is not printable becomes '?': such a
 * name could otherwise send commands to the terminal.
 */
void print_name(const char *name);

/* Writes one JSON document to stdout. @name: the member's; NULL in an array and at the top. */
struct json {
    bool needs_comma; /* the current object or array has a value already */
};
void json_begin(struct json *json, const char *name, char bracket);
void json_end(struct json *json, char bracket);
void json_string(struct json *json, const char *name, const char *value); /* NULL: null */
void json_bool(struct json *json, const char *name, bool value);
/* The formatted text must be a JSON number. */
__attribute__((format(printf, 3, 4))) void json_number(struct json *json, const char *name,
                                                       const char *format, ...);

#endif
