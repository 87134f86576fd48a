/* SPDX-License-Identifier: MIT */
/* virtual_guard.h - the fast path of guards on virtual keys; guard.c does everything else on them
 */
#ifndef VIRTUAL_GUARD_H
#define VIRTUAL_GUARD_H

#include "key/key.h"

/*
 * Opens a key that this thread has closed by both deny bits. Returns 1: opened; 0: not handled, the
 * rights are unchanged; or -errno as struct enforcement's enter.
 */
int virtual_guard_open(struct pkeyguard_key *key, enum pkeyguard_rights rights);

/* Closes what it opened. */
void virtual_guard_close(struct pkeyguard_key *key);

#endif
