/* SPDX-License-Identifier: MIT */
/* fence.h - order between a thread and the signal handlers that interrupt it */
#ifndef FENCE_H
#define FENCE_H

/*
 * The compiler moves no memory access across it. It emits no instruction: another thread may still
 * see the accesses in another order, unless that thread makes this one pass a barrier
 * (membarrier(2)).
 */
static inline void compiler_fence(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

#endif
