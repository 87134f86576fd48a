/* SPDX-License-Identifier: MIT */
/* children.h - child processes, made in every way that a program has */
#ifndef CHILDREN_H
#define CHILDREN_H

/*
 * fork(3) runs fork handlers. _Fork(3) and clone(2) run none; without SIGCHLD in its flags clone(2)
 * makes a child that waitpid(2) finds with __WALL only. A child of vfork(2) shares this process's
 * memory, and this thread waits until it exits.
 *
 * In a child no check of libcheck's may run if this process has other threads: libcheck has a lock.
 */
enum way { BY_FORK, BY_FORK_ONLY, BY_CLONE, BY_CLONE_WITH_SIGNAL, BY_VFORK, WAYS };

/* The ways that copy the process and run no fork handlers. */
enum { FIRST_BARE_WAY = BY_FORK_ONLY, LAST_BARE_WAY = BY_CLONE_WITH_SIGNAL };

/* Makes a child in this way. Returns its process id; 0 in the child. Not BY_VFORK. */
int make_child(enum way way);

/* Waits for a child that was made in any way. Returns its exit status, or 128 + a signal. */
int end_of_child(int child);

/* Runs work(argument) in a child, which exits with the result; returns that as end_of_child(). */
int run_as_child(enum way way, int (*work)(void *argument), void *argument);

#endif
