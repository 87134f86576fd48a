/* SPDX-License-Identifier: MIT */
#include "guest_files.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <link.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "complain.h"
#include "find.h"
#include "loader.h"

static bool add_copy(struct archive *archive, const char *path)
{
    int error = archive_add_copy(archive, path, path);

    if (error != 0)
        complain("%s: cannot be copied into the guest: %s", path, strerror(-error));
    return error == 0;
}

/* The loader of this command. It lists the libraries of a library, which asks for no loader. */
static const char *own_loader(void)
{
    const struct link_map *map = dlopen(NULL, RTLD_LAZY);

    while (map != NULL && strstr(map->l_name, "/ld-") == NULL)
        map = map->l_next;
    return map == NULL ? NULL : map->l_name;
}

/* Finds the loader that a program asks for. Returns false if the file asks for none. */
static bool loader_of(const char *path, char ret_loader[PATH_MAX])
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    bool named = file >= 0 && find_loader(file, ret_loader) == LOADER_NAMED;

    if (file >= 0)
        close(file);
    return named;
}

/* Starts "LOADER --list FILE". Returns its stdout, or NULL, with errno, on failure. */
static FILE *start_listing(const char *loader, const char *file, pid_t *ret_child)
{
    const char *const arguments[] = {loader, "--list", file, NULL};
    posix_spawn_file_actions_t actions;
    int ends[2], error;

    if (pipe2(ends, O_CLOEXEC) != 0)
        return NULL;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    error = posix_spawn(ret_child, loader, &actions, NULL, (char *const *)arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (error != 0) {
        close(ends[0]);
        errno = error;
        return NULL;
    }
    return fdopen(ends[0], "re");
}

/*
 * Finds the path in a line of the loader: "\tNAME => PATH (0xADDRESS)", or without "NAME => ".
 * Returns NULL if the line names no file, as for the vDSO.
 */
static char *path_in_line(char *line)
{
    char *arrow = strstr(line, " => "), *path = arrow != NULL ? arrow + 4 : line;
    char *end = strstr(path, " (0x");

    path += strspn(path, " \t");
    if (*path != '/' || end == NULL)
        return NULL;
    *end = '\0';
    return path;
}

static bool add_listed(struct archive *archive, const char *file, char *line)
{
    char *path = path_in_line(line), *missing = strstr(line, " => not found");

    if (missing != NULL) {
        *missing = '\0';
        complain("%s: its library %s is not on this machine", file, line + strspn(line, " \t"));
        return false;
    }
    return path == NULL || add_copy(archive, path);
}

/* A file that is not linked dynamically has no list. */
static bool add_libraries(struct archive *archive, const char *file)
{
    char asked[PATH_MAX];
    const char *loader = loader_of(file, asked) ? asked : own_loader();
    char *line = NULL;
    size_t size = 0;
    bool added = true;
    pid_t child;
    FILE *list;

    if (loader == NULL || (list = start_listing(loader, file, &child)) == NULL) {
        complain("%s: cannot list its libraries: %s", file,
                 loader == NULL ? "there is no loader" : strerror(errno));
        return false;
    }
    while (added && getline(&line, &size, list) > 0)
        added = add_listed(archive, file, line);
    free(line);
    fclose(list);
    waitpid(child, NULL, 0);
    return added;
}

/* Reads up to size - 1 bytes from the start of the file, and ends them with a zero byte. */
static bool read_start(const char *path, char *bytes, size_t size)
{
    FILE *file = fopen(path, "re");
    size_t length;

    if (file == NULL) {
        complain("%s: %s", path, strerror(errno));
        return false;
    }
    length = fread(bytes, 1, size - 1, file);
    fclose(file);
    bytes[length] = '\0';
    return true;
}

/* Adds a file that is no script. */
static bool add_binary(struct archive *archive, const char *path)
{
    char start[SELFMAG + 1];

    if (archive_has(archive, path))
        return true;
    return add_copy(archive, path) && read_start(path, start, sizeof(start)) &&
           (strncmp(start, ELFMAG, SELFMAG) != 0 || add_libraries(archive, path));
}

/* @line: a script's first line. It names a program, or env(1) and a program in PATH. */
static bool add_interpreters(struct archive *archive, const char *script, char *line)
{
    char *rest = line + strlen("#!"), *word = strtok_r(rest, " \t\n", &rest);
    bool is_env = word != NULL && strcmp(word, "/usr/bin/env") == 0;
    char path[PATH_MAX];

    if (word == NULL || !add_binary(archive, word))
        return false;
    if (!is_env)
        return true;
    word = strtok_r(rest, " \t\n", &rest);
    if (word == NULL || !find_program(word, path)) {
        complain("%s: its interpreter is not in PATH", script);
        return false;
    }
    return add_binary(archive, path);
}

static bool add_file(struct archive *archive, const char *path)
{
    char line[PATH_MAX];

    if (archive_has(archive, path))
        return true;
    if (!add_binary(archive, path) || !read_start(path, line, sizeof(line)))
        return false;
    if (strncmp(line, "#!", 2) != 0 || access(path, X_OK) != 0)
        return true;
    line[strcspn(line, "\n")] = '\0';
    return add_interpreters(archive, path, line);
}

/* nftw(3) has no argument for this. */
static struct archive *walked_archive;

static int add_visited(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)status, (void)place;
    if (type == FTW_D)
        return archive_has(walked_archive, path) || archive_add_folder(walked_archive, path) == 0
                   ? 0
                   : 1;
    if (type != FTW_F)
        return 0; /* a link to nothing, or what cannot be read */
    return add_file(walked_archive, path) ? 0 : 1;
}

bool guest_files_add(struct archive *archive, const char *path)
{
    struct stat status;

    if (stat(path, &status) != 0) {
        complain("%s: %s", path, strerror(errno));
        return false;
    }
    if (!S_ISDIR(status.st_mode))
        return add_file(archive, path);
    walked_archive = archive;
    return nftw(path, add_visited, 64, 0) == 0;
}

bool guest_files_add_common(struct archive *archive)
{
    static const char cache[] = "/etc/ld.so.cache";
    char reporter[PATH_MAX];
    struct link_map *map;
    void *unwinder = dlopen("libgcc_s.so.1", RTLD_LAZY);

    if (access(cache, R_OK) == 0 && !add_copy(archive, cache))
        return false;
    if (find_companion(PKEYGUARD_REPORTER, reporter) && !guest_files_add(archive, reporter))
        return false;
    return unwinder == NULL || dlinfo(unwinder, RTLD_DI_LINKMAP, &map) != 0 ||
           add_copy(archive, map->l_name);
}
