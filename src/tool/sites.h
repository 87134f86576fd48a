/* SPDX-License-Identifier: MIT */
/*
 * sites.h - finds the instructions of a program that can write PKRU
 *
 * WRPKRU writes PKRU; XRSTOR writes it if bit 9 of its mask is set. So does XRSTORS, which only the
 * kernel can execute. The search looks at every byte offset, because a jump into the middle of an
 * instruction executes the bytes there.
 */
#ifndef SITES_H
#define SITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libelf.h>

enum instruction { WRPKRU, XRSTOR };

/*
 * Where an instruction comes from. Names are believed, not verified.
 * LIBPKEYGUARD: a WRPKRU that ends the code of a guard or has the mark of pkeyguard_pkru_write(),
 * in any program; that is in a function pkeyguard_*; or that is in an object whose soname begins
 *     with libpkeyguard.so.
 * GLIBC: any instruction in an object whose soname begins with libc.so. or ld-linux, or in a
 *     function pkey_set, _dl_runtime_resolve_* or _dl_tlsdesc_dynamic_*; an XRSTOR after
 *     instructions, as in the loader, that make a mask without PKRU.
 */
enum owner { LIBPKEYGUARD, GLIBC, UNKNOWN };

struct site {
    uint64_t address;
    enum instruction instruction;
    enum owner owner;
    bool inside;        /* the bytes are inside a longer instruction, or inside data */
    const char *symbol; /* the function it is in, or NULL if unknown; valid until elf_end(3) */
    uint64_t offset;    /* from the start of that function */
};

struct sites {
    struct site *list; /* the caller frees it, also after an error */
    size_t count;
};

/*
 * Finds every site in the pages that executable segments map: segments in the order of the program
 * headers, sites in the order of their addresses. Returns NULL, or an error message.
 */
const char *sites_find(Elf *elf, struct sites *ret_sites);

#endif
