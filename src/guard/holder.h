/* SPDX-License-Identifier: MIT */
/*
 * holder.h - the thread or coroutine that owns the current rights
 *
 * Guards that are acquired with PKEYGUARD_DEBUG note their holder. It is not a thread id. The child
 * of a fork has the same holder as the thread that forked. pkeyguard_thread_switch() moves a
 * coroutine's holder to the thread where the coroutine continues.
 */
#ifndef HOLDER_H
#define HOLDER_H

#include <stdint.h>

/* 0: this holder has acquired no such guard yet. Written only by its own thread. */
extern __thread uint64_t own_holder
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

#endif
