/* SPDX-License-Identifier: MIT */
/*
 * pkru.h - the protection-key rights register
 *
 * PKRU holds two bits for each of the 16 pkeys: bit 2*k is access-disable (AD), bit 2*k+1 is
 * write-disable (WD) (Intel SDM vol. 3, "Protection Keys"). It belongs to one thread, and it
 * decides about data accesses only: instruction fetches never look at it. Most programs need none
 * of this header; guards change the register for them.
 */
#ifndef PKEYGUARD_PKRU_H
#define PKEYGUARD_PKRU_H

#include <stdbool.h>
#include <stdint.h>

/* Inline in every user's code; the library itself holds one real symbol of each, for bindings. */
#ifndef PKEYGUARD_INLINE
#define PKEYGUARD_INLINE static inline
#endif

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/*
 * pkeyguard_pkru_supported - whether this CPU has PKRU and the kernel has enabled it
 *
 * Reads CPUID.(7,0):ECX.OSPKE. Without it RDPKRU and WRPKRU raise SIGILL.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
bool pkeyguard_pkru_supported(void);

/*
 * pkeyguard_pkru_read - the calling thread's PKRU
 *
 * Only where pkeyguard_pkru_supported().
 * Thread: any. Signal: async-signal-safe; a handler sees the value the kernel starts handlers with,
 * not the interrupted code's. Since 0.1.
 */
PKEYGUARD_INLINE uint32_t pkeyguard_pkru_read(void);

/*
 * pkeyguard_pkru_write - replace the calling thread's PKRU
 * @pkru: the whole register, every pkey's bits
 *
 * Only where pkeyguard_pkru_supported(). No memory access is moved across it by the compiler, and
 * the CPU orders it too (WRPKRU never executes speculatively). Writing a value that was read
 * earlier undoes what happened to any key since: change only your own bits of a value read now.
 * Thread: any. Signal: async-signal-safe; in a handler it lasts until the handler returns. Since
 * 0.1.
 */
PKEYGUARD_INLINE void pkeyguard_pkru_write(uint32_t pkru);

/*
 * For the guards: read, change and write at once. clear_bits returns those of the bits that were
 * set, and writes nothing when none was. allow_reads takes a pkey, given by its bits, from closed
 * by both of them to open for reading; false from any other state, which stays: then those of its
 * bits are set in ret_allowed that the register has not. Each is one block of code without a call
 * in it, by which pkeyguard(1) knows a guard in any program.
 */
static inline uint32_t pkeyguard_pkru_clear_bits(uint32_t bits);
static inline void pkeyguard_pkru_set_bits(uint32_t bits);
static inline bool pkeyguard_pkru_allow_reads(uint32_t ad_wd, uint32_t ad, uint32_t *ret_allowed);

/*
 * For the library: a pkey, given by its two bits, goes from closed by both of them to open, or to
 * open for reading. False from any other state, which stays.
 */
static inline bool pkeyguard_pkru_open(uint32_t ad_wd);
static inline bool pkeyguard_pkru_open_to_read(uint32_t ad_wd, const uint32_t *wd);

/* Also for it: a count changes in one instruction; the number of the lowest bit that is set. */
static inline void pkeyguard_count_up(uint32_t *count);
static inline void pkeyguard_count_down(uint32_t *count);
static inline uint64_t pkeyguard_lowest_bit(uint32_t bits);

#if defined(__x86_64__)
#include <pkeyguard/arch/x86_64.h>
#else
#include <pkeyguard/arch/none.h>
#endif

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
