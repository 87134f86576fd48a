/* SPDX-License-Identifier: MIT */
/*
 * preload.h - whether a program can be preloaded with the reporter
 */
#ifndef PRELOAD_H
#define PRELOAD_H

/*
 * @program: as for execvp(3)
 *
 * Returns NULL, or the reason why a preloaded reporter does not see the program's faults. NULL also
 * if the program is a script, or cannot be read.
 */
const char *preload_obstacle(const char *program);

#endif
