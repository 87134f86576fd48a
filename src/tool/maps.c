/* SPDX-License-Identifier: MIT */
/* maps: lists a process's mappings by protection key */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "complain.h"
#include "output.h"
#include "tool.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

enum { NO_KEY = -1 }; /* smaps names no key: the kernel has no protection keys */

struct mapping {
    unsigned long start, end, resident_kib;
    char rights[5];
    int key;
    bool wrong;       /* found by --check */
    char *line;       /* the line of smaps that began it; the mapping owns it */
    const char *name; /* inside line; "" if it has none */
};

struct mappings {
    struct mapping *list;
    size_t count;
};

/*
 * True if this line of /proc/PID/smaps begins a mapping; the other lines describe the mapping
 * before them (proc(5)).
 */
static bool begins_mapping(char *line, struct mapping *ret_mapping)
{
    int name = 0;

    *ret_mapping = (struct mapping){.key = NO_KEY, .line = line};
    if (sscanf(line, "%lx-%lx %4s %*x %*s %*u %n", &ret_mapping->start, &ret_mapping->end,
               ret_mapping->rights, &name) != 3 ||
        name == 0)
        return false;
    ret_mapping->name = line + name;
    return true;
}

static int append_mapping(struct mappings *mappings, struct mapping mapping)
{
    /* The list is full when the count is 0 or a power of two. */
    if ((mappings->count & (mappings->count - 1)) == 0) {
        size_t room = mappings->count == 0 ? 1 : 2 * mappings->count;
        struct mapping *grown = reallocarray(mappings->list, room, sizeof(mapping));

        if (grown == NULL)
            return -ENOMEM;
        mappings->list = grown;
    }
    mappings->list[mappings->count++] = mapping;
    return 0;
}

static int read_mappings(FILE *smaps, struct mappings *mappings)
{
    struct mapping mapping;
    char *line = NULL;
    size_t size = 0;
    int error = 0;

    while (error == 0 && getline(&line, &size, smaps) > 0) {
        struct mapping *last = mappings->count > 0 ? &mappings->list[mappings->count - 1] : NULL;

        line[strcspn(line, "\n")] = '\0';
        if (begins_mapping(line, &mapping)) {
            error = append_mapping(mappings, mapping);
            if (error == 0)
                line = NULL; /* getline() allocates the next */
        } else if (last != NULL) {
            sscanf(line, "Rss: %lu", &last->resident_kib);
            sscanf(line, "ProtectionKey: %d", &last->key);
        }
    }
    if (error == 0 && ferror(smaps))
        error = -errno;
    free(line);
    return error;
}

static bool is_accessible(const struct mapping *mapping)
{
    return strncmp(mapping->rights, "---", 3) != 0;
}

/*
 * Marks what is wrong between this mapping and the last one that has its key, if neither a gap nor
 * an inaccessible page is between them: then they are parts of one region. Returns the position
 * after it.
 */
static size_t mark_wrong(struct mappings *mappings, size_t first)
{
    struct mapping *list = mappings->list;
    size_t end = first + 1;

    if (list[first].key <= 0)
        return end;
    for (size_t i = end; i < mappings->count && list[i].start == list[i - 1].end; i++) {
        if (!is_accessible(&list[i]))
            break;
        if (list[i].key == list[first].key)
            end = i + 1;
    }
    for (size_t i = first; i < end; i++)
        list[i].wrong =
            list[i].key != list[first].key || strcmp(list[i].rights, list[first].rights) != 0;
    return end;
}

/* Keeps the mappings inside regions that are not as the rest of the region. */
static void keep_wrong(struct mappings *mappings)
{
    size_t kept = 0;

    for (size_t first = 0; first < mappings->count;)
        first = mark_wrong(mappings, first);
    for (size_t i = 0; i < mappings->count; i++) {
        if (mappings->list[i].wrong)
            mappings->list[kept++] = mappings->list[i];
        else
            free(mappings->list[i].line);
    }
    mappings->count = kept;
}

/* Orders by key, then by address. */
static int compare_mappings(const void *a, const void *b)
{
    const struct mapping *left = a, *right = b;

    if (left->key != right->key)
        return left->key < right->key ? -1 : 1;
    return left->start < right->start ? -1 : left->start > right->start;
}

/* One of ten colours for each key; none for key 0, the key of ordinary memory. */
static void begin_colour(const struct mapping *mapping)
{
    static const int colours[] = {32, 33, 34, 35, 36, 92, 93, 94, 95, 96};

    if (mapping->key > 0)
        printf("\33[%dm",
               colours[(size_t)(mapping->key - 1) % (sizeof(colours) / sizeof(colours[0]))]);
}

/* True if the kernel keeps the names that regions give their memory: CONFIG_ANON_VMA_NAME. */
static bool kernel_keeps_names(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool kept =
        page != MAP_FAILED && prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, page, size, "pkeyguard") == 0;

    if (page != MAP_FAILED)
        munmap(page, size);
    return kept;
}

static void print_mappings(const struct mappings *mappings)
{
    bool in_colour = output_in_colour();

    printf("KEY %-16s %-16s RIGHTS %11s %11s NAME\n", "START", "END", "SIZE KiB", "RSS KiB");
    for (size_t i = 0; i < mappings->count; i++) {
        const struct mapping *mapping = &mappings->list[i];

        if (in_colour)
            begin_colour(mapping);
        if (mapping->key == NO_KEY)
            printf("%3s", "-");
        else
            printf("%3d", mapping->key);
        printf(" %016lx %016lx %-6s %11lu %11lu ", mapping->start, mapping->end, mapping->rights,
               (mapping->end - mapping->start) / 1024, mapping->resident_kib);
        print_name(mapping->name);
        printf(in_colour && mapping->key > 0 ? "\33[m\n" : "\n");
    }
    if (!kernel_keeps_names())
        printf(
            "\nRegions have no names here: the kernel was built without CONFIG_ANON_VMA_NAME.\n");
}

/* As a string: most JSON readers round numbers above 2^53. */
static void json_address(struct json *json, const char *name, unsigned long address)
{
    char text[2 + 2 * sizeof(address) + 1];

    snprintf(text, sizeof(text), "0x%lx", address);
    json_string(json, name, text);
}

static void print_mappings_json(const struct mappings *mappings)
{
    struct json json = {0};

    json_begin(&json, NULL, '[');
    for (size_t i = 0; i < mappings->count; i++) {
        const struct mapping *mapping = &mappings->list[i];

        json_begin(&json, NULL, '{');
        if (mapping->key == NO_KEY)
            json_string(&json, "key", NULL);
        else
            json_number(&json, "key", "%d", mapping->key);
        json_address(&json, "start", mapping->start);
        json_address(&json, "end", mapping->end);
        json_string(&json, "rights", mapping->rights);
        json_number(&json, "resident_kib", "%lu", mapping->resident_kib);
        json_string(&json, "name", mapping->name);
        json_end(&json, '}');
    }
    json_end(&json, ']');
    putchar('\n');
}

/* True if the kernel may have a directory of this name for a process in /proc. */
static bool is_process(const char *text)
{
    return strlen(text) <= 10 && text[0] != '\0' && text[0] != '0' &&
           strspn(text, "0123456789") == strlen(text);
}

static void free_mappings(struct mappings *mappings)
{
    for (size_t i = 0; i < mappings->count; i++)
        free(mappings->list[i].line);
    free(mappings->list);
    *mappings = (struct mappings){0};
}

/* Complains on failure. Free the mappings in any case. */
static bool read_process(const char *process, struct mappings *mappings)
{
    char path[32];
    FILE *smaps;
    int error;

    snprintf(path, sizeof(path), "/proc/%s/smaps", process);
    smaps = fopen(path, "re");
    if (smaps == NULL) {
        complain("%s: %s", path, strerror(errno));
        return false;
    }
    error = read_mappings(smaps, mappings);
    fclose(smaps);
    if (error != 0)
        complain("%s: %s", path, strerror(-error));
    return error == 0;
}

/* Looks twice: the process may have been in the middle of a change the first time. */
static bool read_wrong(const char *process, struct mappings *mappings)
{
    const struct timespec a_moment = {.tv_nsec = 100000000};

    if (!read_process(process, mappings))
        return false;
    keep_wrong(mappings);
    if (mappings->count == 0)
        return true;
    free_mappings(mappings);
    nanosleep(&a_moment, NULL);
    if (!read_process(process, mappings))
        return false;
    keep_wrong(mappings);
    return true;
}

int maps(char *const arguments[], const struct tool_options *options)
{
    const char *process = arguments[0] != NULL ? arguments[0] : "self";
    struct mappings mappings = {0};
    int status = TOOL_FAILED;

    if (arguments[0] != NULL && !is_process(process)) {
        complain("'%s' is not a process ID", process);
        return suggest_help();
    }
    if (options->check ? read_wrong(process, &mappings) : read_process(process, &mappings)) {
        if (mappings.count > 0)
            qsort(mappings.list, mappings.count, sizeof(mappings.list[0]), compare_mappings);
        if (options->json)
            print_mappings_json(&mappings);
        else
            print_mappings(&mappings);
        status = options->check && mappings.count > 0 ? TOOL_NEGATIVE : TOOL_OK;
    }
    free_mappings(&mappings);
    return status;
}
