/* SPDX-License-Identifier: MIT */
/* arch/none.h - a CPU without PKRU: these are never reached, for no key has bits in it. */

PKEYGUARD_INLINE uint32_t pkeyguard_pkru_read(void)
{
    __builtin_trap();
}

PKEYGUARD_INLINE void pkeyguard_pkru_write(uint32_t pkru)
{
    (void)pkru;
    __builtin_trap();
}

static inline uint32_t pkeyguard_pkru_clear_bits(uint32_t bits)
{
    (void)bits;
    __builtin_trap();
}

static inline void pkeyguard_pkru_set_bits(uint32_t bits)
{
    (void)bits;
    __builtin_trap();
}
