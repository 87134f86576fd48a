/* SPDX-License-Identifier: MIT */
/*
 * enlistment.h - makes threads that never called the library take part in virtual keys
 *
 * It works only if the program has chosen a signal for it (signal_round.h).
 */
#ifndef ENLISTMENT_H
#define ENLISTMENT_H

#include "base/lock.h"

/*
 * Registers every thread that is not registered: the signal's handler closes the pool and the idle
 * pkeys in the thread's signal frame and gives it a record. Returns 0: at one moment every thread
 * was registered; -EAGAIN: not so, as thread_records_all_registered(), or no signal was chosen, or
 * there is no memory for records.
 */
int enlist_threads(void) NEEDS_LIBRARY_LOCK;

#endif
