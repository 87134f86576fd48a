/* SPDX-License-Identifier: MIT */
#include "sites.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <gelf.h>

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

/* True if these three bytes begin an instruction that can write PKRU (SDM vol. 2). */
static bool decode(const unsigned char code[3], enum instruction *ret_instruction)
{
    unsigned mod = code[2] >> 6, reg = code[2] >> 3 & 7;

    if (code[0] != 0x0f)
        return false;
    if (code[1] == 0x01 && code[2] == 0xef)
        *ret_instruction = WRPKRU;
    else if (code[1] == 0xae && reg == 5 && mod != 3)
        *ret_instruction = XRSTOR;
    else if (code[1] == 0xc7 && reg == 3 && mod != 3)
        *ret_instruction = XRSTORS;
    else
        return false;
    return true;
}

/* Bytes of an operand in memory: ModRM, SIB and displacement (SDM vol. 2, 2.1.3 and 2.1.5). */
static size_t memory_operand_length(const unsigned char *modrm)
{
    unsigned mod = modrm[0] >> 6, rm = modrm[0] & 7;
    bool sib = rm == 4;
    bool no_base = mod == 0 && (sib ? (modrm[1] & 7) == 5 : rm == 5);
    size_t displacement = no_base || mod == 2 ? 4 : mod == 1;

    return 1 + sib + displacement;
}

/*
 * Returns the length of the instruction at code, or 0 if it is none that a guard has between RDPKRU
 * and WRPKRU. A guard has
 *     and, or, xor, test    between %eax and a register
 *     lea                   (%rax,register,2) to %eax
 *     or                    of memory to %eax
 *     conditional jumps
 * limit is the address of the WRPKRU: three more bytes can be read there.
 */
static size_t guard_instruction_length(const unsigned char *code, const unsigned char *limit)
{
    static const unsigned char operations[] = {0x21, 0x09, 0x31, 0x85};
    size_t left = (size_t)(limit - code);
    size_t prefix = left > 0 && (code[0] & 0xf0) == 0x40; /* REX */

    if (left >= prefix + 2 && memchr(operations, code[prefix], sizeof(operations)) != NULL) {
        unsigned char registers = code[prefix + 1];

        return (registers & 0xf8) == 0xc0 || (registers & 0xc7) == 0xc0 ? prefix + 2 : 0;
    }
    if (left >= prefix + 3 && code[prefix] == 0x8d && code[prefix + 1] == 0x04 &&
        (code[prefix + 2] & 0xc7) == 0x40)
        return prefix + 3;
    if (left >= prefix + 2 && code[prefix] == 0x0b && (code[prefix + 1] & 0x38) == 0 &&
        code[prefix + 1] >> 6 != 3)
        return prefix + 1 + memory_operand_length(code + prefix + 1);
    if (left >= 2 && (code[0] & 0xf0) == 0x70)
        return 2;
    if (left >= 6 && code[0] == 0x0f && (code[1] & 0xf0) == 0x80)
        return 6;
    return 0;
}

/*
 * True if the WRPKRU ends one of the asm blocks of <pkeyguard/arch/x86_64.h>: RDPKRU, then only
 * instructions that guard_instruction_length() knows. The compiler can only choose their operands.
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

static enum owner find_owner(const struct program *program, const struct site *site, bool guard)
{
    if (site->instruction == WRPKRU && (guard || starts_with(site->symbol, "pkeyguard_") ||
                                        starts_with(program->soname, "libpkeyguard.so.")))
        return LIBPKEYGUARD;
    if (starts_with(program->soname, "libc.so.") || starts_with(program->soname, "ld-linux") ||
        (site->symbol != NULL && strcmp(site->symbol, "pkey_set") == 0) ||
        starts_with(site->symbol, "_dl_runtime_resolve_") ||
        starts_with(site->symbol, "_dl_tlsdesc_dynamic_"))
        return GLIBC;
    return UNKNOWN;
}

/* Returns NULL or an error message. */
static const char *find_sites_in_segment(const struct program *program, const GElf_Phdr *segment,
                                         struct sites *sites)
{
    uint64_t start = segment->p_offset - segment->p_offset % PAGE;
    uint64_t end = segment->p_offset + segment->p_filesz;
    const unsigned char *begin, *limit, *code;

    if (segment->p_offset > program->size || segment->p_filesz > program->size - segment->p_offset)
        return "a segment lies outside the file";
    end += (PAGE - end % PAGE) % PAGE;
    begin = program->image + start;
    limit = program->image + (end < program->size ? end : program->size);
    for (code = begin; limit - code >= 3; code++) {
        const struct function *function;
        enum instruction instruction;
        struct site *site;

        code = memchr(code, 0x0f, (size_t)(limit - code));
        if (code == NULL || limit - code < 3)
            break;
        if (!decode(code, &instruction))
            continue;
        site = append_element((void **)&sites->list, &sites->count, sizeof(*sites->list));
        if (site == NULL)
            return out_of_memory;
        *site = (struct site){.address = segment->p_vaddr - segment->p_offset +
                                         (uint64_t)(code - program->image),
                              .instruction = instruction};
        function = find_function(program, site->address);
        if (function != NULL) {
            site->symbol = function->name;
            site->offset = site->address - function->start;
        }
        site->owner = find_owner(program, site, ends_guard(begin, code));
    }
    return NULL;
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
    program.image = (const unsigned char *)elf_rawfile(elf, &program.size);
    if (program.image == NULL)
        return elf_errmsg(-1);
    error = read_names(&program);
    if (error == NULL)
        error = find_sites_in_program(&program, ret_sites);
    free(program.functions);
    return error;
}
