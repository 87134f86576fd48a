/* SPDX-License-Identifier: MIT */
/*
 * keep_loaded.h - keeps code loaded that is a signal handler
 *
 * The shared library is linked with -z nodelete, so it is never unmapped. The static library may be
 * part of a plugin, which dlclose(3) unmaps.
 */
#ifndef KEEP_LOADED_H
#define KEEP_LOADED_H

/*
 * Keeps the object that contains this library loaded until the process ends. Returns 0, or -ENOTSUP
 * if that is not possible. Call it without the library's lock, because the loader has a lock of its
 * own and allocates memory.
 */
int keep_loaded(void);

#endif
