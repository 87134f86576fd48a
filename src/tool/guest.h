/* SPDX-License-Identifier: MIT */
/*
 * guest.h - what "pkeyguard guest" (guest.c) and the guest's first process (guest_init.c) tell each
 * other
 *
 * The guest has four serial lines: the kernel's messages, the program's stdout, its stderr, and one
 * on which the first process writes GUEST_BEGAN before it runs the program, and then one more line,
 * which begins as below. If stdout and stderr are the same file here, both use the line of stdout,
 * so that their order stays.
 */
#ifndef GUEST_H
#define GUEST_H

/* Files of the guest. The first four are lists of strings that each end with a zero byte. */
#define GUEST_PROGRAM     "/.guest/program"   /* its path */
#define GUEST_ARGUMENTS   "/.guest/arguments" /* with the program's name */
#define GUEST_ENVIRONMENT "/.guest/environment"
#define GUEST_FOLDER      "/.guest/folder"   /* the current one */
#define GUEST_TERMINAL    "/.guest/terminal" /* and "1" or "2": that stream is a terminal here */
#define GUEST_ONE_OUTPUT  "/.guest/one"      /* stdout and stderr are the same file here */

#define GUEST_BEGAN   "began\n"
#define GUEST_EXITED  "exited "  /* and the exit status */
#define GUEST_KILLED  "killed "  /* and the signal */
#define GUEST_NOT_RUN "not run " /* and the text of the error of execve(2) */
#define GUEST_FAILED  "failed "  /* and what the guest itself could not do */

#endif
