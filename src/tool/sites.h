/* SPDX-License-Identifier: MIT */
/*
 * sites.h - where a program could change its protection-key rights
 *
 * WRPKRU writes PKRU, and so does XRSTOR where its mask says so. What counts is the bytes, at any
 * offset: a jump into the middle of an instruction executes what stands there.
 */
#ifndef SITES_H
#define SITES_H

#include <stddef.h>
#include <stdint.h>

#include <libelf.h>

enum instruction { WRPKRU, XRSTOR, XRSTORS };

/*
 * libpkeyguard's are its guards, in any program, known by their bytes; WRPKRU in a function
 * pkeyguard_*; and WRPKRU in an object of soname libpkeyguard.so. glibc's are those in an object of
 * its sonames, or in a function of its names. Names are taken at their word.
 */
enum owner { LIBPKEYGUARD, GLIBC, UNKNOWN };

struct site {
    uint64_t address;
    enum instruction instruction;
    enum owner owner;
    const char *symbol; /* the function that it lies in, until elf_end(3); NULL: none is known */
    uint64_t offset;    /* from the function's start */
};

struct sites {
    struct site *list; /* to be freed, whatever sites_find() returned */
    size_t count;
};

/*
 * All sites in the pages that the program's executable segments map, in file order. Returns NULL,
 * or why they cannot be found, in words.
 */
const char *sites_find(Elf *elf, struct sites *ret_sites);

#endif
