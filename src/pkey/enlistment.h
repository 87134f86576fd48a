/* SPDX-License-Identifier: MIT */
/*
 * enlistment.h - registers threads that never called the library
 *
 * It works only if the program has chosen a signal for it (signal_round.h).
 */
#ifndef ENLISTMENT_H
#define ENLISTMENT_H

#include "base/lock.h"

/*
 * Registers every unregistered thread. The signal's handler closes the pool and the idle pkeys in
 * the thread's signal frame and gives the thread a record. Returns 0 if every thread was registered
 * at one moment. Returns -EAGAIN if a thread could not register, if no signal was chosen, if there
 * is no memory for records, or if thread_records_all_registered() fails.
 */
int enlist_threads(void) NEEDS_LIBRARY_LOCK;

#endif
