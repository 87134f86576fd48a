/* SPDX-License-Identifier: MIT */
/* observe.h - asks the CPU what the calling thread may access, and compares that with the model */
#ifndef OBSERVE_H
#define OBSERVE_H

#include "model.h"

/* What a thread found. */
struct observation {
    const struct model *model;
    enum pkeyguard_rights rights[KEYS];
    struct access_rights access[REGIONS];
};

/*
 * Fills the observation (its argument) with what the calling thread may access. A system call that
 * is handed memory accesses it with the thread's own rights, and fails with EFAULT instead of a
 * signal.
 */
void observe(void *observation);

/*
 * Compares; a difference ends the process. If a thread has lost an inherited virtual key, the model
 * learns that. Returns how many accesses were compared.
 */
unsigned compare(struct model *model, int thread, const struct observation *observation);

#endif
