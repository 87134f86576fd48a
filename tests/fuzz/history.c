/* SPDX-License-Identifier: MIT */
#include "history.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { STEPS_KEPT = 40, STEP_LENGTH = 300, TEXT_SIZE = 500 };

static struct history {
    unsigned long seed, step;
    char steps[STEPS_KEPT][STEP_LENGTH];
} history;

static char *text_of(unsigned long step)
{
    return history.steps[step % STEPS_KEPT];
}

/* Uses write(2), because it also runs in signal handlers. */
static void print(const char *text)
{
    (void)!write(STDOUT_FILENO, text, strlen(text));
}

static void print_all(const char *difference)
{
    unsigned long first = history.step < STEPS_KEPT ? 1 : history.step - STEPS_KEPT + 1;
    char line[STEP_LENGTH + 40];

    for (unsigned long step = first; step <= history.step; step++) {
        snprintf(line, sizeof(line), "  step %lu: %s\n", step, text_of(step));
        print(line);
    }
    snprintf(line, sizeof(line), "seed %lu, step %lu: ", history.seed, history.step);
    print(line);
    print(difference);
    print("\n");
}

static void on_crash(int signal)
{
    print_all(signal == SIGABRT ? "the library aborted" : "an access that must succeed faulted");
    _exit(1);
}

void history_begin(unsigned long seed)
{
    history.seed = seed;
    signal(SIGSEGV, on_crash);
    signal(SIGABRT, on_crash);
}

void history_next_step(void)
{
    history.step++;
    text_of(history.step)[0] = '\0';
}

void history_step(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text_of(history.step), STEP_LENGTH, format, arguments);
    va_end(arguments);
}

void history_add(const char *format, ...)
{
    char *text = text_of(history.step);
    size_t length = strlen(text);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text + length, STEP_LENGTH - length, format, arguments);
    va_end(arguments);
}

void history_differ(const char *format, ...)
{
    char text[TEXT_SIZE];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    print_all(text);
    _exit(1);
}
