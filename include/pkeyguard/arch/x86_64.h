/* SPDX-License-Identifier: MIT */
/* arch/x86_64.h - PKRU on x86-64; private to pkru.h, which describes these functions */

PKEYGUARD_INLINE uint32_t pkeyguard_pkru_read(void)
{
    uint32_t pkru, zero;

    /* RDPKRU needs ECX = 0 and sets EDX to 0 (SDM vol. 2). */
    __asm__ volatile("rdpkru" : "=a"(pkru), "=d"(zero) : "c"(0));
    return pkru;
}

PKEYGUARD_INLINE void pkeyguard_pkru_write(uint32_t pkru)
{
    /*
     * WRPKRU needs ECX = EDX = 0 (SDM vol. 2). Without the memory clobber compilers move guarded
     * accesses across it. The bytes are a NOP with "pkru" in its displacement, a mark by which
     * pkeyguard(1) recognises this function's WRPKRU.
     */
    __asm__ volatile("wrpkru\n\t"
                     ".byte 0x0f, 0x1f, 0x80, 0x70, 0x6b, 0x72, 0x75"
                     :
                     : "a"(pkru), "c"(0), "d"(0)
                     : "memory");
}

/*
 * Each function is one block of assembly, so that WRPKRU can use the zero that RDPKRU leaves in
 * EDX. {AT&T|Intel} gives both syntaxes, for users who compile with -masm=intel.
 */
static inline uint32_t pkeyguard_pkru_clear_bits(uint32_t bits, uint64_t *ret_zero)
{
    uint32_t cleared = bits;

    __asm__ volatile("rdpkru\n\t"
                     "{andl %%eax, %0|and %0, eax}\n\t"
                     "jz 1f\n\t"
                     "{xorl %0, %%eax|xor eax, %0}\n\t"
                     "wrpkru\n"
                     "1:"
                     : "+&r"(cleared), "=&d"(*ret_zero)
                     : "c"(0)
                     : "eax", "cc", "memory");
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

static inline uint32_t pkeyguard_pkru_set_missing_bits(uint32_t bits)
{
    uint32_t missing = bits;

    __asm__ volatile("rdpkru\n\t"
                     "{orl %%eax, %0|or %0, eax}\n\t"
                     "{xorl %%eax, %0|xor %0, eax}\n\t"
                     "jz 1f\n\t"
                     "{orl %0, %%eax|or eax, %0}\n\t"
                     "wrpkru\n"
                     "1:"
                     : "+&r"(missing)
                     : "c"(0)
                     : "eax", "edx", "cc", "memory");
    return missing;
}

static inline bool pkeyguard_pkru_allow_reads(uint32_t ad, const uint32_t *wd,
                                              uint32_t *ret_cleared)
{
    __asm__ goto("rdpkru\n\t"
                 "{testl %%eax, %0|test %0, eax}\n\t"
                 "jz %l[readable]\n\t"
                 "{testl %%eax, %1|test %1, eax}\n\t"
                 "jz %l[alone]\n\t"
                 "{xorl %0, %%eax|xor eax, %0}\n\t"
                 "wrpkru"
                 :
                 : "r"(ad), "m"(*wd), "c"(0)
                 : "eax", "edx", "cc", "memory"
                 : readable, alone);
    /* So that compilers know, at the guard's end, that there is a bit to set again. */
    if (ad == 0)
        __builtin_unreachable();
    *ret_cleared = ad;
    return true;
readable:
    *ret_cleared = 0;
    return true;
alone:
    return false;
}

static inline bool pkeyguard_pkru_open(uint32_t ad_wd)
{
    __asm__ goto("rdpkru\n\t"
                 "{xorl %0, %%eax|xor eax, %0}\n\t"
                 "{testl %0, %%eax|test eax, %0}\n\t"
                 "jne %l[not_closed]\n\t"
                 "wrpkru"
                 :
                 : "r"(ad_wd), "c"(0)
                 : "eax", "edx", "cc", "memory"
                 : not_closed);
    return true;
not_closed:
    return false;
}

static inline bool pkeyguard_pkru_open_to_read(uint32_t ad_wd, const uint32_t *wd)
{
    __asm__ goto("rdpkru\n\t"
                 "{xorl %0, %%eax|xor eax, %0}\n\t"
                 "{testl %0, %%eax|test eax, %0}\n\t"
                 "jne %l[not_closed]\n\t"
                 "{orl %1, %%eax|or eax, %1}\n\t"
                 "wrpkru"
                 :
                 : "r"(ad_wd), "m"(*wd), "c"(0)
                 : "eax", "edx", "cc", "memory"
                 : not_closed);
    return true;
not_closed:
    return false;
}

static inline void pkeyguard_count_up(uint32_t *count)
{
    __asm__ volatile("{incl %0|inc %0}" : "+m"(*count) : : "cc");
}

static inline void pkeyguard_count_down(uint32_t *count)
{
    __asm__ volatile("{decl %0|dec %0}" : "+m"(*count) : : "cc");
}

static inline uint64_t pkeyguard_lowest_bit(uint32_t bits)
{
    uint64_t number;

    __asm__("{bsfl %1, %k0|bsf %k0, %1}" : "=r"(number) : "r"(bits) : "cc");
    return number;
}
