/* SPDX-License-Identifier: MIT */
/*
 * holder.h - the thread or coroutine that the rights of this moment belong to
 *
 * Guards that are acquired with PKEYGUARD_DEBUG note it. It is no id of the kernel's: the child of
 * a fork goes on as the same holder, and pkeyguard_thread_switch() takes a coroutine's holder along
 * to the thread where the coroutine goes on.
 */
#ifndef HOLDER_H
#define HOLDER_H

#include <stdint.h>

/* 0: a holder that has acquired no such guard yet. Written by its own thread. */
extern __thread uint64_t own_holder
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

#endif
