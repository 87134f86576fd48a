/* SPDX-License-Identifier: MIT */
#include "x86.h"

#include <stdint.h>

/*
 * What follows each opcode, a letter each:
 *
 *   .  nothing              M  ModRM               R  ModRM that always names registers
 *   b  8 bits               B  ModRM, then 8 bits
 *   z  16 or 32 bits        Z  ModRM, then 16 or 32 bits
 *   w  16 bits              e  24 bits             j  32 bits, a distance
 *   v  16, 32 or 64 bits    a  an address          f  16 or 32 bits, then a segment
 *   G  ModRM, then 8 bits if its register field is 0 or 1; H: then 16 or 32 bits
 *   p  a prefix: another opcode follows            ?  no such instruction
 */
static const char one_byte[] = "MMMMbz..MMMMbz.?"
                               "MMMMbz..MMMMbz.."
                               "MMMMbzp.MMMMbzp."
                               "MMMMbzp.MMMMbzp."
                               "................"
                               "................"
                               "..MMppppzZbB...."
                               "bbbbbbbbbbbbbbbb"
                               "BZBBMMMMMMMMMMMM"
                               "..........f....."
                               "aaaa....bz......"
                               "bbbbbbbbvvvvvvvv"
                               "BBw.MMBZe.w..b.."
                               "MMMMbb..MMMMMMMM"
                               "bbbbbbbbjjfb...."
                               "p.pp..GH......MM";

/* After 0f. */
static const char two_bytes[] = "MMMM?.....?.?M.B"
                                "MMMMMMMMMMMMMMMM"
                                "RRRR????MMMMMMMM"
                                "........????????"
                                "MMMMMMMMMMMMMMMM"
                                "MMMMMMMMMMMMMMMM"
                                "MMMMMMMMMMMMMMMM"
                                "BBBBMMM.MMMMMMMM"
                                "jjjjjjjjjjjjjjjj"
                                "MMMMMMMMMMMMMMMM"
                                "...MBMMM...MBMMM"
                                "MMMMMMMMMMBMMMMM"
                                "MMBMBBBM........"
                                "MMMMMMMMMMMMMMMM"
                                "MMMMMMMMMMMMMMMM"
                                "MMMMMMMMMMMMMMMM";

/* The instruction as far as it was read. */
struct reader {
    const unsigned char *at, *limit;
    bool long_mode;
    bool small_operand; /* 16 bits instead of 32 */
    bool small_address; /* 32 bits instead of 64, or 16 instead of 32 */
    bool wide_operand;  /* 64 bits */
};

static size_t left(const struct reader *reader)
{
    return (size_t)(reader->limit - reader->at);
}

size_t x86_operand_length(const unsigned char *modrm, const unsigned char *limit)
{
    unsigned mod, rm;
    bool sib, no_base;
    size_t length;

    if (limit - modrm < 1)
        return 0;
    mod = modrm[0] >> 6;
    rm = modrm[0] & 7;
    if (mod == 3)
        return 1;
    sib = rm == 4;
    if (sib && limit - modrm < 2)
        return 0;
    no_base = mod == 0 && (sib ? (modrm[1] & 7) == 5 : rm == 5);
    length = 1u + sib + (no_base || mod == 2 ? 4 : mod == 1);
    return (size_t)(limit - modrm) < length ? 0 : length;
}

/* The same with 16-bit addresses, in which there is no SIB. */
static size_t small_operand_length(const unsigned char *modrm, const unsigned char *limit)
{
    unsigned mod, rm;
    size_t length;

    if (limit - modrm < 1)
        return 0;
    mod = modrm[0] >> 6;
    rm = modrm[0] & 7;
    length = 1 + (mod == 2 || (mod == 0 && rm == 6) ? 2 : mod == 1);
    return (size_t)(limit - modrm) < length ? 0 : length;
}

/* Skips these bytes. False: they are not there. */
static bool skip(struct reader *reader, size_t bytes)
{
    if (left(reader) < bytes)
        return false;
    reader->at += bytes;
    return true;
}

static bool skip_operand(struct reader *reader)
{
    bool small = !reader->long_mode && reader->small_address;
    size_t length = small ? small_operand_length(reader->at, reader->limit)
                          : x86_operand_length(reader->at, reader->limit);

    return length != 0 && skip(reader, length);
}

/* Skips what the letter says. */
static bool skip_rest(struct reader *reader, char letter)
{
    size_t half = reader->small_operand && !reader->wide_operand ? 2 : 4;
    size_t address = reader->long_mode ? 8 : 4;
    unsigned field = left(reader) > 0 ? *reader->at >> 3 & 7 : 0;

    switch (letter) {
    case '.':
        return true;
    case 'M':
        return skip_operand(reader);
    case 'R':
    case 'b':
        return skip(reader, 1);
    case 'B':
        return skip_operand(reader) && skip(reader, 1);
    case 'z':
        return skip(reader, half);
    case 'Z':
        return skip_operand(reader) && skip(reader, half);
    case 'w':
        return skip(reader, 2);
    case 'e':
        return skip(reader, 3);
    case 'j':
        return skip(reader, reader->long_mode ? 4 : half);
    case 'v':
        return skip(reader, reader->wide_operand ? 8 : half);
    case 'a':
        return skip(reader, reader->small_address ? address / 2 : address);
    case 'f':
        return !reader->long_mode && skip(reader, half + 2);
    case 'G':
        return skip_operand(reader) && skip(reader, field < 2 ? 1 : 0);
    case 'H':
        return skip_operand(reader) && skip(reader, field < 2 ? half : 0);
    default:
        return false;
    }
}

/* Reads the prefixes before the opcode. In 64-bit code the last may be REX. */
static void read_prefixes(struct reader *reader)
{
    for (; left(reader) > 0 && one_byte[*reader->at] == 'p'; reader->at++) {
        reader->small_operand |= *reader->at == 0x66;
        reader->small_address |= *reader->at == 0x67;
    }
    if (reader->long_mode && left(reader) > 0 && (*reader->at & 0xf0) == 0x40)
        reader->wide_operand = *reader->at++ & 8;
}

/* An opcode of the maps that VEX, EVEX and XOP number. */
static bool skip_opcode_of_map(struct reader *reader, unsigned map)
{
    unsigned char opcode = left(reader) > 0 ? *reader->at : 0;

    if (!skip(reader, 1))
        return false;
    switch (map) {
    case 1:
        return skip_rest(reader, two_bytes[opcode]);
    case 2:
    case 5:
    case 6:
    case 9:
        return skip_rest(reader, 'M');
    case 3:
    case 8:
        return skip_rest(reader, 'B');
    case 10:
        return skip_rest(reader, 'Z');
    default:
        return false;
    }
}

/*
 * VEX (c4, c5), EVEX (62) and XOP (8f), which take the place of prefixes and name the map. Outside
 * 64-bit code they begin as instructions do that cannot have a register there. False: none of them.
 */
static bool read_vector_prefix(struct reader *reader, unsigned *ret_map)
{
    unsigned char first, second;

    if (left(reader) < 2)
        return false;
    first = reader->at[0];
    second = reader->at[1];
    if (first == 0x8f ? (second & 0x1f) < 8 : !reader->long_mode && second < 0xc0)
        return false;
    if (first == 0xc5) {
        *ret_map = 1;
        return skip(reader, 2);
    }
    *ret_map = second & (first == 0x62 ? 7 : 0x1f);
    return (first == 0xc4 || first == 0x8f || first == 0x62) && skip(reader, first == 0x62 ? 4 : 3);
}

/* Skips what comes after legacy prefixes and REX. */
static bool skip_after_prefixes(struct reader *reader)
{
    unsigned char opcode;
    unsigned map;

    if (read_vector_prefix(reader, &map))
        return skip_opcode_of_map(reader, map);
    if (left(reader) == 0)
        return false;
    opcode = *reader->at++;
    if (opcode != 0x0f)
        return skip_rest(reader, one_byte[opcode]);
    if (left(reader) == 0)
        return false;
    opcode = *reader->at++;
    if (opcode == 0x38 || opcode == 0x3a)
        return skip_opcode_of_map(reader, opcode == 0x38 ? 2 : 3);
    return skip_rest(reader, two_bytes[opcode]);
}

struct x86_instruction x86_decode(const unsigned char *code, const unsigned char *limit,
                                  bool long_mode)
{
    enum { LONGEST = 15 };
    struct reader reader = {.at = code,
                            .limit = limit - code > LONGEST ? code + LONGEST : limit,
                            .long_mode = long_mode};
    struct x86_instruction found = {0};

    read_prefixes(&reader);
    found.prefixes = (size_t)(reader.at - code);
    if (skip_after_prefixes(&reader))
        found.length = (size_t)(reader.at - code);
    return found;
}
