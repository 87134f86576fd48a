/* SPDX-License-Identifier: MIT */
#include "sites.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <gelf.h>

#include "patterns.h"
#include "x86.h"

/* The kernel maps whole pages, and refuses a program with more bytes of program headers. */
enum { PAGE = 4096, MOST_HEADER_BYTES = 65536 };

struct function {
    uint64_t start, size; /* size 0: the symbol does not tell */
    const char *name;
};

struct program {
    Elf *elf;
    const unsigned char *image; /* the bytes of the file */
    size_t size;
    struct function *functions; /* sorted by address, then by size */
    size_t function_count;
    const char *soname; /* or NULL */
    bool long_mode;     /* 64-bit code */
};

static const char out_of_memory[] = "out of memory";

/* Adds an element to the list and returns it; NULL if out of memory. */
static void *append_element(void **list, size_t *count, size_t size)
{
    /* The list is full when the count is 0 or a power of two. */
    if ((*count & (*count - 1)) == 0) {
        void *grown = reallocarray(*list, *count == 0 ? 1 : 2 * *count, size);

        if (grown == NULL)
            return NULL;
        *list = grown;
    }
    return (char *)*list + size * (*count)++;
}

static bool starts_with(const char *string, const char *prefix)
{
    return string != NULL && strncmp(string, prefix, strlen(prefix)) == 0;
}

/* Of several functions at one address the longest is last, so find_function() returns it. */
static int compare_functions(const void *a, const void *b)
{
    const struct function *left = a, *right = b;

    if (left->start != right->start)
        return left->start < right->start ? -1 : 1;
    return left->size < right->size ? -1 : left->size > right->size;
}

/* Returns the function that holds the address, or NULL. One without a size ends at the next. */
static const struct function *find_function(const struct program *program, uint64_t address)
{
    const struct function *found;
    size_t low = 0, high = program->function_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (program->functions[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;
    found = &program->functions[low - 1];
    return found->size == 0 || address - found->start < found->size ? found : NULL;
}

/*
 * Adds the defined functions of a symbol table. Returns NULL or an error message. gelf_getsym()
 * returns NULL past the end of the table, and if the table is not inside the file.
 */
static const char *read_symbols(struct program *program, Elf_Scn *section, size_t strings)
{
    Elf_Data *data = elf_getdata(section, NULL);
    GElf_Sym symbol;

    for (int i = 0; gelf_getsym(data, i, &symbol) != NULL; i++) {
        const char *name = elf_strptr(program->elf, strings, symbol.st_name);
        struct function *function;

        if (GELF_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF ||
            name == NULL || *name == '\0')
            continue;
        function = append_element((void **)&program->functions, &program->function_count,
                                  sizeof(*program->functions));
        if (function == NULL)
            return out_of_memory;
        *function = (struct function){symbol.st_value, symbol.st_size, name};
    }
    return NULL;
}

static void read_soname(struct program *program, Elf_Scn *section, size_t strings)
{
    Elf_Data *data = elf_getdata(section, NULL);
    GElf_Dyn entry;

    for (int i = 0; gelf_getdyn(data, i, &entry) != NULL && entry.d_tag != DT_NULL; i++) {
        if (entry.d_tag == DT_SONAME)
            program->soname = elf_strptr(program->elf, strings, entry.d_un.d_val);
    }
}

/*
 * Reads the functions and the soname. They are only names: a program runs without sections, so
 * missing and broken ones are no error. Returns NULL or an error message.
 */
static const char *read_names(struct program *program)
{
    const char *error = NULL;
    Elf_Scn *section = NULL;
    GElf_Shdr header;

    while (error == NULL && (section = elf_nextscn(program->elf, section)) != NULL) {
        if (gelf_getshdr(section, &header) == NULL)
            continue;
        if (header.sh_type == SHT_SYMTAB || header.sh_type == SHT_DYNSYM)
            error = read_symbols(program, section, header.sh_link);
        else if (header.sh_type == SHT_DYNAMIC)
            read_soname(program, section, header.sh_link);
    }
    if (program->function_count > 0)
        qsort(program->functions, program->function_count, sizeof(*program->functions),
              compare_functions);
    return error;
}

/*
 * True if these three bytes begin an instruction that can write PKRU (SDM vol. 2). XRSTORS is not
 * one of them: it is for the kernel alone.
 */
static bool decode(const unsigned char code[3], enum instruction *ret_instruction)
{
    unsigned mod = code[2] >> 6, reg = code[2] >> 3 & 7;

    if (code[0] != 0x0f)
        return false;
    if (code[1] == 0x01 && code[2] == 0xef)
        *ret_instruction = WRPKRU;
    else if (code[1] == 0xae && reg == 5 && mod != 3)
        *ret_instruction = XRSTOR;
    else
        return false;
    return true;
}

/* `by_code` is what patterns.h finds. */
static enum owner find_owner(const struct program *program, const struct site *site,
                             enum owner by_code)
{
    if (by_code != UNKNOWN)
        return by_code;
    if (site->instruction == WRPKRU && (starts_with(site->symbol, "pkeyguard_") ||
                                        starts_with(program->soname, "libpkeyguard.so.")))
        return LIBPKEYGUARD;
    if (starts_with(program->soname, "libc.so.") || starts_with(program->soname, "ld-linux") ||
        (site->symbol != NULL && strcmp(site->symbol, "pkey_set") == 0) ||
        starts_with(site->symbol, "_dl_runtime_resolve_") ||
        starts_with(site->symbol, "_dl_tlsdesc_dynamic_"))
        return GLIBC;
    return UNKNOWN;
}

/* The pages of a segment in the file. */
struct code {
    const unsigned char *begin, *limit;
    const unsigned char *first; /* the segment's own: the page may begin before it */
    const unsigned char *swept; /* an instruction begins here: a sweep has come so far */
    uint64_t shift;             /* from offsets in the file to addresses */
};

/*
 * True if an instruction's opcode begins at this byte. The sweep goes from instruction to
 * instruction; it starts again at `start`, where code is known to begin, or NULL. Calls come in the
 * order of bytes.
 */
static bool begins_opcode(const struct program *program, struct code *pages,
                          const unsigned char *start, const unsigned char *byte)
{
    if (start != NULL && start > pages->swept)
        pages->swept = start;
    while (pages->swept < byte) {
        struct x86_instruction found = x86_decode(pages->swept, pages->limit, program->long_mode);

        if (pages->swept + found.prefixes == byte)
            return true;
        pages->swept += found.length == 0 ? 1 : found.length;
    }
    return pages->swept == byte;
}

/* Adds the instruction at this byte. Returns NULL or an error message. */
static const char *add_site(const struct program *program, struct code *pages,
                            const unsigned char *byte, enum instruction instruction,
                            struct sites *sites)
{
    struct site *site = append_element((void **)&sites->list, &sites->count, sizeof(*sites->list));
    const unsigned char *start = byte < pages->first ? NULL : pages->first;
    const struct function *function;

    if (site == NULL)
        return out_of_memory;
    *site = (struct site){.address = pages->shift + (uint64_t)(byte - program->image),
                          .instruction = instruction};
    function = find_function(program, site->address);
    if (function != NULL) {
        site->symbol = function->name;
        site->offset = site->address - function->start;
        if (site->offset <= (uint64_t)(byte - pages->begin))
            start = byte - site->offset;
    }
    site->inside = !begins_opcode(program, pages, start, byte);
    site->owner = find_owner(program, site,
                             patterns_find_owner(instruction, pages->begin, byte, pages->limit));
    return NULL;
}

/* Returns NULL or an error message. */
static const char *find_sites_in_segment(const struct program *program, const GElf_Phdr *segment,
                                         struct sites *sites)
{
    uint64_t start = segment->p_offset - segment->p_offset % PAGE;
    uint64_t end = segment->p_offset + segment->p_filesz;
    struct code pages = {.shift = segment->p_vaddr - segment->p_offset};
    const char *error = NULL;

    if (segment->p_offset > program->size || segment->p_filesz > program->size - segment->p_offset)
        return "a segment lies outside the file";
    end += (PAGE - end % PAGE) % PAGE;
    pages.begin = program->image + start;
    pages.limit = program->image + (end < program->size ? end : program->size);
    pages.first = program->image + segment->p_offset;
    pages.swept = pages.begin;
    for (const unsigned char *code = pages.begin; error == NULL && pages.limit - code >= 3;
         code++) {
        enum instruction instruction;

        code = memchr(code, 0x0f, (size_t)(pages.limit - code));
        if (code == NULL || pages.limit - code < 3)
            break;
        if (decode(code, &instruction))
            error = add_site(program, &pages, code, instruction, sites);
    }
    return error;
}

/* Returns NULL or an error message. */
static const char *find_sites_in_program(const struct program *program, struct sites *sites)
{
    const char *error = NULL;
    GElf_Phdr segment;
    size_t count;

    if (elf_getphdrnum(program->elf, &count) != 0)
        return elf_errmsg(-1);
    if (count == 0)
        return "no segments: not a linked program";
    if (count > MOST_HEADER_BYTES / gelf_fsize(program->elf, ELF_T_PHDR, 1, EV_CURRENT))
        return "more program headers than the kernel accepts";
    for (size_t i = 0; error == NULL && i < count; i++) {
        if (gelf_getphdr(program->elf, (int)i, &segment) == NULL)
            return elf_errmsg(-1);
        if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X))
            error = find_sites_in_segment(program, &segment, sites);
    }
    return error;
}

const char *sites_find(Elf *elf, struct sites *ret_sites)
{
    struct program program = {.elf = elf};
    GElf_Ehdr header;
    const char *error;

    *ret_sites = (struct sites){0};
    if (elf_kind(elf) == ELF_K_AR)
        return "an archive: scan the program that is linked from it";
    if (elf_kind(elf) != ELF_K_ELF)
        return "not an ELF file";
    if (gelf_getehdr(elf, &header) == NULL)
        return elf_errmsg(-1);
    if (header.e_machine != EM_X86_64 && header.e_machine != EM_386)
        return "not an x86 program";
    program.long_mode = header.e_machine == EM_X86_64;
    program.image = (const unsigned char *)elf_rawfile(elf, &program.size);
    if (program.image == NULL)
        return elf_errmsg(-1);
    error = read_names(&program);
    if (error == NULL)
        error = find_sites_in_program(&program, ret_sites);
    free(program.functions);
    return error;
}
