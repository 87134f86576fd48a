/* SPDX-License-Identifier: MIT */
#include <pkeyguard/pkru.h>

#include <string.h>
#include <ucontext.h>

#include "base/os.h"
#include "pkru/signal_frame.h"

#ifdef __x86_64__

#include <cpuid.h>

enum { OSPKE = 1 << 4 };     /* CPUID.(7,0):ECX */
enum { PKRU_COMPONENT = 9 }; /* of XSAVE; CPUID.(0xD,9):EBX is its offset (SDM vol. 1, ch. 13) */
enum { SW_RESERVED = 464 };  /* struct _fpx_sw_bytes in the legacy area (asm/sigcontext.h) */
enum { XSAVE_HEADER = 512 }; /* XSTATE_BV stands first in it */
enum { XSTATE_MAGIC = 0x46505853 };
enum { WRITES = 1 << 1, FETCHES = 1 << 4 }; /* of a page fault's error code (SDM vol. 3, 4.7) */

bool pkeyguard_pkru_supported(void)
{
    unsigned eax, ebx, ecx, edx;

    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ecx & OSPKE);
}

/* Where PKRU stands in the frame, or NULL where it does not. */
static char *find_pkru(const void *ucontext)
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
    const char *stored = find_pkru(ucontext);

    if (stored == NULL)
        return false;
    memcpy(ret_pkru, stored, sizeof(*ret_pkru));
    return true;
}

bool pkru_set_in_frame(void *ucontext, uint32_t pkru)
{
    char *stored = find_pkru(ucontext);

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

/* Longer than what lies between the two instructions, which tests/machine_code checks. */
enum { REACH = 64 };

static bool is_instruction(const unsigned char *code, unsigned char last_byte)
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

    /* Code that cannot be read may be anything. */
    if (!os_peek(next - REACH, code, sizeof(code)))
        return true;
    while (before >= 0 && !is_instruction(code + before, RDPKRU) &&
           !is_instruction(code + before, WRPKRU))
        before--;
    while (after <= 2 * REACH - LENGTH && !is_instruction(code + after, RDPKRU) &&
           !is_instruction(code + after, WRPKRU))
        after++;
    return before >= 0 && is_instruction(code + before, RDPKRU) && after <= 2 * REACH - LENGTH &&
           is_instruction(code + after, WRPKRU);
}

bool access_in_frame(const void *ucontext, enum pkeyguard_access *ret_access)
{
    const ucontext_t *context = ucontext;
    unsigned long long code = (unsigned long long)context->uc_mcontext.gregs[REG_ERR];

    if (code & WRITES)
        *ret_access = PKEYGUARD_WRITE_ACCESS;
    else
        *ret_access = code & FETCHES ? PKEYGUARD_EXECUTE_ACCESS : PKEYGUARD_READ_ACCESS;
    return true;
}

/*
 * A frame's XSAVE area is aligned to 64 bytes, so its magic number stands at the same place of some
 * block of 64, and after it (struct _fpx_sw_bytes) the set of components.
 */
enum {
    XSAVE_ALIGNMENT = 64,
    MAGIC_AT = SW_RESERVED % XSAVE_ALIGNMENT,
    COMPONENTS_AT = MAGIC_AT + 8
};

static bool block_of_frame(const char *block)
{
    uint32_t magic;
    uint64_t components;

    memcpy(&magic, block + MAGIC_AT, sizeof(magic));
    memcpy(&components, block + COMPONENTS_AT, sizeof(components));
    return magic == XSTATE_MAGIC && (components & 1u << PKRU_COMPONENT);
}

bool pkru_no_frame_between(const void *low, const void *high)
{
    const char *end = high;
    char blocks[16 * XSAVE_ALIGNMENT];

    for (const char *at = (const char *)((uintptr_t)low & -(uintptr_t)XSAVE_ALIGNMENT); at < end;) {
        size_t left = (size_t)(end - at), length = left < sizeof(blocks) ? left : sizeof(blocks);

        if (!os_peek(at, blocks, length))
            return false;
        for (size_t i = 0; i + XSAVE_ALIGNMENT <= length; i += XSAVE_ALIGNMENT) {
            if (block_of_frame(blocks + i))
                return false;
        }
        at += length;
    }
    return true;
}

#endif
