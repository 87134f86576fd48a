/* SPDX-License-Identifier: MIT */
/*
 * x86.h - the lengths of x86 instructions (SDM vol. 2, chapter 2 and appendix A)
 */
#ifndef X86_H
#define X86_H

#include <stdbool.h>
#include <stddef.h>

struct x86_instruction {
    size_t length;   /* in bytes; 0: there is none, or it does not end before the limit */
    size_t prefixes; /* bytes before the opcode: legacy prefixes and REX */
};

/* The instruction at code. @long_mode: 64-bit code; else 32-bit code */
struct x86_instruction x86_decode(const unsigned char *code, const unsigned char *limit,
                                  bool long_mode);

/* Returns the bytes of an operand that ModRM describes, from ModRM on; 0 as above. */
size_t x86_operand_length(const unsigned char *modrm, const unsigned char *limit);

#endif
