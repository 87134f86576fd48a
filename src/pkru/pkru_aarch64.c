/* SPDX-License-Identifier: MIT */
/*
 * pkru_aarch64.c - finds out how an interrupted access was made; pkru_none.c has the other
 * functions
 */
#include "pkru/signal_frame.h"

#ifdef __aarch64__

#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

/*
 * Copies of definitions in the kernel's asm/sigcontext.h and asm/esr.h, which some C libraries
 * lack.
 */
struct frame_record {
    uint32_t magic; /* the type of the record */
    uint32_t size;  /* bytes, this head included */
};
enum {
    SYNDROME_RECORD = 0x45535201, /* a record with ESR_EL1, the exception syndrome register */
    CLASS_SHIFT = 26,             /* of the exception class, 6 bits */
    INSTRUCTION_ABORT = 0x20,
    DATA_ABORT = 0x24,
    CACHE_MAINTENANCE = 1 << 8, /* a cache instruction: it reads, but WRITE_FAULT is set too */
    WRITE_FAULT = 1 << 6
};

/* Finds ESR_EL1 among the frame's records. The last record is empty. */
static bool syndrome_in_frame(const void *ucontext, uint64_t *ret_syndrome)
{
    const ucontext_t *context = ucontext;
    const unsigned char *at = (const unsigned char *)context->uc_mcontext.__reserved;
    const unsigned char *end = at + sizeof(context->uc_mcontext.__reserved);
    struct frame_record record;

    for (; (size_t)(end - at) >= sizeof(record) + sizeof(*ret_syndrome); at += record.size) {
        memcpy(&record, at, sizeof(record));
        if (record.magic == SYNDROME_RECORD) {
            memcpy(ret_syndrome, at + sizeof(record), sizeof(*ret_syndrome));
            return true;
        }
        if (record.size < sizeof(record) || record.size > (size_t)(end - at))
            break;
    }
    return false;
}

void *code_in_frame(const void *ucontext)
{
    const ucontext_t *context = ucontext;

    return (void *)context->uc_mcontext.pc;
}

bool access_in_frame(const void *ucontext, int *ret_prot)
{
    uint64_t syndrome;

    if (!syndrome_in_frame(ucontext, &syndrome))
        return false;
    switch (syndrome >> CLASS_SHIFT & 0x3f) {
    case INSTRUCTION_ABORT:
        *ret_prot = PROT_EXEC;
        return true;
    case DATA_ABORT:
        *ret_prot =
            syndrome & WRITE_FAULT && !(syndrome & CACHE_MAINTENANCE) ? PROT_WRITE : PROT_READ;
        return true;
    default:
        return false;
    }
}

#endif
