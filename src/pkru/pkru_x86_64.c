/* SPDX-License-Identifier: MIT */
#include <pkeyguard/pkru.h>

#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "base/os.h"
#include "pkru/bits.h"
#include "pkru/signal_frame.h"

#ifdef __x86_64__

#include <cpuid.h>

enum { OSPKE = 1 << 4 }; /* in CPUID.(7,0):ECX */

/* Bits of a page fault's error code (SDM vol. 3, 4.7). */
enum { WRITE_FAULT = 1 << 1, FETCH_FAULT = 1 << 4 };

/*
 * A signal frame stores the registers in XSAVE's format (SDM vol. 1, ch. 13). Linux writes a struct
 * _fpx_sw_bytes into the bytes that XSAVE leaves to software (asm/sigcontext.h).
 */
enum {
    PKRU_COMPONENT = 9, /* CPUID.(0xD,9):EBX is the component's offset */
    SW_RESERVED = 464,  /* offset of struct _fpx_sw_bytes, which begins with the magic number */
    XSAVE_HEADER = 512, /* offset of the header; it begins with XSTATE_BV, the components stored */
    XSAVE_ALIGNMENT = 64,
    XSTATE_MAGIC = 0x46505853
};

bool pkeyguard_pkru_supported(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx & OSPKE);
}

bool pages_can_carry_pkeys(void)
{
    return pkeyguard_pkru_supported();
}

/* Returns the address of PKRU in the frame, or NULL if the frame has none. */
static char *pkru_slot(const void *ucontext)
{
    const ucontext_t *context = ucontext;
    char *frame = (char *)context->uc_mcontext.fpregs;
    unsigned eax, ebx, ecx, edx;
    uint32_t magic;
    uint64_t components;

    if (frame == NULL || !__get_cpuid_count(0xd, PKRU_COMPONENT, &eax, &ebx, &ecx, &edx))
        return NULL;
    memcpy(&magic, frame + SW_RESERVED, sizeof(magic));
    memcpy(&components, frame + XSAVE_HEADER, sizeof(components));
    return magic == XSTATE_MAGIC && components & 1u << PKRU_COMPONENT ? frame + ebx : NULL;
}

bool pkru_in_frame(const void *ucontext, uint32_t *ret_pkru)
{
    const char *stored = pkru_slot(ucontext);

    if (stored == NULL)
        return false;
    memcpy(ret_pkru, stored, sizeof(*ret_pkru));
    return true;
}

bool pkru_set_in_frame(void *ucontext, uint32_t pkru)
{
    char *stored = pkru_slot(ucontext);

    if (stored == NULL)
        return false;
    memcpy(stored, &pkru, sizeof(pkru));
    return true;
}

const void *stack_in_frame(const void *ucontext)
{
    const ucontext_t *context = ucontext;

    return (const void *)context->uc_mcontext.gregs[REG_RSP];
}

void *code_in_frame(const void *ucontext)
{
    const ucontext_t *context = ucontext;

    return (void *)context->uc_mcontext.gregs[REG_RIP];
}

/*
 * How many bytes to search before and after the interrupted instruction. tests/machine_code checks
 * that RDPKRU and WRPKRU are never farther apart in the library.
 */
enum { REACH = 64 };

/* RDPKRU is 0f 01 ee, WRPKRU is 0f 01 ef. */
static bool is_pkru_instruction(const unsigned char *code, unsigned char last_byte)
{
    return code[0] == 0x0f && code[1] == 0x01 && code[2] == last_byte;
}

bool pkru_write_pending(const void *ucontext)
{
    enum { RDPKRU = 0xee, WRPKRU = 0xef, LENGTH = 3 };
    const ucontext_t *context = ucontext;
    const char *next = (const char *)context->uc_mcontext.gregs[REG_RIP];
    unsigned char code[2 * REACH];
    int before = REACH - LENGTH, after = REACH;

    /* If the code cannot be read, assume that a write is pending. */
    if (!os_peek(next - REACH, code, sizeof(code)))
        return true;
    while (before >= 0 && !is_pkru_instruction(code + before, RDPKRU) &&
           !is_pkru_instruction(code + before, WRPKRU))
        before--;
    while (after <= 2 * REACH - LENGTH && !is_pkru_instruction(code + after, RDPKRU) &&
           !is_pkru_instruction(code + after, WRPKRU))
        after++;
    return before >= 0 && is_pkru_instruction(code + before, RDPKRU) &&
           after <= 2 * REACH - LENGTH && is_pkru_instruction(code + after, WRPKRU);
}

bool access_in_frame(const void *ucontext, int *ret_prot)
{
    const ucontext_t *context = ucontext;
    unsigned long long code = (unsigned long long)context->uc_mcontext.gregs[REG_ERR];

    if (code & WRITE_FAULT)
        *ret_prot = PROT_WRITE;
    else
        *ret_prot = code & FETCH_FAULT ? PROT_EXEC : PROT_READ;
    return true;
}

/* Offsets in struct _fpx_sw_bytes, from the multiple of 64 before it. XSAVE's area is aligned to
 * 64, so they are the same in every frame. */
enum { MAGIC_AT = SW_RESERVED % XSAVE_ALIGNMENT, COMPONENTS_AT = MAGIC_AT + 8 };

/*
 * True if these 64 bytes contain the struct _fpx_sw_bytes of a signal frame that has PKRU. Where
 * there is no PKU no frame has it, and each passes no test.
 */
static bool is_part_of_frame(const char *block)
{
    uint32_t magic;
    uint64_t components;

    memcpy(&magic, block + MAGIC_AT, sizeof(magic));
    memcpy(&components, block + COMPONENTS_AT, sizeof(components));
    return magic == XSTATE_MAGIC &&
           (components & 1u << PKRU_COMPONENT || !pkeyguard_pkru_supported());
}

/* Gets the PKRU that a return to this frame restores. @area: where the frame's registers begin. */
static bool pkru_of_area(const char *area, uint32_t *ret_pkru)
{
    unsigned eax, ebx, ecx, edx;
    uint64_t stored;

    if (!__get_cpuid_count(0xd, PKRU_COMPONENT, &eax, &ebx, &ecx, &edx) ||
        !os_peek(area + XSAVE_HEADER, &stored, sizeof(stored)))
        return false;
    if (stored & 1u << PKRU_COMPONENT)
        return os_peek(area + ebx, ret_pkru, sizeof(*ret_pkru));
    *ret_pkru = 0; /* the frame has PKRU's initial state */
    return true;
}

/*
 * Gets the stack pointer of the code that a frame's handler has interrupted. The ucontext is at a
 * fixed distance before the registers, because the kernel aligns both. False: there is none that
 * names these registers, so they are what is left of an old frame.
 */
static bool stack_of_area(const char *area, const char **ret_stack)
{
    enum { UCONTEXT_BEFORE_AREA = 448 };
    mcontext_t registers;

    if (!os_peek(area - UCONTEXT_BEFORE_AREA + offsetof(ucontext_t, uc_mcontext), &registers,
                 sizeof(registers)) ||
        (const char *)registers.fpregs != area)
        return false;
    *ret_stack = (const char *)registers.gregs[REG_RSP];
    return true;
}

struct frame_search {
    bool (*test)(uint32_t pkru, uint32_t argument);
    uint32_t argument;
    const char *end;    /* of the stack */
    const char *lowest; /* the lowest address that interrupted code had its stack pointer at */
};

/* False: the frame fails the test, or it interrupted code on another stack. */
static bool frame_passes(const char *area, struct frame_search *search)
{
    const char *stack;
    uint32_t pkru;

    if (!pkru_of_area(area, &pkru) || !search->test(pkru, search->argument))
        return false;
    if (!stack_of_area(area, &stack))
        return true;
    if (stack < search->lowest)
        search->lowest = stack;
    return stack < search->end;
}

static bool frames_pass(const char *low, const char *high, struct frame_search *search)
{
    enum { BLOCK_OF_STRUCT = SW_RESERVED - MAGIC_AT };
    char blocks[16 * XSAVE_ALIGNMENT];

    for (const char *at = low; at < high;) {
        size_t left = (size_t)(high - at), length = left < sizeof(blocks) ? left : sizeof(blocks);

        if (!os_peek(at, blocks, length))
            return false;
        for (size_t i = 0; i + XSAVE_ALIGNMENT <= length; i += XSAVE_ALIGNMENT) {
            if (is_part_of_frame(blocks + i) && !frame_passes(at + i - BLOCK_OF_STRUCT, search))
                return false;
        }
        at += length;
    }
    return true;
}

static const char *aligned_down(const char *address)
{
    return (const char *)((uintptr_t)address & -(uintptr_t)XSAVE_ALIGNMENT);
}

/*
 * An alternate signal stack may be part of the same stack, above the code that its handler has
 * interrupted. So the search goes down again to where that code was, and up from there.
 */
bool pkru_test_frames(const void *low, const void *high, bool (*test)(uint32_t pkru, uint32_t),
                      uint32_t argument)
{
    enum { STACK_MAX = 8 << 20 }; /* a longer range may be more than one stack */
    struct frame_search search = {test, argument, .end = high, .lowest = low};
    const char *searched = high;

    while (aligned_down(search.lowest) < searched) {
        const char *from = aligned_down(search.lowest);

        if (search.end - from > STACK_MAX || !frames_pass(from, searched, &search))
            return false;
        searched = from;
    }
    return true;
}

#endif
