/* SPDX-License-Identifier: MIT */
/*
 * arch/calls.h - how the inline guards call the library on x86-64; private to guard.h, which
 * describes it
 *
 * The called code keeps nearly all registers, so that a function with a scope saves none
 * of them and needs no stack: its fast path would pay for that. Vector registers are not kept, as
 * in any call. The call does not move the caller's stack pointer, on which the unwind information
 * relies. So it overwrites the first word of the caller's red zone, and puts it back. The called
 * code leaves the rest of the red zone alone.
 */
#if defined(__AVX512F__)
#define PKEYGUARD_VECTORS_512_                                                                    \
    , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25",   \
        "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", \
        "k7"
#else
#define PKEYGUARD_VECTORS_512_
#endif
#if defined(__SSE__)
#define PKEYGUARD_VECTORS_                                                                     \
    , "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
        "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "st", "st(1)", "st(2)", "st(3)", "st(4)", \
        "st(5)", "st(6)", "st(7)" PKEYGUARD_VECTORS_512_
#else
#define PKEYGUARD_VECTORS_
#endif

#define PKEYGUARD_CALL_(function)                       \
    "{movq -8(%%rsp), %%r11|mov r11, [rsp-8]}\n\t"      \
    "{call *" function "@GOTPCREL(%%rip)|"              \
    "call QWORD PTR [rip + " function "@GOTPCREL]}\n\t" \
    "{movq %%r11, -8(%%rsp)|mov [rsp-8], r11}"

static inline void *pkeyguard_call_open(void *target, size_t size, size_t offset, const char *where,
                                        unsigned flags, uint64_t *ret_undo)
{
    union {
        uint64_t flags;
        void *address;
    } rax = {flags};
    uint64_t rdx = offset;

    __asm__ volatile(PKEYGUARD_CALL_("pkeyguard_kept_open")
                     : "+a"(rax), "+d"(rdx)
                     : "D"(target), "S"(size), "c"(where)
                     : "r11", "cc", "memory" PKEYGUARD_VECTORS_);
    *ret_undo = rdx;
    return rax.address;
}

static inline void pkeyguard_call_close(uint64_t undo)
{
    __asm__ volatile(PKEYGUARD_CALL_("pkeyguard_kept_close")
                     : "+d"(undo)
                     :
                     : "rax", "rcx", "rsi", "r8", "r11", "cc", "memory" PKEYGUARD_VECTORS_);
}

/* The two differ in what they open only, and a name in assembly is a constant. */
#define PKEYGUARD_OPEN_QUICKLY_(function, target, key, undo) \
    __asm__ volatile(PKEYGUARD_CALL_(function)               \
                     : "=d"(undo)                            \
                     : "D"(target), "S"(key)                 \
                     : "rax", "rcx", "r8", "r11", "cc", "memory" PKEYGUARD_VECTORS_)

static inline uint64_t pkeyguard_call_open_quickly(void *target, struct pkeyguard_key *key,
                                                   enum pkeyguard_rights rights)
{
    uint64_t undo;

    if (rights == PKEYGUARD_READ_WRITE)
        PKEYGUARD_OPEN_QUICKLY_("pkeyguard_kept_open_to_write", target, key, undo);
    else
        PKEYGUARD_OPEN_QUICKLY_("pkeyguard_kept_open_to_read", target, key, undo);
    return undo;
}
