/* SPDX-License-Identifier: MIT */
/* history.h - the last steps of a run, which are printed when it fails */
#ifndef HISTORY_H
#define HISTORY_H

/* Begins the history of a run. Also has a crash or an abort print it. */
void history_begin(unsigned long seed);

/* Begins the next step. Steps have numbers from 1 on. */
void history_next_step(void);

/* Sets the text of the present step, or adds to it. */
__attribute__((format(printf, 1, 2))) void history_step(const char *format, ...);
__attribute__((format(printf, 1, 2))) void history_add(const char *format, ...);

/* Prints seed, step, the last steps, and the difference, and ends the process with status 1. */
__attribute__((format(printf, 1, 2), noreturn)) void history_differ(const char *format, ...);

#endif
