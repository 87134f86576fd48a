/* SPDX-License-Identifier: MIT */
/*
 * keep_loaded.h - for code that leaves a signal handler behind
 *
 * The shared library is linked so that it is never unmapped (-z nodelete). The static one may be
 * part of a plugin, which dlclose(3) unmaps.
 */
#ifndef KEEP_LOADED_H
#define KEEP_LOADED_H

/*
 * Keeps the object that holds this library's code loaded until the process ends. Returns 0;
 * -ENOTSUP: that is not possible. Call it without the library's lock: the loader has a lock of its
 * own, and allocates memory.
 */
int keep_loaded(void);

#endif
