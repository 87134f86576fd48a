/* SPDX-License-Identifier: MIT */
/*
 * process.h - notices that this is another process than before
 *
 * A fork child has a copy of the library's state, with the locks and the threads of its parent. Not
 * every fork runs handlers: _Fork(3) and clone(2) do not. So a word in memory that the kernel wipes
 * on fork (MADV_WIPEONFORK) tells. clone(2) with CLONE_VM, as in vfork(2), makes no such copy: the
 * child is another thread to this library.
 */
#ifndef PROCESS_H
#define PROCESS_H

#include <stdbool.h>

/* The number of this process: 1 for the first, one more in each fork child. Async-signal-safe. */
unsigned process_number(void);

/* True in a fork child, until process_adopted(). Async-signal-safe. */
bool process_is_unnoticed(void);

/*
 * True for the first caller in a fork child; other threads wait until it has called
 * process_adopted(). What it does in between it does alone. With all signals blocked.
 */
bool process_is_new(void);
void process_adopted(void);

#endif
