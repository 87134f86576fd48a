/* SPDX-License-Identifier: MIT */
/* pkru_aarch64.c - how an interrupted access was made; all else of aarch64 is in pkru_none.c */
#include "pkru/signal_frame.h"

#ifdef __aarch64__

#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

/* As in the kernel's asm/sigcontext.h and asm/esr.h, which not every libc comes with. */
struct frame_record {
    uint32_t magic; /* says what follows */
    uint32_t size;  /* bytes, this head included */
};
enum {
    SYNDROME_RECORD = 0x45535201, /* holds ESR_EL1, the exception syndrome register */
    CLASS_SHIFT = 26,             /* of the exception class, 6 bits */
    INSTRUCTION_ABORT = 0x20,
    DATA_ABORT = 0x24,
    CACHE_MAINTENANCE = 1 << 8, /* reads memory, but sets WRITE_FAULT as well */
    WRITE_FAULT = 1 << 6
};

/* Finds ESR_EL1 among the frame's records, of which the last is empty. */
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
