/* SPDX-License-Identifier: MIT */
/*
 * pkru.h - the protection-key rights register
 *
 * PKRU holds two bits for each of the 16 pkeys: for pkey k, bit 2*k is access-disable (AD) and bit
 * 2*k+1 is write-disable (WD) (Intel SDM vol. 3, "Protection Keys"). Each thread has its own PKRU.
 * It applies to data accesses; instruction fetches ignore it. Most programs do not need this
 * header: guards change the register for them.
 */
#ifndef PKEYGUARD_PKRU_H
#define PKEYGUARD_PKRU_H

#include <pkeyguard/types.h>

#ifndef PKEYGUARD_INLINE /* marks functions that are inline, and exported for bindings */
#ifdef PKEYGUARD_DECLARATIONS_ONLY
#define PKEYGUARD_INLINE
#else
#define PKEYGUARD_INLINE static inline
#endif
#endif

#include <pkeyguard/begin.h>

/*
 * pkeyguard_pkru_supported - whether this CPU has PKRU and the kernel has enabled it
 *
 * It reads CPUID.(7,0):ECX.OSPKE. Where that is clear, RDPKRU and WRPKRU raise SIGILL.
 * Thread: any. Signal: async-signal-safe. Since 0.1.
 */
bool pkeyguard_pkru_supported(void);

/*
 * pkeyguard_pkru_read - the calling thread's PKRU
 *
 * Call it only if pkeyguard_pkru_supported().
 * Thread: any. Signal: async-signal-safe; a handler reads its own PKRU, which the kernel sets for
 * it, not the interrupted code's. Since 0.1.
 */
PKEYGUARD_INLINE uint32_t pkeyguard_pkru_read(void);

/*
 * pkeyguard_pkru_write - replace the calling thread's PKRU
 * @pkru: the whole register, with every pkey's bits
 *
 * Call it only if pkeyguard_pkru_supported(). The compiler moves no memory access across it, and
 * the CPU orders it with accesses, too (WRPKRU never executes speculatively).
 *
 * Read the register immediately before, and change only the bits of your own pkeys. A value that
 * was read earlier undoes every change since, of any key.
 * Thread: any. Signal: async-signal-safe; in a handler it lasts until the handler returns.
 * Since 0.1.
 */
PKEYGUARD_INLINE void pkeyguard_pkru_write(uint32_t pkru);

/* ---- For the inline code of guards, and the library; do not call these yourself. ---- */

#ifndef PKEYGUARD_DECLARATIONS_ONLY
/*
 * For the guards: each reads PKRU, changes it and writes it back.
 *  - clear_bits clears the bits and returns those of them that were set. If none was, it does not
 *    write the register. *ret_zero becomes 0, at no cost: RDPKRU leaves a zero.
 *  - set_bits sets the bits.
 *  - set_missing_bits sets the bits and returns those of them that were not set. If all were, it
 *    does not write the register.
 *  - allow_reads opens a pkey for reading if both of its bits are set. *ret_cleared is the bit that
 *    it cleared; 0: it could be read already. If access-disable alone is set, it changes nothing
 *    and returns false, because write-disable must be set as well.
 *
 * Each is one block of assembly without a call. pkeyguard(1) recognises guards in a program by
 * these blocks.
 */
static inline uint32_t pkeyguard_pkru_clear_bits(uint32_t bits, uint64_t *ret_zero);
static inline void pkeyguard_pkru_set_bits(uint32_t bits);
static inline uint32_t pkeyguard_pkru_set_missing_bits(uint32_t bits);
static inline bool pkeyguard_pkru_allow_reads(uint32_t ad, const uint32_t *wd,
                                              uint32_t *ret_cleared);

/*
 * For the library: opens a pkey, or opens it for reading, if both of its bits (ad_wd) are set, and
 * returns true. Else it changes nothing and returns false.
 */
static inline bool pkeyguard_pkru_open(uint32_t ad_wd);
static inline bool pkeyguard_pkru_open_to_read(uint32_t ad_wd, const uint32_t *wd);

/* For the library: add or subtract 1 in a single instruction, which a signal handler cannot
 * interrupt half-way; and the number of the lowest bit that is set. */
static inline void pkeyguard_count_up(uint32_t *count);
static inline void pkeyguard_count_down(uint32_t *count);
static inline uint64_t pkeyguard_lowest_bit(uint32_t bits);

#if defined(__x86_64__)
#include <pkeyguard/arch/x86_64.h>
#else
#include <pkeyguard/arch/none.h>
#endif
#endif

#include <pkeyguard/end.h>
#endif
