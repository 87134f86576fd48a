/* SPDX-License-Identifier: MIT */
/* scan: lists the instructions in ELF files that can write PKRU */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"
#include "output.h"
#include "sites.h"
#include "tool.h"

static const char *const instructions[] = {[WRPKRU] = "WRPKRU", [XRSTOR] = "XRSTOR"};
static const char *const owners[] = {
    [LIBPKEYGUARD] = "libpkeyguard", [GLIBC] = "glibc", [UNKNOWN] = "unknown"};

static size_t count_unknown(const struct sites *sites)
{
    size_t unknown = 0;

    for (size_t i = 0; i < sites->count; i++)
        unknown += sites->list[i].owner == UNKNOWN;
    return unknown;
}

static size_t count_unknown_inside(const struct sites *sites)
{
    size_t inside = 0;

    for (size_t i = 0; i < sites->count; i++)
        inside += sites->list[i].owner == UNKNOWN && sites->list[i].inside;
    return inside;
}

static void print_counts(const struct sites *sites)
{
    size_t inside = count_unknown_inside(sites);

    printf("%zu found, %zu unknown", sites->count, count_unknown(sites));
    if (inside > 0)
        printf(", %zu of them inside an instruction", inside);
    printf("\n");
}

static void print_sites(const char *path, const struct sites *sites)
{
    bool in_colour = output_in_colour();

    print_name(path);
    printf(": ");
    print_counts(sites);
    for (size_t i = 0; i < sites->count; i++) {
        const struct site *site = &sites->list[i];
        bool marked = in_colour && site->owner == UNKNOWN;

        printf("  %s%016" PRIx64 " %-6s %s", marked ? "\33[31m" : "", site->address,
               instructions[site->instruction], owners[site->owner]);
        if (site->symbol != NULL) {
            printf("%*s", 13 - (int)strlen(owners[site->owner]), "");
            print_name(site->symbol);
            printf("+0x%" PRIx64, site->offset);
        }
        if (site->inside)
            printf(" (inside an instruction)");
        printf(marked ? "\33[m\n" : "\n");
    }
}

static void print_sites_json(struct json *json, const char *path, const struct sites *sites)
{
    char address[sizeof("0x0123456789abcdef")];

    json_begin(json, NULL, '{');
    json_string(json, "file", path);
    json_begin(json, "sites", '[');
    for (size_t i = 0; i < sites->count; i++) {
        const struct site *site = &sites->list[i];

        json_begin(json, NULL, '{');
        snprintf(address, sizeof(address), "0x%" PRIx64, site->address);
        json_string(json, "address", address);
        json_string(json, "instruction", instructions[site->instruction]);
        json_string(json, "owner", owners[site->owner]);
        json_string(json, "symbol", site->symbol);
        json_number(json, "offset", "%" PRIu64, site->offset);
        json_bool(json, "inside", site->inside);
        json_end(json, '}');
    }
    json_end(json, ']');
    json_end(json, '}');
}

/* Returns a file descriptor, or -1 after an error message. */
static int open_regular(const char *path)
{
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;

    if (file < 0) {
        complain("%s: %s", path, strerror(errno));
        return -1;
    }
    if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) {
        complain("%s: not a regular file", path);
        close(file);
        return -1;
    }
    return file;
}

/* Returns an exit status. */
static int scan_elf(const char *path, Elf *elf, struct json *json)
{
    struct sites sites;
    const char *error = sites_find(elf, &sites);
    int status = TOOL_FAILED;

    if (error != NULL) {
        complain("%s: %s", path, error);
    } else {
        if (json != NULL)
            print_sites_json(json, path, &sites);
        else
            print_sites(path, &sites);
        status = count_unknown(&sites) == 0 ? TOOL_OK : TOOL_NEGATIVE;
    }
    free(sites.list);
    return status;
}

/* Prints the sites of one file. Returns the exit status for this file. */
static int scan_file(const char *path, struct json *json)
{
    int file = open_regular(path);
    int status = TOOL_FAILED;
    Elf *elf;

    if (file < 0)
        return TOOL_FAILED;
    /* Not ELF_C_READ_MMAP: reading a mapped file that somebody shortens raises SIGBUS. */
    elf = elf_begin(file, ELF_C_READ, NULL);
    if (elf == NULL)
        complain("%s: %s", path, elf_errmsg(-1));
    else
        status = scan_elf(path, elf, json);
    elf_end(elf);
    close(file);
    return status;
}

int scan(char *const arguments[], const struct tool_options *options)
{
    struct json document = {0};
    int worst = TOOL_OK;

    elf_version(EV_CURRENT);
    if (options->json)
        json_begin(&document, NULL, '[');
    for (int i = 0; arguments[i] != NULL; i++) {
        int status = scan_file(arguments[i], options->json ? &document : NULL);

        if (status > worst)
            worst = status;
    }
    if (options->json) {
        json_end(&document, ']');
        putchar('\n');
    }
    return worst;
}
