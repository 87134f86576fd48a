/* SPDX-License-Identifier: MIT */
#include "pkru/signal_frame.h"

#ifdef __aarch64__

#include <string.h>
#include <ucontext.h>

/* From the kernel's own headers (asm/sigcontext.h, asm/esr.h), which not every libc comes with. */
struct record {
    uint32_t magic, size;
};
enum {
    SYNDROME_RECORD = 0x45535201,
    CLASS_SHIFT = 26,
    INSTRUCTION_ABORT = 0x20,
    DATA_ABORT = 0x24,
    /* Cache maintenance only reads, but counts as writing. */
    CACHE_MAINTENANCE = 1 << 8,
    WRITES = 1 << 6
};

/* The exception syndrome register, in one of the records that end with an empty one. */
static bool syndrome_in_frame(const void *ucontext, uint64_t *ret_syndrome)
{
    const ucontext_t *context = ucontext;
    const unsigned char *at = (const unsigned char *)context->uc_mcontext.__reserved;
    const unsigned char *end = at + sizeof(context->uc_mcontext.__reserved);
    struct record record;

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

bool access_in_frame(const void *ucontext, enum pkeyguard_access *ret_access)
{
    uint64_t syndrome;

    if (!syndrome_in_frame(ucontext, &syndrome))
        return false;
    switch (syndrome >> CLASS_SHIFT & 0x3f) {
    case INSTRUCTION_ABORT:
        *ret_access = PKEYGUARD_EXECUTE_ACCESS;
        return true;
    case DATA_ABORT:
        *ret_access = syndrome & WRITES && !(syndrome & CACHE_MAINTENANCE) ? PKEYGUARD_WRITE_ACCESS
                                                                           : PKEYGUARD_READ_ACCESS;
        return true;
    default:
        return false;
    }
}

#endif
