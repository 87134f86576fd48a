/* SPDX-License-Identifier: MIT */
/*
 * arch/none.h - a CPU without PKRU; private to pkru.h, which describes these functions
 *
 * No key has bits in PKRU here, so the library never accesses the register. Only the two counting
 * functions are called.
 */

PKEYGUARD_INLINE uint32_t pkeyguard_pkru_read(void)
{
    __builtin_trap();
}

PKEYGUARD_INLINE void pkeyguard_pkru_write(uint32_t pkru)
{
    (void)pkru;
    __builtin_trap();
}

static inline uint32_t pkeyguard_pkru_clear_bits(uint32_t bits, uint64_t *ret_zero)
{
    (void)bits, (void)ret_zero;
    __builtin_trap();
}

static inline void pkeyguard_pkru_set_bits(uint32_t bits)
{
    (void)bits;
    __builtin_trap();
}

static inline uint32_t pkeyguard_pkru_set_missing_bits(uint32_t bits)
{
    (void)bits;
    __builtin_trap();
}

static inline bool pkeyguard_pkru_allow_reads(uint32_t ad, const uint32_t *wd,
                                              uint32_t *ret_cleared)
{
    (void)ad, (void)wd, (void)ret_cleared;
    __builtin_trap();
}

static inline bool pkeyguard_pkru_open(uint32_t ad_wd)
{
    (void)ad_wd;
    return false;
}

static inline bool pkeyguard_pkru_open_to_read(uint32_t ad_wd, const uint32_t *wd)
{
    (void)ad_wd, (void)wd;
    return false;
}

static inline void pkeyguard_count_up(uint32_t *count)
{
    ++*count;
}

static inline void pkeyguard_count_down(uint32_t *count)
{
    --*count;
}

static inline uint64_t pkeyguard_lowest_bit(uint32_t bits)
{
    return (uint64_t)__builtin_ctz(bits);
}
