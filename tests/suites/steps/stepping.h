/* SPDX-License-Identifier: MIT */
/*
 * stepping.h - stops before every instruction of a function, library and system calls included
 *
 * The CPU's trap flag raises SIGTRAP after each instruction. SIGTRAP is not blocked while a thread
 * has the library's lock: it stops there, too.
 */
#ifndef STEPPING_H
#define STEPPING_H

#include <stdbool.h>

#ifdef __x86_64__
#define HAS_STEPS 1
#else
#define HAS_STEPS 0
#endif
#define NO_STEPS "not here: this processor has no trap flag"

/* Steps through work(argument), and calls stop() before each instruction, in the SIGTRAP handler.
 */
void step_through(void (*work)(void *argument), void *argument, void (*stop)(void));

/*
 * For stop(): the number of the instruction, from 1 on; whether it is one that no stop since
 * forget_instructions() has had; and the end of stepping, as for a child process or before a jump.
 */
unsigned steps_taken(void);
bool is_new_instruction(void);
void forget_instructions(void);
void stop_stepping(void);

#endif
