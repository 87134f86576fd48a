/* SPDX-License-Identifier: MIT */
/* virtual_guard.h - how guards open virtual keys that the assembly (kept_calls.c) does not open */
#ifndef VIRTUAL_GUARD_H
#define VIRTUAL_GUARD_H

#include "key/virtual_open.h"

/*
 * Opens a key that this thread has closed by both deny bits. Returns 1: opened; 0: not handled, the
 * rights are unchanged; or -errno as struct enforcement's enter.
 */
int virtual_guard_open(struct pkeyguard_key *key, enum pkeyguard_rights rights);

#endif
