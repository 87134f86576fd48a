/* SPDX-License-Identifier: MIT */
/*
 * lock.h - the library's one lock
 *
 * It orders everything but the inline guards: keys and their pages, the idle pkeys, the account of
 * software guards. One is enough, for what takes long under it is mprotect(2), which the kernel
 * makes wait for the process's one mmap_lock anyway.
 */
#ifndef LOCK_H
#define LOCK_H

/* 0; -EDEADLK in a signal or fork handler that interrupted the library, or fork, in this thread. */
int library_lock(void);
void library_unlock(void);

/* How many forks lie between the first process and this one. */
unsigned library_forks(void);

/* What a fork child must do, under the lock, for it has neither its parent's other threads nor all
 * of its memory. Under the lock; the same one again changes nothing. */
void library_add_fork_child(void (*tidy)(void));

#endif
