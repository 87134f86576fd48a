/* SPDX-License-Identifier: MIT */
#include "output.h"

#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wchar.h>
#include <wctype.h>

void output_prepare(void)
{
    /* Not the user's locale: nearly all file names are UTF-8. */
    setlocale(LC_CTYPE, "C.UTF-8");
}

bool output_complete(void)
{
    return fflush(stdout) == 0 && !ferror(stdout);
}

bool output_in_colour(void)
{
    const char *terminal = getenv("TERM");

    return isatty(STDOUT_FILENO) && getenv("NO_COLOR") == NULL && terminal != NULL &&
           strcmp(terminal, "dumb") != 0;
}

/* Decodes the first character and returns its bytes; WEOF and 1 if it is not valid UTF-8. */
static int decode_character(const char *text, wint_t *ret_character)
{
    mbstate_t state = {0};
    wchar_t wide;
    size_t length = mbrtowc(&wide, text, strlen(text), &state);
    bool whole = length != (size_t)-1 && length != (size_t)-2;

    *ret_character = whole ? (wint_t)wide : WEOF;
    return whole ? (int)length : 1;
}

void print_name(const char *name)
{
    wint_t shown;
    int length;

    for (; *name != '\0'; name += length) {
        length = decode_character(name, &shown);
        if (shown != WEOF && iswprint(shown))
            printf("%.*s", length, name);
        else
            putchar('?');
    }
}

static void print_json_string(const char *text)
{
    wint_t shown;
    int length;

    putchar('"');
    for (; *text != '\0'; text += length) {
        length = decode_character(text, &shown);
        if (shown == WEOF)
            printf("\\ufffd");
        else if (shown < ' ' || shown == '"' || shown == '\\')
            printf("\\u%04x", (unsigned)shown);
        else
            printf("%.*s", length, text);
    }
    putchar('"');
}

static void json_begin_value(struct json *json, const char *name)
{
    if (json->needs_comma)
        putchar(',');
    json->needs_comma = true;
    if (name != NULL) {
        print_json_string(name);
        putchar(':');
    }
}

void json_begin(struct json *json, const char *name, char bracket)
{
    json_begin_value(json, name);
    putchar(bracket);
    json->needs_comma = false;
}

void json_end(struct json *json, char bracket)
{
    putchar(bracket);
    json->needs_comma = true;
}

void json_string(struct json *json, const char *name, const char *value)
{
    json_begin_value(json, name);
    if (value != NULL)
        print_json_string(value);
    else
        printf("null");
}

void json_bool(struct json *json, const char *name, bool value)
{
    json_begin_value(json, name);
    printf("%s", value ? "true" : "false");
}

void json_number(struct json *json, const char *name, const char *format, ...)
{
    va_list number;

    json_begin_value(json, name);
    va_start(number, format);
    vprintf(format, number);
    va_end(number);
}
