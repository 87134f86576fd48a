/* SPDX-License-Identifier: MIT */
/* arch/x86_64.h - PKRU on x86-64; private to pkru.h, which describes what stands here. */

PKEYGUARD_INLINE uint32_t pkeyguard_pkru_read(void)
{
    uint32_t pkru, zero;

    /* RDPKRU wants ECX = 0 and clears EDX. */
    __asm__ volatile("rdpkru" : "=a"(pkru), "=d"(zero) : "c"(0));
    return pkru;
}

PKEYGUARD_INLINE void pkeyguard_pkru_write(uint32_t pkru)
{
    /* WRPKRU wants ECX = EDX = 0. Without the clobber compilers move guarded accesses across it. */
    __asm__ volatile("wrpkru" : : "a"(pkru), "c"(0), "d"(0) : "memory");
}

/* One block each: RDPKRU's zero in EDX serves WRPKRU. {AT&T|Intel} syntax, for -masm=intel. */
static inline uint32_t pkeyguard_pkru_clear_bits(uint32_t bits)
{
    uint32_t cleared = bits;

    __asm__ volatile("rdpkru\n\t"
                     "{andl %%eax, %0|and %0, eax}\n\t"
                     "jz 1f\n\t"
                     "{xorl %0, %%eax|xor eax, %0}\n\t"
                     "wrpkru\n"
                     "1:"
                     : "+&r"(cleared)
                     : "c"(0)
                     : "eax", "edx", "cc", "memory");
    return cleared;
}

static inline void pkeyguard_pkru_set_bits(uint32_t bits)
{
    __asm__ volatile("rdpkru\n\t"
                     "{orl %0, %%eax|or eax, %0}\n\t"
                     "wrpkru"
                     :
                     : "r"(bits), "c"(0)
                     : "eax", "edx", "cc", "memory");
}
