/* SPDX-License-Identifier: MIT */
/* error_text.h - the texts of pkeyguard_strerror(), for modules that print them */
#ifndef ERROR_TEXT_H
#define ERROR_TEXT_H

/* @error: 0 or -errno. Returns a constant string, never NULL. Async-signal-safe. */
const char *error_text(int error);

#endif
