/* SPDX-License-Identifier: MIT */
/* fence.h - orders a thread's memory accesses for the signal handlers that interrupt it */
#ifndef FENCE_H
#define FENCE_H

/*
 * The compiler moves no memory access across this call. The call emits no instruction, so another
 * thread may still see the accesses in another order, unless it makes this thread pass a barrier
 * (membarrier(2)).
 */
static inline void compiler_fence(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* Loads that precede the call are done before those that follow it, as other threads see them. */
static inline void load_fence(void)
{
#ifdef __x86_64__
    compiler_fence(); /* the CPU keeps the order of loads (SDM vol. 3, 9.2.2) */
#else
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
#endif
}

#endif
