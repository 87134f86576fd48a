/* SPDX-License-Identifier: MIT */
#include "patterns.h"

#include <stdbool.h>
#include <string.h>

#include "x86.h"

/*
 * The instructions that a guard has between RDPKRU and WRPKRU: those of the asm blocks of
 * <pkeyguard/arch/x86_64.h>. The compiler only chooses their operands.
 */
static const struct form {
    unsigned char length; /* of value and mask; bytes of an instruction without REX */
    unsigned char value[3], mask[3];
    unsigned char more; /* bytes that follow, of any value */
    bool rex;           /* it may have this prefix */
    bool memory;        /* the last byte is ModRM, of an operand in memory */
} forms[] = {
    /* and, or, xor, test, of %eax and a register: %eax is either operand */
    {2, {0x21, 0xc0}, {0xff, 0xf8}, 0, true, false},
    {2, {0x21, 0xc0}, {0xff, 0xc7}, 0, true, false},
    {2, {0x09, 0xc0}, {0xff, 0xf8}, 0, true, false},
    {2, {0x09, 0xc0}, {0xff, 0xc7}, 0, true, false},
    {2, {0x31, 0xc0}, {0xff, 0xf8}, 0, true, false},
    {2, {0x31, 0xc0}, {0xff, 0xc7}, 0, true, false},
    {2, {0x85, 0xc0}, {0xff, 0xf8}, 0, true, false},
    {2, {0x85, 0xc0}, {0xff, 0xc7}, 0, true, false},
    /* lea (%rax,register,2), %eax; in programs compiled with version 0.1 */
    {3, {0x8d, 0x04, 0x40}, {0xff, 0xff, 0xc7}, 0, true, false},
    /* or of memory to %eax, test of %eax and memory */
    {2, {0x0b, 0x00}, {0xff, 0x38}, 0, true, true},
    {2, {0x85, 0x00}, {0xff, 0x38}, 0, true, true},
    /* conditional jumps, short and near */
    {1, {0x70}, {0xf0}, 1, false, false},
    {2, {0x0f, 0x80}, {0xff, 0xf0}, 4, false, false},
};
enum { FORMS = sizeof(forms) / sizeof(*forms) };

/* Returns the length of the instruction at code if it has this form, else 0. */
static size_t length_if_form(const struct form *form, const unsigned char *code,
                             const unsigned char *limit)
{
    size_t left = (size_t)(limit - code), length = form->length, operand;
    size_t prefix = form->rex && left > 0 && (code[0] & 0xf0) == 0x40;

    if (left < prefix + length)
        return 0;
    for (size_t i = 0; i < length; i++) {
        if ((code[prefix + i] & form->mask[i]) != form->value[i])
            return 0;
    }
    length += prefix;
    if (form->memory) {
        if (code[length - 1] >> 6 == 3)
            return 0;
        operand = x86_operand_length(code + length - 1, limit);
        return operand == 0 ? 0 : length - 1 + operand;
    }
    return left < length + form->more ? 0 : length + form->more;
}

static size_t guard_instruction_length(const unsigned char *code, const unsigned char *limit)
{
    for (int i = 0; i < FORMS; i++) {
        size_t length = length_if_form(&forms[i], code, limit);

        if (length != 0)
            return length;
    }
    return 0;
}

/* True if the WRPKRU ends an asm block of a guard: RDPKRU, then only instructions of these forms.
 */
static bool ends_guard(const unsigned char *begin, const unsigned char *wrpkru)
{
    enum { LONGEST_BLOCK = 32 };
    size_t before = (size_t)(wrpkru - begin);

    for (size_t length = 3; length <= before && length <= LONGEST_BLOCK; length++) {
        const unsigned char *code = wrpkru - length;
        size_t step = 3; /* over the RDPKRU */

        if (memcmp(code, "\x0f\x01\xee", 3) != 0)
            continue;
        while (code < wrpkru && step != 0) {
            code += step;
            step = code < wrpkru ? guard_instruction_length(code, wrpkru) : 0;
        }
        if (code == wrpkru)
            return true;
    }
    return false;
}

/* True if the mark of pkeyguard_pkru_write() follows. */
static bool has_mark(const unsigned char *wrpkru, const unsigned char *limit)
{
    static const unsigned char mark[] = {0x0f, 0x1f, 0x80, 'p', 'k', 'r', 'u'};

    return (size_t)(limit - wrpkru) >= 3 + sizeof(mark) &&
           memcmp(wrpkru + 3, mark, sizeof(mark)) == 0;
}

/*
 * True if the instructions before the XRSTOR are `mov $mask, %eax` and `xor %edx, %edx`, and the
 * mask does not name PKRU. So does glibc's loader, which restores registers of arguments. Its code
 * is also in statically linked programs.
 */
static bool leaves_pkru_out(const unsigned char *begin, const unsigned char *xrstor)
{
    enum { LENGTH = 7, PKRU_IN_SECOND_BYTE = 1 << (9 - 8) };
    const unsigned char *code = xrstor - LENGTH;

    return xrstor - begin >= LENGTH && code[0] == 0xb8 && code[5] == 0x31 && code[6] == 0xd2 &&
           !(code[2] & PKRU_IN_SECOND_BYTE);
}

enum owner patterns_find_owner(enum instruction instruction, const unsigned char *begin,
                               const unsigned char *site, const unsigned char *limit)
{
    if (instruction == XRSTOR)
        return leaves_pkru_out(begin, site) ? GLIBC : UNKNOWN;
    return ends_guard(begin, site) || has_mark(site, limit) ? LIBPKEYGUARD : UNKNOWN;
}
