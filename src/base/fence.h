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

#endif
